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

/// The run that took an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) struct TakingRun {
    /// The run.
    pub(in crate::commands) run: RunId,
    /// The number of the entry that took the input, if it joined the run after that had begun.
    pub(in crate::commands) joined_at: Option<u64>,
}

impl TakingRun {
    /// A run that began with the input.
    pub(in crate::commands) fn began_with_input(run: RunId) -> Self {
        Self { run, joined_at: None }
    }

    /// Returns the number of the entry behind which the run answers the input.
    pub(in crate::commands) fn follow_after(&self) -> u64 {
        self.joined_at.unwrap_or(0)
    }
}

/// The inputs that an entry says its run took.
#[derive(Deserialize)]
struct TakenInputs {
    #[serde(default)]
    items: Vec<ItemId>,
}

/// How many entries of the running turn are looked at with one request.
const ENTRIES_LOOKED_AT: usize = 100;

/// Finds the run that took an item which had to wait, and prints once what the item waits for. An agent that has ended
/// answers nothing any more.
pub(in crate::commands) async fn find_taking_run(
    cli: &Cli<'_>,
    session: SessionId,
    item: ItemId,
    output: &mut CommandOutput<'_>,
) -> Outcome<TakingRun> {
    // Which entries of the running turn were read: an input may join it.
    let mut turn: Option<(RunId, u64)> = None;
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
            if parse_answer::<TakenInputs>(first.fields.get().as_bytes())?.items.contains(&item) {
                return Ok(TakingRun::began_with_input(run));
            }
            others.push(run);
        }
        let waiting: SessionResource =
            cli.client.poll_json(&format!("/v1/sessions/{session}"), output).await?;
        if let Some(run) = waiting.active.or(turn.map(|(run, _)| run)) {
            let after = turn.filter(|(known, _)| *known == run).map_or(0, |(_, after)| after);
            let (joined_at, read) = find_joining_entry(cli, run, after, item, output).await?;
            if joined_at.is_some() {
                return Ok(TakingRun { run, joined_at });
            }
            turn = Some((run, read));
        }
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
                    output.print_notice(&format!("the input waits: {run} of its session is under way"))?;
                    output.print_notice(&format!("hint: run `dromia run why {run}`"))?;
                }
            }
        }
        sleep(rest).await;
        rest = (rest * 2).min(LOOK_LAST);
    }
}

/// Looks behind an entry of a run for the one that took an item. Returns its number, and up to which one it looked.
async fn find_joining_entry(
    cli: &Cli<'_>,
    run: RunId,
    mut after: u64,
    item: ItemId,
    output: &mut CommandOutput<'_>,
) -> Outcome<(Option<u64>, u64)> {
    loop {
        let path = format!("/v1/runs/{run}/journal?after={after}&limit={ENTRIES_LOOKED_AT}");
        let page: JournalPage = cli.client.poll_json(&path, output).await?;
        for entry in page.entries.iter().filter(|entry| entry.kind == "inputs_taken") {
            if parse_answer::<TakenInputs>(entry.fields.get().as_bytes())?.items.contains(&item) {
                return Ok((Some(entry.seq), entry.seq));
            }
        }
        match page.entries.last() {
            Some(last) if page.entries.len() == ENTRIES_LOOKED_AT => after = last.seq,
            Some(last) => return Ok((None, last.seq)),
            None => return Ok((None, after)),
        }
    }
}
