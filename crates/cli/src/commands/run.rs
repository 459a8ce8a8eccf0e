//! `run`: look at runs, follow them, steer them.

mod lines;
mod page;
mod steps;
mod tree;

use std::time::Duration;

use dromia_api::event::EventAccepted;
use dromia_api::run::{JournalEntryResource, JournalPage, RunExplanation, RunResource, TextDelta};
use dromia_api::{ListPage, RunId, RunStatus};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::sleep;

pub(super) use self::page::RunDetails;
use self::page::{show_run, why_text};
use super::agent_names::AgentHandles;
use super::answer::{AnswerCollector, print_json_line};
use super::followed_run::{FollowedRun, InterruptAction};
use super::live::LiveCallOutput;
use super::{Cli, listing_path, print_narrow};
use crate::args::{self, ExportRun, ShowRun, WatchRun};
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, RowStyle, format_known_cost};
use crate::sse::RunUpdate;

/// How many entries are asked for at a time.
const PAGE_ENTRIES: u32 = 256;

/// The columns of a listing of runs; one of several agents has theirs behind the status.
pub(super) const HEADS: [&str; 8] = ["id", "status", "started", "calls", "in", "out", "cost", "question"];

/// How such a listing shrinks on a narrow terminal.
pub(super) const WAYS: [ColumnShrink; 12] = [
    ColumnShrink::Cut("question", 48),
    ColumnShrink::Without("session"),
    ColumnShrink::Short("started"),
    ColumnShrink::WithoutNought("cost"),
    ColumnShrink::Without("out"),
    ColumnShrink::Without("in"),
    ColumnShrink::Cut("question", 32),
    ColumnShrink::Without("calls"),
    ColumnShrink::Cut("question", 24),
    ColumnShrink::Without("cost"),
    ColumnShrink::Cut("agent", 8),
    ColumnShrink::Cut("question", 12),
];

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::RunCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::RunCommand::List(list) => {
            let session = cli.resolve_option(list.session, output).await?;
            let filters = [
                ("session", session.map(|session| session.to_string())),
                ("agent", cli.global.agent.clone()),
                ("status", list.status.map(|status| status.as_str().to_owned())),
            ];
            let list: ListPage<RunResource> =
                cli.client.get(&listing_path("/v1/runs", &list.page, &filters)).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            let heads = [&HEADS[..2], &["agent"], &HEADS[2..7], &["session"], &HEADS[7..]].concat();
            let style = output.row_style();
            print_narrow(output, &list, &heads, &WAYS, |run| {
                let mut row = run_row(run, &style);
                row.insert(7, style.format_id(run.session));
                row.insert(2, handles.display_name(run.agent));
                row
            })
        }
        args::RunCommand::Show(asked) => match asked.step {
            Some(step) => print_request(cli, &asked, step, output).await,
            None => show_run(cli, cli.resolve_or_newest(asked.id, output).await?, output).await,
        },
        args::RunCommand::Watch(watch) => watch_run(cli, &watch, output).await,
        args::RunCommand::Why(name) => {
            let run = cli.resolve_or_newest(name.id, output).await?;
            let why: RunExplanation = cli.client.get(&format!("/v1/runs/{run}/why")).await?;
            let text = output.add_global_flags(&why_text(&why, &output.row_style())).into_owned();
            output.print_result(&why, |_| text)?;
            Ok(CommandExit::Done)
        }
        args::RunCommand::Tree(name) => {
            let named = cli.resolve_option(name.id, output).await?;
            tree::print_tree(cli, named, output).await
        }
        args::RunCommand::Resume(name) => {
            let id = cli.resolve_id(name.id, output).await?;
            let accepted: EventAccepted = cli.client.post(&format!("/v1/runs/{id}/resume")).await?;
            output.print_result(&accepted, |accepted| match accepted.run {
                Some(run) => run.to_string(),
                None => {
                    format!("the request waits in {} at position {}", accepted.session, accepted.position)
                }
            })?;
            // A held run is released, and goes on under its own id.
            if accepted.run == Some(id) {
                let is_held = |run: &RunResource| run.status == RunStatus::Held;
                let released = await_settled(cli, id, is_held).await.is_some_and(|run| !is_held(&run));
                output.print_notice(if released {
                    "released; the run continues"
                } else {
                    "released; the run will continue soon"
                })?;
            }
            Ok(CommandExit::Done)
        }
        args::RunCommand::Cancel(name) => {
            end_run(cli, cli.resolve_id(name.id, output).await?, ("cancel", name.tree), output).await
        }
        args::RunCommand::Terminate(name) => {
            let run = cli.resolve_id(name.id, output).await?;
            // A script that names a run means it.
            if output.context_mut().input_is_terminal && !cli.global.no_input {
                let question = format!("End {run} now? This also stops a tool call that is running.");
                cli.confirm(&question, output).await?;
            }
            end_run(cli, run, ("terminate", name.tree), output).await
        }
        args::RunCommand::Export(export) => print_journal(cli, &export, output).await,
    }
}

async fn end_run(
    cli: &Cli<'_>,
    run: RunId,
    (verb, with_tree): (&str, bool),
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let tree = if with_tree { "?tree=true" } else { "" };
    let told: RunResource = cli.client.post(&format!("/v1/runs/{run}/{verb}{tree}")).await?;
    let now = verb == "terminate";
    let run = if now && !told.status.is_terminal() {
        await_settled(cli, run, |run| !run.status.is_terminal()).await.unwrap_or(told)
    } else {
        told
    };
    output.print_result(&run, |run| {
        if run.status.is_terminal() {
            format!("{} is {}", run.id, run.status.as_str())
        } else {
            format!("{} is ending", run.id)
        }
    })?;
    if !run.status.is_terminal() {
        let how = if now {
            "the current step is being stopped; follow it with"
        } else {
            "the run ends after its current tool call; `dromia run terminate` stops the call as well; follow \
             it with"
        };
        output.print_notice(&format!("{how} `dromia run watch {}`", run.id))?;
    }
    Ok(CommandExit::Done)
}

/// The pauses between polls of a run that a command has just changed: 1.5 s in all.
const RESTS_MS: [u64; 4] = [100, 200, 400, 800];

/// Polls a run for a moment until `is_before` is false. Returns the last state seen, or `None` if a request fails.
async fn await_settled(
    cli: &Cli<'_>,
    run: RunId,
    is_before: impl Fn(&RunResource) -> bool,
) -> Option<RunResource> {
    let mut seen = None;
    for rest in RESTS_MS {
        sleep(Duration::from_millis(rest)).await;
        let run: RunResource = cli.client.get(&format!("/v1/runs/{run}")).await.ok()?;
        let stands = is_before(&run);
        seen = Some(run);
        if !stands {
            break;
        }
    }
    seen
}

/// Prints the request of a model step. A program gets its bytes as they were sent.
async fn print_request(
    cli: &Cli<'_>,
    asked: &ShowRun,
    step: u32,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let attempt = asked.attempt.map(|attempt| format!("?attempt={attempt}")).unwrap_or_default();
    let run = cli.resolve_or_newest(asked.id, output).await?;
    let body = cli.client.get_bytes(&format!("/v1/runs/{run}/requests/{step}{attempt}")).await?;
    match std::str::from_utf8(&body) {
        // Only a terminal gets it without control characters.
        Ok(text) => output.print_text(text)?,
        Err(_) => output.write_bytes(&body)?,
    }
    Ok(CommandExit::Done)
}

/// A whole watch, for `--json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RunWatchDocument {
    /// The run.
    run: RunId,
    /// How it ended.
    status: RunStatus,
    /// The number of its last entry.
    last_seq: u64,
    /// The entries, in order.
    entries: Vec<JournalEntryResource>,
}

async fn watch_run(cli: &Cli<'_>, watch: &WatchRun, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let run = cli.resolve_or_newest(watch.id, output).await?;
    let followed = follow_to_end(cli, run, watch, output);
    let status = match cli.global.timeout {
        None => followed.await?,
        Some(patience) => {
            let next = format!("dromia run watch {run}");
            tokio::time::timeout(patience, followed).await.unwrap_or(Err(Error::TimedOut { next }))?
        }
    };
    let good = status == RunStatus::Completed || !watch.exit_status;
    Ok(if good { CommandExit::Done } else { CommandExit::RunFailed })
}

async fn follow_to_end(
    cli: &Cli<'_>,
    run: RunId,
    watch: &WatchRun,
    output: &mut CommandOutput<'_>,
) -> Outcome<RunStatus> {
    let mut followed = FollowedRun::follow_from(cli, run, watch.after, InterruptAction::EndsCommand);
    let mut entries = Vec::new();
    let by_line = watch.jsonl || output.is_jsonl();
    let (mut heard, mut said) = (LiveCallOutput::default(), AnswerCollector::default());
    loop {
        match followed.next(output).await? {
            RunUpdate::Entry(entry) => {
                let is_kept = output.is_json() && !by_line;
                if by_line {
                    print_json_line(&entry, output)?;
                } else if !is_kept {
                    heard.end_open_line(output)?;
                    output.print_line(&lines::entry_line(&entry))?;
                    heard.print_entry(&entry, output)?;
                    said.take_entry(&entry)?;
                }
                followed.report_entry(&entry, output).await?;
                if is_kept {
                    entries.push(entry);
                }
            }
            RunUpdate::Delta(delta) => {
                heard.end_open_line(output)?;
                print_delta(&delta, output)?;
            }
            // A program waits for the entry.
            RunUpdate::Output(_) if by_line || output.is_json() => {}
            RunUpdate::Output(piece) => heard.print_piece(&piece, output)?,
            RunUpdate::End(end) => {
                let (status, last_seq) = (end.status, end.last_seq);
                if output.is_json() && !by_line {
                    output.print_document(&RunWatchDocument { run, status, last_seq, entries })?;
                } else {
                    if let (false, Some(reply)) = (by_line, said.completed_answer(status)) {
                        output.print_line(&format!("\n{reply}"))?;
                    }
                    output.print_notice(&format!("{run} is {}", status.as_str()))?;
                }
                return Ok(status);
            }
        }
    }
}

/// Live text is for people at a terminal; it is not part of the journal.
fn print_delta(delta: &TextDelta, output: &mut CommandOutput<'_>) -> Outcome {
    if !output.context_mut().out_is_terminal || output.is_json() {
        return Ok(());
    }
    output.print_notice(&format!("  … {}", delta.text.trim_end()))
}

/// A whole journal, for a document.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RunJournalExport {
    /// The run.
    run: RunId,
    /// Every entry, in order.
    entries: Vec<JournalEntryResource>,
}

async fn print_journal(
    cli: &Cli<'_>,
    export: &ExportRun,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let run = cli.resolve_or_newest(export.id, output).await?;
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
        output.print_document(&RunJournalExport { run, entries })?;
    }
    Ok(CommandExit::Done)
}

/// The cells of a listing.
pub(super) fn run_row(run: &RunResource, style: &RowStyle) -> Vec<String> {
    vec![
        style.format_id(run.id),
        run_state_text(run),
        style.format_time(run.started_at),
        run.model_calls.to_string(),
        run.usage.input_tokens.to_string(),
        run.usage.output_tokens.to_string(),
        format_known_cost(run.cost_micros, run.unpriced_calls.into()),
        run.question.clone().unwrap_or_default(),
    ]
}

/// The status of a run, and whether it was imported: an imported run was paid for elsewhere.
fn run_state_text(run: &RunResource) -> String {
    let status = run.status.as_str();
    if run.imported { format!("{status} (imported)") } else { status.to_owned() }
}
