//! `run tree`: the tasks that a run spawned, each below the run that spawned it.

use dromia_api::run::{RunResource, RunTree, RunTreeNode};
use dromia_api::{ListPage, RunId};

use super::super::Cli;
use super::super::agent_names::AgentHandles;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{CommandOutput, RowStyle, format_known_cost};

const HEADS: [&str; 8] = ["run", "kind", "status", "agent", "cost", "total", "in", "out"];

/// How many of the newest runs are looked through for one with tasks.
const RUNS_LOOKED_AT: u32 = 16;

/// Prints the tree of a run; without one, of the newest run that spawned a task or is one.
pub(super) async fn print_tree(
    cli: &Cli<'_>,
    named: Option<RunId>,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let tree = match named {
        Some(run) => fetch_tree(cli, run).await?,
        None => find_newest_tree(cli, output).await?,
    };
    if output.is_json() {
        output.print_document(&tree)?;
        return Ok(CommandExit::Done);
    }
    let handles = AgentHandles::fetch_page(cli, output).await;
    let style = output.row_style();
    let rows = tree.nodes.iter().map(|node| tree_row(node, handles.display_name(node.agent), &style));
    output.print_table(&HEADS, rows.collect())?;
    if tree.found > tree.nodes.len() as u64 {
        output.print_notice(&format!("showing {} of {}", tree.nodes.len(), tree.found))?;
    }
    if !tree.complete {
        output.print_notice("the tree has more tasks than were read; the totals do not contain them")?;
    }
    Ok(CommandExit::Done)
}

async fn fetch_tree(cli: &Cli<'_>, run: RunId) -> Outcome<RunTree> {
    cli.client.get(&format!("/v1/runs/{run}/tree")).await
}

/// The newest run may be the turn that hears of a task's end, which has no tasks itself. Where no run has any, the newest is meant.
async fn find_newest_tree(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome<RunTree> {
    let newest: RunId = cli.resolve_or_newest(None, output).await?;
    let runs: ListPage<RunResource> = cli.client.get(&format!("/v1/runs?limit={RUNS_LOOKED_AT}")).await?;
    for run in runs.items {
        let tree = fetch_tree(cli, run.id).await?;
        if tree.nodes.len() > 1 {
            return Ok(tree);
        }
    }
    fetch_tree(cli, newest).await
}

/// The cells of a node. A task that waits for a run is shown by its session.
fn tree_row(node: &RunTreeNode, agent: String, style: &RowStyle) -> Vec<String> {
    let indent = "  ".repeat(node.depth as usize);
    let id = node.run.map_or_else(|| style.format_id(node.session), |run| style.format_id(run));
    vec![
        format!("{indent}{id}"),
        node.kind.as_str().to_owned(),
        node.status.map_or("pending", |status| status.as_str()).to_owned(),
        agent,
        format_known_cost(node.own.cost_micros, node.own.unpriced_calls.into()),
        format_known_cost(node.total.cost_micros, node.total.unpriced_calls.into()),
        node.total.input_tokens.to_string(),
        node.total.output_tokens.to_string(),
    ]
}
