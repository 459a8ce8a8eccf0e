//! `run`: look at runs, follow them, steer them.

mod lines;
mod steps;

use std::time::Duration;

use dromia_api::approval::Approval;
use dromia_api::event::EventAccepted;
use dromia_api::run::{Delta, Entry, JournalPage, Run, Why};
use dromia_api::{List, RunId, RunStatus};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::sleep;

use self::steps::{HEADS as STEP_HEADS, Step, WAYS as STEP_WAYS, steps};
use super::answer::Said;
use super::handles::Handles;
use super::live::Heard;
use super::waits::Waits;
use super::{Cli, listing, print_narrow};
use crate::args::{self, ExportRun, ShowRun, WatchRun};
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, Way, fitted, money, pairs, time};
use crate::sse::{Follow, Seen};

/// How many entries are asked for at a time.
const PAGE_ENTRIES: u32 = 256;

/// Of how many calls that wait the state is told: the newest ones.
const WAITING_TOLD: usize = 16;

/// The columns of a listing of runs; one of several agents has theirs behind the status.
pub(super) const HEADS: [&str; 7] = ["id", "status", "started", "calls", "in", "out", "cost"];

/// How such a listing gives way on a narrow terminal.
pub(super) const WAYS: [Way; 8] = [
    Way::Without("session"),
    Way::Short("started"),
    Way::WithoutNought("cost"),
    Way::Without("out"),
    Way::Without("in"),
    Way::Without("cost"),
    Way::Without("calls"),
    Way::Cut("agent", 8),
];

pub(super) async fn run(cli: &Cli<'_>, command: args::Run, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Run::List(list) => {
            let filters = [
                ("session", list.session.map(|session| session.to_string())),
                ("agent", cli.global.agent.clone()),
                ("status", list.status.map(|status| status.as_str().to_owned())),
            ];
            let list: List<Run> = cli.client.get(&listing("/v1/runs", &list.page, &filters)).await?;
            let handles = Handles::read(cli, output).await;
            let heads = [&HEADS[..2], &["agent"], &HEADS[2..], &["session"]].concat();
            print_narrow(output, &list, &heads, &WAYS, |run| {
                let mut row = row(run);
                row.insert(2, handles.of(run.agent));
                row.push(run.session.to_string());
                row
            })
        }
        args::Run::Show(asked) => match asked.step {
            Some(step) => print_request(cli, &asked, step, output).await,
            None => show(cli, asked.id, output).await,
        },
        args::Run::Watch(watch) => follow(cli, &watch, output).await,
        args::Run::Why(run) => {
            let why: Why = cli.client.get(&format!("/v1/runs/{}/why", run.id)).await?;
            let text = output.placed(&why_text(&why)).into_owned();
            output.show(&why, |_| text)?;
            Ok(Exit::Done)
        }
        args::Run::Resume(run) => {
            let accepted: EventAccepted = cli.client.post(&format!("/v1/runs/{}/resume", run.id)).await?;
            output.show(&accepted, |accepted| match accepted.run {
                Some(run) => run.to_string(),
                None => format!("waits in {} at position {}", accepted.session, accepted.position),
            })?;
            // A held run is released, and goes on under its own id.
            if accepted.run == Some(run.id) {
                let is_held = |run: &Run| run.status == RunStatus::Held;
                let released = settled(cli, run.id, is_held).await.is_some_and(|run| !is_held(&run));
                output.notice(if released { "released; it goes on" } else { "released; it goes on soon" })?;
            }
            Ok(Exit::Done)
        }
        args::Run::Cancel(run) => end(cli, run.id, "cancel", output).await,
        args::Run::Terminate(run) => {
            // A script that names a run means it.
            if output.context().input_is_terminal && !cli.global.no_input {
                let question = format!("End {} now? A tool that runs just now is broken off.", run.id);
                cli.confirm(&question, output).await?;
            }
            end(cli, run.id, "terminate", output).await
        }
        args::Run::Export(export) => print_journal(cli, &export, output).await,
    }
}

async fn end(cli: &Cli<'_>, run: RunId, verb: &str, output: &mut Output<'_>) -> Outcome<Exit> {
    let told: Run = cli.client.post(&format!("/v1/runs/{run}/{verb}")).await?;
    let now = verb == "terminate";
    let run = if now && !told.status.is_terminal() {
        settled(cli, run, |run| !run.status.is_terminal()).await.unwrap_or(told)
    } else {
        told
    };
    output.show(&run, |run| {
        if run.status.is_terminal() {
            format!("{} is {}", run.id, run.status.as_str())
        } else {
            format!("{} was told to end", run.id)
        }
    })?;
    if !run.status.is_terminal() {
        let how = if now {
            "what it does just now is broken off"
        } else {
            "it ends once a tool that runs just now is done, which `dromia run terminate` breaks off"
        };
        output.notice(&format!("{how}: `dromia run watch {}`", run.id))?;
    }
    Ok(Exit::Done)
}

/// How often, and after which rests, a run is looked at that was told something: 1.5 s in all.
const RESTS_MS: [u64; 4] = [100, 200, 400, 800];

/// Looks at a run while it stands as before, for a moment; nothing if nobody tells how it stands.
async fn settled(cli: &Cli<'_>, run: RunId, is_before: impl Fn(&Run) -> bool) -> Option<Run> {
    let mut seen = None;
    for rest in RESTS_MS {
        sleep(Duration::from_millis(rest)).await;
        let run: Run = cli.client.get(&format!("/v1/runs/{run}")).await.ok()?;
        let stands = is_before(&run);
        seen = Some(run);
        if !stands {
            break;
        }
    }
    seen
}

/// A run, its steps, and the newest page of what happened in it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RunShown")]
pub(super) struct Shown {
    /// The run.
    run: Run,
    /// Its model calls and its tools, as far as that page tells of them.
    steps: Vec<Step>,
    /// The newest page of its journal.
    journal: JournalPage,
}

async fn show(cli: &Cli<'_>, id: RunId, output: &mut Output<'_>) -> Outcome<Exit> {
    let run: Run = cli.client.get(&format!("/v1/runs/{id}")).await?;
    let after = run.last_seq.saturating_sub(u64::from(PAGE_ENTRIES));
    let path = format!("/v1/runs/{id}/journal?after={after}&limit={PAGE_ENTRIES}");
    let journal: JournalPage = cli.client.get(&path).await?;
    let mut steps = steps(&journal.entries);
    for step in steps.iter_mut().rev().filter(|step| step.approval.is_some()).take(WAITING_TOLD) {
        let Some(approval) = step.approval else { continue };
        // Whoever may not look at it, or finds that it is gone, sees the id all the same.
        if let Ok(approval) = cli.client.get::<Approval>(&format!("/v1/approvals/{approval}")).await {
            step.stands(approval);
        }
    }
    let shown = Shown { run, steps, journal };
    let rows = shown.steps.iter().map(Step::row).collect();
    let table = fitted(output.context(), &STEP_HEADS, &STEP_WAYS, rows);
    output.show(&shown, |shown| format!("{}\n\n{table}", text(&shown.run)))?;
    if after > 0 && !output.is_json() {
        output.notice(&format!(
            "of {} entries the newest {PAGE_ENTRIES} are shown: `dromia run export {id}`",
            shown.run.last_seq
        ))?;
    }
    Ok(Exit::Done)
}

/// Prints the request of a model step. A program gets its bytes as they were sent.
async fn print_request(cli: &Cli<'_>, asked: &ShowRun, step: u32, output: &mut Output<'_>) -> Outcome<Exit> {
    let attempt = asked.attempt.map(|attempt| format!("?attempt={attempt}")).unwrap_or_default();
    let body = cli.client.get_bytes(&format!("/v1/runs/{}/requests/{step}{attempt}", asked.id)).await?;
    match std::str::from_utf8(&body) {
        // Only a terminal gets it without control characters.
        Ok(text) => output.text(text)?,
        Err(_) => output.raw(&body)?,
    }
    Ok(Exit::Done)
}

/// A whole watch, for `--json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Watched {
    /// The run.
    run: RunId,
    /// How it ended.
    status: RunStatus,
    /// The number of its last entry.
    last_seq: u64,
    /// The entries, in order.
    entries: Vec<Entry>,
}

async fn follow(cli: &Cli<'_>, watch: &WatchRun, output: &mut Output<'_>) -> Outcome<Exit> {
    let followed = follow_to_end(cli, watch, output);
    let status = match cli.global.timeout {
        None => followed.await?,
        Some(patience) => {
            let next = format!("dromia run watch {}", watch.id);
            tokio::time::timeout(patience, followed).await.unwrap_or(Err(Error::TimedOut { next }))?
        }
    };
    let good = status == RunStatus::Completed || !watch.exit_status;
    Ok(if good { Exit::Done } else { Exit::RunFailed })
}

async fn follow_to_end(cli: &Cli<'_>, watch: &WatchRun, output: &mut Output<'_>) -> Outcome<RunStatus> {
    let mut follow = Follow::new(&cli.client, watch.id, watch.after);
    let mut entries = Vec::new();
    let by_line = watch.jsonl || output.is_jsonl();
    let (mut heard, mut waits) = (Heard::default(), Waits::of(watch.id));
    let mut said = Said::default();
    loop {
        match follow.next(output).await? {
            Seen::Entry(entry) => {
                let is_kept = output.is_json() && !by_line;
                if by_line {
                    print_json_line(&entry, output)?;
                } else if !is_kept {
                    heard.close(output)?;
                    output.line(&lines::line(&entry))?;
                    heard.entry(&entry, output)?;
                    said.take(&entry)?;
                }
                waits.entry(cli, &entry, output).await?;
                if is_kept {
                    entries.push(entry);
                }
            }
            Seen::Delta(delta) => {
                heard.close(output)?;
                live(&delta, output)?;
            }
            // A program waits for the entry.
            Seen::Output(_) if by_line || output.is_json() => {}
            Seen::Output(piece) => heard.piece(&piece, output)?,
            Seen::End(end) => {
                let (run, status, last_seq) = (watch.id, end.status, end.last_seq);
                if output.is_json() && !by_line {
                    output.document(&Watched { run, status, last_seq, entries })?;
                } else {
                    if let (false, Some(reply)) = (by_line, said.answer(status)) {
                        output.line(&format!("\n{reply}"))?;
                    }
                    output.notice(&format!("{run} is {}", status.as_str()))?;
                }
                return Ok(status);
            }
        }
    }
}

/// Live text is for people who look on; it is not part of the journal.
fn live(delta: &Delta, output: &mut Output<'_>) -> Outcome {
    if !output.context().out_is_terminal || output.is_json() {
        return Ok(());
    }
    output.notice(&format!("  … {}", delta.text.trim_end()))
}

/// A whole journal, for a document.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Exported {
    /// The run.
    run: RunId,
    /// Every entry, in order.
    entries: Vec<Entry>,
}

async fn print_journal(cli: &Cli<'_>, export: &ExportRun, output: &mut Output<'_>) -> Outcome<Exit> {
    let run = export.id;
    let by_line = export.jsonl || output.is_jsonl();
    let mut entries = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/v1/runs/{run}/journal?after={after}&limit={PAGE_ENTRIES}");
        let page: JournalPage = cli.client.get(&path).await?;
        let Some(last) = page.entries.last() else { break };
        after = last.seq;
        if by_line {
            page.entries.iter().try_for_each(|entry| print_json_line(entry, output))?;
        } else {
            entries.extend(page.entries);
        }
    }
    if !by_line {
        output.document(&Exported { run, entries })?;
    }
    Ok(Exit::Done)
}

/// Prints an entry as one line of JSON.
pub(super) fn print_json_line(entry: &Entry, output: &mut Output<'_>) -> Outcome {
    let value: serde_json::Value = crate::client::parse(&serde_json::to_vec(entry).unwrap_or_default())?;
    output.line(&value.to_string())
}

/// The cells of a listing.
pub(super) fn row(run: &Run) -> Vec<String> {
    vec![
        run.id.to_string(),
        standing(run),
        time(run.started_at),
        run.model_calls.to_string(),
        run.usage.input_tokens.to_string(),
        run.usage.output_tokens.to_string(),
        money(run.cost_micros),
    ]
}

/// Says how a run stands, and whether it came as a file: it was paid for elsewhere.
fn standing(run: &Run) -> String {
    let status = run.status.as_str();
    if run.imported { format!("{status} (imported)") } else { status.to_owned() }
}

fn text(run: &Run) -> String {
    pairs(&[
        ("id", run.id.to_string()),
        ("status", standing(run)),
        ("agent", run.agent.to_string()),
        ("session", run.session.to_string()),
        ("started", time(run.started_at)),
        ("updated", time(run.updated_at)),
        ("wakes", run.wake_at.map(time).unwrap_or_default()),
        ("model calls", run.model_calls.to_string()),
        ("tokens", format!("{} in, {} out", run.usage.input_tokens, run.usage.output_tokens)),
        ("cost", money(run.cost_micros)),
    ])
}

fn why_text(why: &Why) -> String {
    pairs(&[
        ("status", why.status.as_str().to_owned()),
        ("because", why.waits_for.clone()),
        ("since", time(why.since)),
        ("moved by", why.unblocked_by.clone()),
        ("next", why.command.clone().unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_names_the_cause_and_the_next_command() {
        let why = Why {
            status: RunStatus::Parked,
            waits_for: "its agent is paused".into(),
            since: "2026-01-02T03:04:05Z".parse().unwrap(),
            unblocked_by: "whoever resumes the agent".into(),
            command: Some("dromia agent resume ops".into()),
        };
        insta::assert_snapshot!(why_text(&why), @r"
        status    parked
        because   its agent is paused
        since     2026-01-02 03:04:05Z
        moved by  whoever resumes the agent
        next      dromia agent resume ops
        ");
    }
}
