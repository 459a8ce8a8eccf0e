//! `run tree`: the tasks that a run spawned, each below the run that spawned it.

use dromia_api::RunId;
use dromia_api::run::{RunTree, RunTreeNode};

use super::super::Cli;
use super::super::agent_names::AgentHandles;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{CommandOutput, RowStyle, format_known_cost};

const HEADS: [&str; 7] = ["run", "status", "agent", "cost", "total", "in", "out"];

pub(super) async fn print_tree(
    cli: &Cli<'_>,
    run: RunId,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let tree: RunTree = cli.client.get(&format!("/v1/runs/{run}/tree")).await?;
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

/// The cells of a node. A task that waits for a run is shown by its session.
fn tree_row(node: &RunTreeNode, agent: String, style: &RowStyle) -> Vec<String> {
    let indent = "  ".repeat(node.depth as usize);
    let id = node.run.map_or_else(|| style.format_id(node.session), |run| style.format_id(run));
    vec![
        format!("{indent}{id}"),
        node.status.map_or("pending", |status| status.as_str()).to_owned(),
        agent,
        format_known_cost(node.own.cost_micros, node.own.unpriced_calls.into()),
        format_known_cost(node.total.cost_micros, node.total.unpriced_calls.into()),
        node.total.input_tokens.to_string(),
        node.total.output_tokens.to_string(),
    ]
}
