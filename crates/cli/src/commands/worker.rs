//! `worker`: list the branches and workers of a session, show one, say more to one, end what one does.

use std::time::Duration;

use dromia_api::child::ChildResource;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::run::RunResource;
use dromia_api::{BusyPolicy, ListPage, RunKind, SessionId};

use super::agent_names::AgentHandles;
use super::event::{MARGIN, accepted_text};
use super::submit::EventSubmission;
use super::{Cli, listing_path, print_narrow, read_text_argument};
use crate::args;
use crate::client::parse_answer;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, RowStyle, draw_pairs, draw_table, format_known_cost};

const HEADS: [&str; 6] = ["id", "kind", "state", "agent", "cost", "task"];
const WAYS: [ColumnShrink; 3] =
    [ColumnShrink::Cut("task", 24), ColumnShrink::Without("cost"), ColumnShrink::Without("agent")];

/// How many of the newest runs are looked through for a session with branches or workers.
const RUNS_LOOKED_AT: u32 = 32;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::WorkerCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::WorkerCommand::List(wanted) => {
            let session = match cli.resolve_option(wanted.session, output).await? {
                Some(session) => session,
                None => find_parent(cli, output).await?,
            };
            let filters = [("open", wanted.open.then(|| "true".to_owned()))];
            let path = listing_path(&format!("/v1/sessions/{session}/children"), &wanted.page, &filters);
            let list: ListPage<ChildResource> = cli.client.get(&path).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            let style = output.row_style();
            print_narrow(output, &list, &HEADS, &WAYS, |child| child_row(child, &handles, &style))
        }
        args::WorkerCommand::Show(name) => {
            let child = find_child(cli, name, output).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            output.print_result(&child, |child| child_text(child, &handles))?;
            let next = format!("`dromia session show {}` prints what was said", child.id);
            output.print_notice(&next)?;
            Ok(CommandExit::Done)
        }
        args::WorkerCommand::Send(send) => send_to_worker(cli, send, output).await,
        args::WorkerCommand::Cancel(name) => {
            let session = cli.resolve_id(name.id, output).await?;
            let told: ChildResource = cli.client.post(&format!("/v1/children/{session}/cancel")).await?;
            output.print_result(&told, |told| {
                let kind = told.kind.as_str();
                match told.status {
                    Some(status) if !status.is_terminal() => {
                        format!("the {kind} ends after its current tool call")
                    }
                    _ => format!("the {kind} is {}", told.state.as_str()),
                }
            })?;
            Ok(CommandExit::Done)
        }
    }
}

/// Shows the branches and workers of a session, with a word where it has none.
pub(super) async fn show_children(
    cli: &Cli<'_>,
    session: SessionId,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let list: ListPage<ChildResource> =
        cli.client.get(&format!("/v1/sessions/{session}/children?limit=256")).await?;
    if list.items.is_empty() {
        return output.print_notice("the session has no branches and no workers");
    }
    let handles = AgentHandles::fetch_page(cli, output).await;
    let style = output.row_style();
    let rows = list.items.iter().map(|child| child_row(child, &handles, &style)).collect();
    let columns = output.context_mut().columns;
    output.print_line(&draw_table(columns, &HEADS, rows))
}

async fn find_child(
    cli: &Cli<'_>,
    name: args::WorkerName,
    output: &mut CommandOutput<'_>,
) -> Outcome<ChildResource> {
    let session = cli.resolve_id(name.id, output).await?;
    cli.client.get(&format!("/v1/children/{session}")).await
}

/// Finds the newest session that has branches or workers: the newest run of either kind concludes in it.
async fn find_parent(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome<SessionId> {
    let runs: ListPage<RunResource> = cli.client.get(&format!("/v1/runs?limit={RUNS_LOOKED_AT}")).await?;
    let is_child = |run: &&RunResource| matches!(run.kind, RunKind::Branch | RunKind::Worker);
    if let Some(run) = runs.items.iter().find(is_child) {
        let child: ChildResource = cli.client.get(&format!("/v1/children/{}", run.session)).await?;
        return Ok(child.parent_session);
    }
    // None began lately; a session that was named last has what it has.
    cli.resolve_or_newest(None, output).await
}

async fn send_to_worker(
    cli: &Cli<'_>,
    send: args::SendToWorker,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let name = args::WorkerName { id: send.id };
    let child = find_child(cli, name, output).await?;
    if child.kind != RunKind::Worker {
        let text = format!("{} is a {}, and takes no messages", child.id, child.kind.as_str());
        return Err(Error::Usage(text));
    }
    let text = read_text_argument(send.text, output).await?;
    let event = SendEvent {
        text,
        session: Some(child.id),
        when_busy: Some(BusyPolicy::Steer),
        ..SendEvent::default()
    };
    let sending = EventSubmission::of_command(send.idempotency_key, output);
    let patience = cli.answer_timeout(MARGIN);
    let (_, bytes) = sending.post_with_retries(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse_answer(&bytes)?;
    output.print_result(&accepted, accepted_text)?;
    Ok(CommandExit::Done)
}

fn child_row(child: &ChildResource, handles: &AgentHandles, style: &RowStyle) -> Vec<String> {
    vec![
        style.format_id(child.id),
        child.kind.as_str().to_owned(),
        child.state.as_str().to_owned(),
        handles.display_name(child.agent),
        format_known_cost(child.cost_micros, child.unpriced_calls.into()),
        child.task.clone().unwrap_or_default(),
    ]
}

fn child_text(child: &ChildResource, handles: &AgentHandles) -> String {
    draw_pairs(&[
        (child.kind.as_str(), child.id.to_string()),
        ("state", child.state.as_str().to_owned()),
        ("agent", handles.display_name(child.agent)),
        ("task", child.task.clone().unwrap_or_default()),
        ("topic", child.topic.clone().unwrap_or_default()),
        ("role", child.role.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("for", child.parent_session.to_string()),
        ("begun by", format!("{} in {}", child.call, child.parent)),
        ("run", child.run.map(|run| run.to_string()).unwrap_or_default()),
        ("cost", format_known_cost(child.cost_micros, child.unpriced_calls.into())),
    ])
}
