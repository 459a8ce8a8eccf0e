//! `chat`: a conversation, line by line, each answer printed as it is made.
//!
//! What is printed live is settled by the journal (`printed`). What programs say while they run goes to stderr. Ctrl-C leaves
//! whatever is done just then, also where nothing is typed yet.

mod printed;
mod taker;

use std::time::Duration;

use dromia_api::agent::Agent;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::session::Session;
use dromia_api::{RunId, RunStatus, SessionId};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::event::{PLATFORM, is_unfunded};
use super::live::Heard;
use super::sending::{Sending, stored, waited};
use super::waits::Waits;
use super::{Cli, answer, typed};
use crate::args::Chat;
use crate::client::{encoded, parse};
use crate::error::{Error, Outcome, Standing};
use crate::exit::Exit;
use crate::output::Output;
use crate::sse::{Follow, Seen};

pub(super) use self::printed::Message;
pub(super) use self::taker::taker;

use self::printed::Printed;

/// How long one answer may take when the command line does not say.
const PATIENCE: Duration = Duration::from_mins(10);

/// What `/help` prints. It is no word to the agent; what begins otherwise is.
const HELP: &str = "each line is said to the agent, except\n  /help  this page\n  /quit  leave; so do /exit, Ctrl-D and Ctrl-C\nwhat begins with // is said with one /";

pub(super) async fn run(cli: &Cli<'_>, chat: Chat, output: &mut Output<'_>) -> Outcome<Exit> {
    if output.is_json() {
        return Err(Error::Usage("chat prints no JSON; use `dromia event send --wait --json`".to_owned()));
    }
    cli.check_session(chat.session)?;
    let (mut session, mut lines) = (chat.session, 0);
    let (mut last, typed_in) = (Exit::Done, output.context().input_is_terminal);
    let prompts = typed_in && output.context().out_is_terminal;
    known(cli, session).await?;
    if prompts {
        output.notice("type /quit or press Ctrl-D to leave, /help for what is known here")?;
    }
    // Whoever waits for this command listens for Ctrl-C from the next look at it on, and so before anybody is asked to type.
    yield_now().await;
    loop {
        output.goes_on(session.map(kept));
        if prompts {
            output.text("> ")?;
        }
        let line = typed::line("read the line", output).await?;
        let text = line.trim();
        if line.is_empty() || matches!(text, "/quit" | "/exit") {
            break;
        }
        if text == "/help" {
            output.notice(HELP)?;
            continue;
        }
        // What comes from a pipe is no slip of the fingers.
        if typed_in && let Some(word) = mistyped(text) {
            output.notice(&format!("{word} is no command here, and nothing was said: /help lists them"))?;
            output.notice(&format!("hint: to say it to the agent type /{text}"))?;
            continue;
        }
        let text = text.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(text);
        if !text.is_empty() {
            lines += 1;
            let ended = turn(cli, session, text, lines, output).await?;
            session = Some(ended.session);
            if ended.exit != Exit::Done {
                last = ended.exit;
            }
        }
    }
    if let Some(session) = session {
        output.notice(&format!("go on with `dromia chat --session {session}`"))?;
    }
    // A person has seen which turn failed and went on; a script sees only this.
    Ok(if typed_in { Exit::Done } else { last })
}

/// The word with which a line begins like a command; a path is none.
fn mistyped(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let name = word.strip_prefix('/')?;
    (!name.is_empty() && name.chars().all(char::is_alphabetic)).then_some(word)
}

/// A turn that has ended.
struct Turn {
    session: SessionId,
    exit: Exit,
}

/// How a conversation stands in which nothing is under way.
fn kept(session: SessionId) -> Standing {
    Standing {
        known: format!("nothing is under way in {session}"),
        next: format!("go on with `dromia chat --session {session}`"),
    }
}

/// The same of an answer, whose conversation goes on too.
fn talked(Standing { known, next }: Standing, session: SessionId) -> Standing {
    Standing { known, next: format!("{next}; talk on with `dromia chat --session {session}`") }
}

/// Looks for the session or the agent that is named, so that a name which nothing has is told before anybody types.
async fn known(cli: &Cli<'_>, session: Option<SessionId>) -> Outcome {
    if let Some(session) = session {
        cli.client.get::<Session>(&format!("/v1/sessions/{session}")).await?;
    } else if let Some(agent) = cli.agent() {
        let path = format!("/v1/agents/{}", encoded(&agent));
        cli.client.get::<Agent>(&path).await?;
    }
    Ok(())
}

/// Sends one line and prints the answer to it.
async fn turn(
    cli: &Cli<'_>,
    session: Option<SessionId>,
    text: &str,
    number: u32,
    output: &mut Output<'_>,
) -> Outcome<Turn> {
    let text = text.to_owned();
    let event = match session {
        Some(_) => SendEvent { text, session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: cli.agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    let patience = cli.patience(PATIENCE);
    let sending = Sending::of_line(number, session, output);
    let (_, bytes) = sending.post(cli, &event, patience, Duration::ZERO, output).await?;
    let accepted: EventAccepted = parse(&bytes)?;
    output.goes_on(Some(talked(stored(&accepted, accepted.run), accepted.session)));
    let mut taken = accepted.run;
    let late = Error::TimedOut { next: format!("dromia session show {}", accepted.session) };
    let answer = async {
        let run = match accepted.run {
            Some(run) => run,
            None => taker(cli, accepted.session, accepted.item, output).await?,
        };
        taken = Some(run);
        output.goes_on(Some(talked(stored(&accepted, taken), accepted.session)));
        print_live(cli, run, output).await
    };
    let ended = tokio::time::timeout(patience, answer).await;
    let ended = waited(cli, &accepted, taken, ended).await.map_err(|error| match error {
        Error::UnderWay { why, known, next } => {
            Error::under_way(*why, talked(Standing { known, next }, accepted.session))
        }
        error => error,
    });
    let exit = ended?.ok_or(late)?;
    Ok(Turn { session: accepted.session, exit })
}

/// Prints the answer of a run as it is made, and says how the run ended.
async fn print_live(cli: &Cli<'_>, run: RunId, output: &mut Output<'_>) -> Outcome<Exit> {
    let mut follow = Follow::new(&cli.client, run, 0);
    let (mut printed, mut heard, mut waits) = (Printed::default(), Heard::default(), Waits::of(run));
    let (began, mut failure) = (Instant::now(), None);
    loop {
        match follow.next(output).await? {
            Seen::Delta(delta) => {
                heard.close(output)?;
                let piece = printed.delta(&delta);
                output.text(&piece)?;
            }
            Seen::Output(piece) => heard.piece(&piece, output)?,
            Seen::Entry(entry) => {
                heard.entry(&entry, output)?;
                failure = answer::failure(&entry, failure)?;
                let piece = printed.entry(&entry)?;
                output.text(&piece)?;
                waits.entry(cli, &entry, output).await?;
            }
            Seen::End(end) if end.status == RunStatus::Completed => {
                let piece = printed.end();
                output.text(&piece)?;
                return Ok(Exit::Done);
            }
            Seen::End(end) => {
                let seconds = began.elapsed().as_secs();
                let is_unfunded = end.status == RunStatus::Yielded && is_unfunded(failure.as_ref());
                let why = failure.map(|failure| format!(": {} ({})", failure.message, failure.code));
                output.notice(&format!(
                    "{run} is {} after {seconds} s{}; see `dromia run why {run}`",
                    end.status.as_str(),
                    why.unwrap_or_default()
                ))?;
                return Ok(if is_unfunded { Exit::Budget } else { Exit::RunFailed });
            }
        }
    }
}
