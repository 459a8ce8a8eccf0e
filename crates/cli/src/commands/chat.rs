//! `chat`: a conversation, line by line, each answer printed as it is made.
//!
//! What is printed live is settled by the journal (`printed`). What programs say while they run goes to stderr. Ctrl-C leaves
//! whatever is done just then, also where nothing is typed yet.

mod answer_printer;
mod queued_input;

use std::time::Duration;

use dromia_api::agent::AgentResource;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::session::SessionResource;
use dromia_api::{RunId, RunStatus, SessionId};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::event::{PLATFORM, is_unfunded};
use super::live::LiveCallOutput;
use super::run_waits::WaitReporter;
use super::submit::{EventSubmission, stored_status, wait_result};
use super::{Cli, answer, terminal_input};
use crate::args::ChatArguments;
use crate::client::{parse_answer, percent_encode};
use crate::error::{Error, Outcome, PendingStatus};
use crate::exit::CommandExit;
use crate::output::CommandOutput;
use crate::sse::{Follow, RunUpdate};

pub(super) use self::answer_printer::{AssistantReplyBody, PrintedAnswer};
pub(super) use self::queued_input::find_taking_run;

/// How long one answer may take when the command line does not say.
const PATIENCE: Duration = Duration::from_mins(10);

/// What `/help` prints. It is no word to the agent; what begins otherwise is.
const HELP: &str = "dromia sends each line to the agent, except\n  /help  show this page\n  /quit  leave; \
                    /exit, Ctrl-D and Ctrl-C do the same\nto send a line that begins with /, type // instead";

pub(super) async fn run(
    cli: &Cli<'_>,
    chat: ChatArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if output.is_json() {
        return Err(Error::Usage("chat prints no JSON; use `dromia event send --wait --json`".to_owned()));
    }
    cli.check_session(chat.session)?;
    let (mut session, mut lines) = (chat.session, 0);
    let (mut last, typed_in) = (CommandExit::Done, output.context_mut().input_is_terminal);
    let prompts = typed_in && output.context_mut().out_is_terminal;
    check_target_exists(cli, session).await?;
    if prompts {
        output.print_notice("type /quit or press Ctrl-D to leave, /help to list the commands")?;
    }
    // The yield lets the caller's `select!` register Ctrl-C before the first prompt.
    yield_now().await;
    loop {
        output.goes_on(session.map(idle_status));
        if prompts {
            output.print_text("> ")?;
        }
        let line = terminal_input::read_line("read the line", output).await?;
        let text = line.trim();
        if line.is_empty() || matches!(text, "/quit" | "/exit") {
            break;
        }
        if text == "/help" {
            output.print_notice(HELP)?;
            continue;
        }
        // What comes from a pipe is no slip of the fingers.
        if typed_in && let Some(word) = mistyped_command(text) {
            output.print_notice(&format!(
                "{word} is not a command, and the line was not sent; /help lists the commands"
            ))?;
            output.print_notice(&format!("hint: to send the line to the agent, type /{text}"))?;
            continue;
        }
        let text = text.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(text);
        if !text.is_empty() {
            lines += 1;
            let ended = play_turn(cli, session, text, lines, output).await?;
            session = Some(ended.session);
            if ended.exit != CommandExit::Done {
                last = ended.exit;
            }
        }
    }
    if let Some(session) = session {
        output.print_notice(&format!("continue with `dromia chat --session {session}`"))?;
    }
    // A person has seen which turn failed and went on; a script sees only this.
    Ok(if typed_in { CommandExit::Done } else { last })
}

/// The word with which a line begins like a command; a path is none.
fn mistyped_command(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let name = word.strip_prefix('/')?;
    (!name.is_empty() && name.chars().all(char::is_alphabetic)).then_some(word)
}

/// A turn that has ended.
struct ChatTurn {
    session: SessionId,
    exit: CommandExit,
}

/// The status of a conversation in which nothing is under way.
fn idle_status(session: SessionId) -> PendingStatus {
    PendingStatus {
        known: format!("no run is active in {session}"),
        next: format!("continue with `dromia chat --session {session}`"),
    }
}

/// The same of an answer, whose conversation goes on too.
fn conversation_status(PendingStatus { known, next }: PendingStatus, session: SessionId) -> PendingStatus {
    PendingStatus {
        known,
        next: format!("{next}; continue the conversation with `dromia chat --session {session}`"),
    }
}

/// Checks that the named session or agent exists, so that a wrong name fails before the first prompt.
async fn check_target_exists(cli: &Cli<'_>, session: Option<SessionId>) -> Outcome {
    if let Some(session) = session {
        cli.client.get::<SessionResource>(&format!("/v1/sessions/{session}")).await?;
    } else if let Some(agent) = cli.selected_agent() {
        let path = format!("/v1/agents/{}", percent_encode(&agent));
        cli.client.get::<AgentResource>(&path).await?;
    }
    Ok(())
}

/// Sends one line and prints the answer to it.
async fn play_turn(
    cli: &Cli<'_>,
    session: Option<SessionId>,
    text: &str,
    number: u32,
    output: &mut CommandOutput<'_>,
) -> Outcome<ChatTurn> {
    let text = text.to_owned();
    let event = match session {
        Some(_) => SendEvent { text, session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: cli.selected_agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let patience = cli.answer_timeout(PATIENCE);
    let sending = EventSubmission::of_line(number, session, output);
    let (_, bytes) = sending.post_with_retries(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse_answer(&bytes)?;
    output.goes_on(Some(conversation_status(stored_status(&accepted, accepted.run), accepted.session)));
    let mut taken = accepted.run;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let answer = async {
        let run = match accepted.run {
            Some(run) => run,
            None => find_taking_run(cli, accepted.session, accepted.item, output).await?,
        };
        taken = Some(run);
        output.goes_on(Some(conversation_status(stored_status(&accepted, taken), accepted.session)));
        print_live(cli, run, output).await
    };
    let ended = tokio::time::timeout(patience, answer).await;
    let ended = wait_result(cli, &accepted, taken, ended).await.map_err(|error| match error {
        Error::UnderWay { why, known, next } => {
            Error::under_way(*why, conversation_status(PendingStatus { known, next }, accepted.session))
        }
        error => error,
    });
    let exit = ended?.ok_or(late)?;
    Ok(ChatTurn { session: accepted.session, exit })
}

/// Prints the answer of a run as it is made, and says how the run ended.
async fn print_live(cli: &Cli<'_>, run: RunId, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let mut follow = Follow::new(&cli.client, run, 0);
    let (mut printed, mut heard, mut waits) =
        (PrintedAnswer::default(), LiveCallOutput::default(), WaitReporter::for_run(run));
    let (began, mut failure) = (Instant::now(), None);
    loop {
        match follow.next(output).await? {
            RunUpdate::Delta(delta) => {
                heard.end_open_line(output)?;
                let piece = printed.text_for_delta(&delta);
                output.print_text(&piece)?;
            }
            RunUpdate::Output(piece) => heard.print_piece(&piece, output)?,
            RunUpdate::Entry(entry) => {
                heard.print_entry(&entry, output)?;
                failure = answer::failure_from_entry(&entry, failure)?;
                let piece = printed.text_before_entry(&entry)?;
                output.print_text(&piece)?;
                waits.report_entry(cli, &entry, output).await?;
            }
            RunUpdate::End(end) if end.status == RunStatus::Completed => {
                let piece = printed.remaining_text();
                output.print_text(&piece)?;
                return Ok(CommandExit::Done);
            }
            RunUpdate::End(end) => {
                let seconds = began.elapsed().as_secs();
                let is_unfunded = end.status == RunStatus::Yielded && is_unfunded(failure.as_ref());
                let why = failure.map(|failure| format!(": {} ({})", failure.message, failure.code));
                output.print_notice(&format!(
                    "{run} is {} after {seconds} s{}; see `dromia run why {run}`",
                    end.status.as_str(),
                    why.unwrap_or_default()
                ))?;
                return Ok(if is_unfunded { CommandExit::Budget } else { CommandExit::RunFailed });
            }
        }
    }
}
