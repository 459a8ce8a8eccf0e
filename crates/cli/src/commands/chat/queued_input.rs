//! Which run takes an input that had to wait: behind another run of its session, or until its agent goes on.
//!
//! It polls with growing pauses and changes nothing; the caller decides how long it may take.

use std::time::Duration;

use dromia_api::agent::AgentResource;
use dromia_api::run::{JournalPage, RunResource};
use dromia_api::session::SessionResource;
use dromia_api::{AgentState, ErrorCode, ItemId, ListPage, RunId, SessionId};
use serde::Deserialize;
use tokio::time::sleep;

use crate::client::parse_answer;
use crate::commands::Cli;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

/// How long to rest before the second look for the run that takes a waiting input; each further rest is twice as long, up
/// to the last.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_LAST: Duration = Duration::from_secs(2);

/// Among how many of the session's newest runs to look for it.
const RUNS_LOOKED_AT: u32 = 8;

/// Finds the run that took an item which had to wait, and prints once what the item waits for. An agent that has ended
/// answers nothing any more.
pub(in crate::commands) async fn find_taking_run(
    cli: &Cli<'_>,
    session: SessionId,
    item: ItemId,
    output: &mut CommandOutput<'_>,
) -> Outcome<RunId> {
    #[derive(Deserialize)]
    struct RunStartedFields {
        #[serde(default)]
        items: Vec<ItemId>,
    }
    let path = format!("/v1/runs?session={session}&limit={RUNS_LOOKED_AT}");
    let mut others: Vec<RunId> = Vec::new();
    let (mut told, mut rest) = (false, LOOK_FIRST);
    loop {
        let runs: ListPage<RunResource> = cli.client.poll_json(&path, output).await?;
        // How a run began never changes.
        others.retain(|other| runs.items.iter().any(|run| run.id == *other));
        for run in runs.items.iter().map(|run| run.id) {
            if others.contains(&run) {
                continue;
            }
            let page: JournalPage =
                cli.client.poll_json(&format!("/v1/runs/{run}/journal?limit=1"), output).await?;
            let Some(first) = page.entries.first() else { continue };
            if parse_answer::<RunStartedFields>(first.fields.get().as_bytes())?.items.contains(&item) {
                return Ok(run);
            }
            others.push(run);
        }
        let waiting: SessionResource =
            cli.client.poll_json(&format!("/v1/sessions/{session}"), output).await?;
        let agent: AgentResource =
            cli.client.poll_json(&format!("/v1/agents/{}", waiting.agent), output).await?;
        match agent.state {
            AgentState::Terminated | AgentState::Deleting => {
                let message = format!("{} has ended, so it will not answer the input", agent.handle);
                return Err(Error::Local { exit: CommandExit::from(ErrorCode::AgentTerminated), message });
            }
            AgentState::Running | AgentState::Paused if told => {}
            AgentState::Paused => {
                told = true;
                let handle = agent.handle;
                output.print_notice(&format!("the input waits: its agent {handle} is paused"))?;
                output.print_notice(&format!("hint: run `dromia agent resume {handle}`"))?;
            }
            AgentState::Running => {
                // What is soon over is nothing to wait for.
                let before = waiting.active.filter(|run| rest == LOOK_LAST && others.contains(run));
                if let Some(run) = before {
                    told = true;
                    output.print_notice(&format!("the input waits: {run} of its session comes before it"))?;
                    output.print_notice(&format!("hint: run `dromia run why {run}`"))?;
                }
            }
        }
        sleep(rest).await;
        rest = (rest * 2).min(LOOK_LAST);
    }
}
