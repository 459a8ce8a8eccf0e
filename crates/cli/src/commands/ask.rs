//! `ask`: one question, and nothing but the answer on stdout.
//!
//! With a schema the answer is JSON that satisfies it, or the command failed (`shape`).
//!
//! With `--jsonl` the entries of the run come as they are made, and the answer is the last line. A person who looks on
//! sees on stderr what programs say while they run; otherwise one request waits for the answer, and the run is looked at
//! where that takes longer. The usage file is written before anything is sent, so that a path which cannot be written
//! costs nothing, and again at the end, however that comes about. A server that goes away meanwhile costs no second turn
//! (`sending`).

mod summary;
mod usage_report;

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered, SendEvent};
use dromia_api::{BusyPolicy, ParseWorkspaceError, RunId, RunStatus, SessionId, WorkspaceReference};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{AnswerCollector, ProgressView, follow_run};
use super::answer_text::AnswerText;
use super::background::{BackgroundWatch, BackgroundWork, LOOK_REST};
use super::chat::TakingRun;
use super::event::{EventWaitResult, PATIENCE, print_answer, report_run_end, report_wait_end, send_and_wait};
use super::followed_run::{FollowedRun, InterruptAction};
use super::question::read_question;
use super::run_waits::is_waiting_for_person;
use super::submit::{self, EventSubmission, PLATFORM};
use super::{Cli, chat};
use crate::answer_schema::AnswerSchema;
use crate::args::AskArguments;
use crate::client::parse_answer;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, print_json_row};
use crate::sse::RunUpdate;

use self::summary::print_summary;
use self::usage_report::UsageReport;

/// How long `--detach` looks for the run that takes an input which had to wait.
const DETACH_LOOK: Duration = Duration::from_secs(2);

pub(super) async fn run(
    cli: &Cli<'_>,
    ask: AskArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let session = cli.resolve_option(ask.session, output).await?;
    cli.check_session(session)?;
    let shape = ask.schema.as_deref().map(AnswerSchema::from_file).transpose()?;
    let text = read_question(&ask.text, ask.no_stdin, output).await?;
    let text = match &shape {
        Some(shape) => shape.asked_under(&text),
        None => text,
    };
    let continued = if ask.continue_last { Some(cli.last_session().await?) } else { None };
    let session = session.or(continued);
    let when_busy = ask.when_busy.map(BusyPolicy::from);
    if when_busy.is_some() && session.is_none() {
        let text = "--when-busy needs --session or --continue: a new session has no turn that runs";
        return Err(Error::Usage(text.to_owned()));
    }
    let workspace = ask.workspace.map(|named| resolve_workspace(cli, &named)).transpose()?;
    let event = match session {
        Some(_) => SendEvent { text, session, workspace, when_busy, ..SendEvent::default() },
        None => SendEvent {
            workspace,
            text,
            agent: cli.selected_agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let asked = AskRequest {
        event,
        by_line: ask.jsonl,
        shape,
        sending: EventSubmission::of_command(ask.idempotency_key, output),
    };
    let mut used = UsageReport::default();
    if let Some(file) = &ask.usage_file {
        used.write_file(file)?;
    }
    let ended = if ask.detach {
        ask_and_leave(cli, &asked, &mut used, output).await
    } else {
        let answered = ask_and_answer(cli, asked, &mut used, output).await;
        match (answered, used.session.zip(used.run)) {
            (Ok(CommandExit::Done), Some((session, turn))) if ask.until_idle => {
                print_until_idle(cli, session, turn, output).await
            }
            (answered, _) => answered,
        }
    };
    let ended = ended.map_err(|error| match continued {
        Some(session) => Cli::blame_continue(error, session),
        None => error,
    });
    if let Some(file) = &ask.usage_file {
        used.fetch_missing_usage(cli).await;
        used.error = ended.as_ref().err().map(|error| error.error_document().error);
        used.write_file(file)?;
    }
    ended
}

/// Reads the directory in which a run is to work. A relative one is meant below the directory of this process, which a server
/// on another machine does not have.
fn resolve_workspace(cli: &Cli<'_>, named: &str) -> Outcome<WorkspaceReference> {
    let (path, mark) = named.strip_suffix(":ro").map_or((named, ""), |path| (path, ":ro"));
    let wrong = |problem: &dyn Display| Err(Error::Usage(format!("--workspace {named}: {problem}")));
    if path.starts_with('/') || path.is_empty() {
        return named.parse().or_else(|error: ParseWorkspaceError| wrong(&error));
    }
    if cli.is_remote {
        return wrong(
            &"the server is on another machine; name its directory in full, such as /srv/work/site",
        );
    }
    match std::fs::canonicalize(path) {
        Ok(found) if found.is_dir() => {
            let found = format!("{}{mark}", found.display());
            found.parse().or_else(|error: ParseWorkspaceError| wrong(&error))
        }
        Ok(found) => wrong(&workspace_problem(&found, &ErrorKind::NotADirectory.into())),
        Err(error) => wrong(&workspace_problem(&std::path::absolute(path).unwrap_or_default(), &error)),
    }
}

/// Says why a path is no directory in which a run can work, and what to do.
fn workspace_problem(path: &Path, problem: &io::Error) -> String {
    let why = match problem.kind() {
        ErrorKind::NotFound => "does not exist; create it, or name another directory",
        ErrorKind::NotADirectory => "is not a directory; name one, such as the directory that holds the file",
        ErrorKind::PermissionDenied => {
            "cannot be reached by your user; change its permissions, or name another directory"
        }
        _ => return format!("{} cannot be opened: {problem}; name another directory", path.display()),
    };
    format!("{} {why}", path.display())
}

/// What is asked, and how.
struct AskRequest {
    event: SendEvent,
    by_line: bool,
    shape: Option<AnswerSchema>,
    sending: EventSubmission,
}

/// Has the server store the question, and prints the run that takes it.
async fn ask_and_leave(
    cli: &Cli<'_>,
    asked: &AskRequest,
    used: &mut UsageReport,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let mut accepted = send(cli, asked, used, output).await?;
    if accepted.run.is_none() {
        let looking = chat::find_taking_run(cli, accepted.session, accepted.item, output);
        accepted.run = timeout(DETACH_LOOK, looking).await.ok().transpose()?.map(|taking| taking.run);
    }
    output.print_result(&accepted, |accepted| match accepted.run {
        Some(run) => run.to_string(),
        // No command takes it for a run.
        None => accepted.item.to_string(),
    })?;
    let status = submit::stored_status(&accepted, accepted.run);
    output.print_notice(&status.next)?;
    Ok(CommandExit::Done)
}

/// Sends the question and returns once the server has stored it.
async fn send(
    cli: &Cli<'_>,
    asked: &AskRequest,
    used: &mut UsageReport,
    output: &mut CommandOutput<'_>,
) -> Outcome<EventAccepted> {
    let patience = cli.answer_timeout(PATIENCE);
    let (_, bytes) =
        asked.sending.post_with_retries(cli, &asked.event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse_answer(&bytes)?;
    output.note_pending(Some(submit::stored_status(&accepted, accepted.run)));
    (used.run, used.session) = (accepted.run, Some(accepted.session));
    // Now, so that `--continue` of another terminal reaches the turn that runs.
    cli.remember_session(accepted.session, output).await?;
    note_unshared_turn(asked.event.when_busy, &accepted, output)?;
    Ok(accepted)
}

/// Says that a message which was to reach a running turn found none.
fn note_unshared_turn(
    when_busy: Option<BusyPolicy>,
    accepted: &EventAccepted,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let meant = matches!(when_busy, Some(BusyPolicy::Steer | BusyPolicy::Interrupt));
    if meant && accepted.run.is_some() && !accepted.replayed {
        output.print_notice("no turn of the session was running, so the message got a turn of its own")?;
    }
    Ok(())
}

async fn ask_and_answer(
    cli: &Cli<'_>,
    asked: AskRequest,
    used: &mut UsageReport,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if asked.by_line || output.is_jsonl() {
        let answered = stream_answer(cli, &asked, ProgressView::Entries, used, output).await?;
        print_json_row(&AnswerLine { kind: "answer", answered: &answered }, output)?;
        return report_end(cli, &answered, output).await;
    }
    let context = output.context_mut();
    let (shows_text, is_seen) = (context.out_is_terminal, context.out_is_terminal || context.err_is_terminal);
    if !output.is_json() && is_seen {
        // What must satisfy a schema is printed once it does.
        let streams = shows_text && asked.shape.is_none();
        let began = Instant::now();
        let answered = stream_answer(cli, &asked, ProgressView::Person { streams }, used, output).await?;
        if !streams {
            print_answer(&answered, output)?;
        }
        let exit = report_end(cli, &answered, output).await?;
        print_summary(&answered, began.elapsed(), output)?;
        return Ok(exit);
    }
    let interrupt = InterruptAction::CancelsRun;
    let mut waited = send_and_wait(cli, asked.event, &asked.sending, interrupt, output).await?;
    match &waited {
        EventWaitResult::Answered(answered) => used.take_answer(answered),
        EventWaitResult::Accepted(accepted) => {
            (used.run, used.session) = (accepted.run, Some(accepted.session));
        }
    }
    if let Some(session) = used.session {
        cli.remember_session(session, output).await?;
    }
    if let (Some(shape), EventWaitResult::Answered(answered)) = (&asked.shape, &mut waited) {
        fit_to_schema(shape, answered)?;
    }
    match &waited {
        EventWaitResult::Answered(answered) => {
            print_answer(answered, output)?;
            report_end(cli, answered, output).await
        }
        EventWaitResult::Accepted(accepted) => {
            let exit = report_wait_end(accepted, output)?;
            match accepted.run {
                Some(run) if is_waiting_for_person(cli, run).await => Ok(CommandExit::AwaitsPerson),
                _ => Ok(exit),
            }
        }
    }
}

/// Prints the answers of the turns that conclusions of branches and workers begin, until nothing goes on.
async fn print_until_idle(
    cli: &Cli<'_>,
    session: SessionId,
    turn: RunId,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let mut watch = BackgroundWatch::after_turn(session, turn);
    let mut ended = CommandExit::Done;
    let watched = async {
        loop {
            match watch.look(cli, output).await? {
                BackgroundWork::Idle => return Ok(()),
                BackgroundWork::GoesOn(text) => {
                    output.show_live(Some(text))?;
                    output.draw_live_while(sleep(LOOK_REST)).await;
                }
                BackgroundWork::Turn(run) => {
                    output.show_live(None)?;
                    if print_turn(cli, run, output).await? != RunStatus::Completed {
                        ended = CommandExit::RunFailed;
                    }
                }
            }
        }
    };
    let watched = timeout(cli.answer_timeout(PATIENCE), watched).await;
    output.show_live(None)?;
    let next = format!("dromia worker list --session {session}");
    watched.unwrap_or(Err(Error::TimedOut { next }))?;
    Ok(ended)
}

/// Prints the answer of a turn once it has ended.
async fn print_turn(cli: &Cli<'_>, run: RunId, output: &mut CommandOutput<'_>) -> Outcome<RunStatus> {
    let mut followed = FollowedRun::follow_from(cli, run, 0, InterruptAction::EndsCommand);
    let mut said = AnswerCollector::default();
    loop {
        match followed.next(output).await? {
            RunUpdate::Entry(entry) => {
                said.take_entry(&entry)?;
                followed.report_entry(&entry, output).await?;
            }
            RunUpdate::Delta(_) | RunUpdate::Output(_) => {}
            RunUpdate::End(end) => {
                output.show_live(None)?;
                if let Some(reply) = said.completed_answer(end.status) {
                    let mut text = AnswerText::begin(None, output);
                    if text.is_rendered() {
                        text.print_last_piece(reply, output)?;
                    } else {
                        output.print_line(reply)?;
                    }
                } else {
                    let run = output.row_style().format_id(run);
                    output.print_notice(&format!("{run} is {}", end.status.as_str()))?;
                }
                return Ok(end.status);
            }
        }
    }
}

/// Says on stderr how a run ended; the one that Ctrl-C cancelled ended as it should.
async fn report_end(
    cli: &Cli<'_>,
    answered: &EventAnswered,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if answered.status == RunStatus::Cancelled && cli.interrupts.was_caught() {
        let run = output.row_style().format_id(answered.run);
        output.print_notice(&format!("cancelled run {run}"))?;
        return Ok(CommandExit::Interrupted);
    }
    report_run_end(cli, answered, output).await
}

/// Leaves only the JSON of an answer, which satisfies its schema. A run that did not complete has no answer to check.
fn fit_to_schema(shape: &AnswerSchema, answered: &mut EventAnswered) -> Outcome {
    if answered.status == RunStatus::Completed {
        let run = answered.run;
        let reply = answered.reply.as_deref().unwrap_or_default();
        let fit = shape.check_answer(reply).map_err(|problems| Error::Unfit { run, problems })?;
        answered.reply = Some(fit);
    }
    Ok(())
}

/// Shows a run as it goes on, and returns its answer.
async fn stream_answer(
    cli: &Cli<'_>,
    asked: &AskRequest,
    sight: ProgressView,
    used: &mut UsageReport,
    output: &mut CommandOutput<'_>,
) -> Outcome<EventAnswered> {
    let patience = cli.answer_timeout(PATIENCE);
    let accepted = send(cli, asked, used, output).await?;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let streamed = async {
        let taking = match accepted.run {
            Some(run) => TakingRun::began_with_input(run),
            None => chat::find_taking_run(cli, accepted.session, accepted.item, output).await?,
        };
        let run = taking.run;
        used.run = Some(run);
        output.note_pending(Some(submit::stored_status(&accepted, Some(run))));
        // A turn that others began is not cancelled with this command.
        let interrupt = match taking.joined_at {
            Some(_) => InterruptAction::EndsCommand,
            None => InterruptAction::CancelsRun,
        };
        if taking.joined_at.is_some() {
            let run = output.row_style().format_id(run);
            output.print_notice(&format!("the message joined run {run}, which was under way"))?;
        }
        let followed = FollowedRun::follow_from(cli, run, taking.follow_after(), interrupt);
        follow_run(&accepted, run, followed, sight, output).await
    };
    let ended = timeout(patience, streamed).await;
    output.show_live(None)?;
    let Some(mut answered) = submit::wait_result(cli, &accepted, used.run, ended).await? else {
        return Err(match used.run {
            Some(run) if is_waiting_for_person(cli, run).await => Error::AwaitsPerson { run },
            _ => late,
        });
    };
    used.take_answer(&answered);
    if let Some(shape) = &asked.shape {
        fit_to_schema(shape, &mut answered)?;
    }
    Ok(answered)
}

/// The last line of a stream; its `kind` is where an entry has its own.
#[derive(Debug, Serialize)]
struct AnswerLine<'answer> {
    kind: &'static str,
    #[serde(flatten)]
    answered: &'answer EventAnswered,
}
