//! Which run takes an input that had to wait: behind another run of its session, or until its agent goes on.
//!
//! It polls with growing pauses and changes nothing; the caller decides how long it may take.

use std::collections::BTreeMap;
use std::time::Duration;

use dromia_api::agent::AgentResource;
use dromia_api::run::{JournalEntryResource, JournalPage, RunResource};
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

/// How many of them that have ended are looked at the first time; the others ended before the input was sent.
const RUNS_READ_AT_FIRST: usize = 2;

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

/// How many entries of a run are looked at with one request.
const ENTRIES_LOOKED_AT: usize = 100;

/// How far a run was looked through.
#[derive(Debug, Clone, Copy, Default)]
struct LookedRun {
    /// The number of the last entry that was read.
    after: u64,
    /// Whether it takes no more.
    is_read: bool,
}

/// Finds the run that took an item which had to wait, and prints once what the item waits for. An agent that has ended
/// answers nothing any more.
pub(in crate::commands) async fn find_taking_run(
    cli: &Cli<'_>,
    session: SessionId,
    item: ItemId,
    output: &mut CommandOutput<'_>,
) -> Outcome<TakingRun> {
    let path = format!("/v1/runs?session={session}&limit={RUNS_LOOKED_AT}");
    let mut looked: BTreeMap<RunId, LookedRun> = BTreeMap::new();
    let (mut told, mut rest) = (false, LOOK_FIRST);
    loop {
        let runs: ListPage<RunResource> = cli.client.poll_json(&path, output).await?;
        let is_first_look = looked.is_empty();
        for (age, run) in runs.items.iter().enumerate() {
            let known = looked.get(&run.id).copied().unwrap_or_default();
            if known.is_read {
                continue;
            }
            let has_ended = run.status.is_terminal();
            if is_first_look && age >= RUNS_READ_AT_FIRST && has_ended {
                looked.insert(run.id, LookedRun { after: 0, is_read: true });
                continue;
            }
            let (taken_at, read) = find_taking_entry(cli, run.id, known.after, item, output).await?;
            if let Some(at) = taken_at {
                return Ok(TakingRun { run: run.id, joined_at: Some(at).filter(|at| *at > 1) });
            }
            // Its end was listed before its journal was read.
            looked.insert(run.id, LookedRun { after: read, is_read: has_ended });
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
                let before = waiting.active.filter(|run| rest == LOOK_LAST && looked.contains_key(run));
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
async fn find_taking_entry(
    cli: &Cli<'_>,
    run: RunId,
    mut after: u64,
    item: ItemId,
    output: &mut CommandOutput<'_>,
) -> Outcome<(Option<u64>, u64)> {
    loop {
        let path = format!("/v1/runs/{run}/journal?after={after}&limit={ENTRIES_LOOKED_AT}");
        let page: JournalPage = cli.client.poll_json(&path, output).await?;
        let takes = |entry: &&JournalEntryResource| matches!(&*entry.kind, "run_started" | "inputs_taken");
        for entry in page.entries.iter().filter(takes) {
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
