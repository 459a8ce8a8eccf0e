//! Sends an input, a task or a call so that it is stored once, whatever becomes of the connection.
//!
//! Each of them goes under an idempotency key: the caller's, else one of this call alone. If the connection breaks, nobody
//! here knows whether the input is stored; the same request under the same key joins it if it is, so it is sent again
//! while there is time. Only what a server said for certain is taken for an answer. When nothing more is heard, the error says
//! what is known, and the command that goes on from there.

use std::time::Duration;

use bytes::Bytes;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::{ErrorCode, Problem, RunId, SessionId};
use hyper::StatusCode;
use serde::Serialize;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep};

use super::Cli;
use crate::client::{ATTEMPTS, FIRST_REST};
use crate::error::{Error, Outcome, Standing};
use crate::output::Output;

/// What is sent, and how it is sent once more by hand.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    key: String,
    again: &'static str,
    /// The word for what is sent.
    what: &'static str,
    /// The conversation that a line belongs to. A server that goes away between two lines is waited for.
    session: Option<SessionId>,
}

/// The longest rest before a line is sent again that no server has taken.
const REST_LAST: Duration = Duration::from_secs(2);

impl Sending {
    /// Under the key that the caller gave to a command, else under one that no other call has.
    pub(super) fn of_command(given: Option<String>, output: &mut Output<'_>) -> Self {
        let key = given.unwrap_or_else(|| output.context().request_key.clone());
        Self { key, again: "repeat the command", what: "input", session: None }
    }

    /// The same for a task.
    pub(super) fn of_task(given: Option<String>, output: &mut Output<'_>) -> Self {
        Self { what: "task", ..Self::of_command(given, output) }
    }

    /// The same for a call by hand.
    pub(super) fn of_call(given: Option<String>, output: &mut Output<'_>) -> Self {
        Self { what: "call", ..Self::of_command(given, output) }
    }

    /// A line of a conversation.
    pub(super) fn of_line(number: u32, session: Option<SessionId>, output: &mut Output<'_>) -> Self {
        let key = format!("{}-{number}", output.context().request_key);
        let again = "say it with `dromia ask`, the same --session or --agent";
        Self { key, again, what: "input", session }
    }

    /// Sends the input. Until the patience is over it is sent again where nobody knows whether it was stored; each answer
    /// may take so much longer as the margin says.
    pub(super) async fn post(
        &self,
        cli: &Cli<'_>,
        event: &SendEvent,
        patience: Duration,
        margin: Duration,
        output: &mut Output<'_>,
    ) -> Outcome<(StatusCode, Bytes)> {
        self.post_to("/v1/events", event, cli, (patience, margin), output).await
    }

    /// The same for what has a path of its own; the times are the patience and the margin.
    pub(super) async fn post_to(
        &self,
        path: &str,
        body: &impl Serialize,
        cli: &Cli<'_>,
        (patience, margin): (Duration, Duration),
        output: &mut Output<'_>,
    ) -> Outcome<(StatusCode, Bytes)> {
        let (began, mut attempt, mut is_open) = (Instant::now(), 1, false);
        // Whoever typed the line would have to type it again, so they may wait until they have started the server.
        let is_typed = self.session.is_some() && output.context().input_is_terminal;
        loop {
            // Whoever leaves while it is on its way learns no more than that.
            output.goes_on(Some(self.unknown()));
            let left = patience.saturating_sub(began.elapsed()).saturating_add(margin);
            let why = match cli.client.post_keyed(path, body, &self.key, left).await {
                Ok(answer) => {
                    output.back();
                    return Ok(answer);
                }
                Err(why) => why,
            };
            is_open |= leaves_open(&why);
            let standing = match self.session {
                _ if is_open => self.unknown(),
                Some(session) if why.is_away() => unsent(session),
                Some(_) | None => {
                    output.goes_on(None);
                    return Err(why);
                }
            };
            let mut rest = FIRST_REST * 2_u32.pow((attempt - 1).min(ATTEMPTS));
            if is_typed {
                rest = rest.min(REST_LAST);
            }
            let has_attempts = attempt < ATTEMPTS || is_typed;
            let has_time = has_attempts && began.elapsed().saturating_add(rest) < patience;
            if !(has_time && (why.is_away() || leaves_open(&why))) {
                return Err(Error::under_way(why, standing));
            }
            if matches!(why, Error::Unreachable { .. }) {
                output.away()?;
            }
            output.goes_on(Some(standing));
            sleep(rest).await;
            attempt += 1;
        }
    }

    fn unknown(&self) -> Standing {
        let Self { key, again, what, session } = self;
        let talk = session.map(|session| format!("; talk on with `dromia chat --session {session}`"));
        let talk = talk.unwrap_or_default();
        Standing {
            known: format!("whether the {what} is stored is not known"),
            next: format!(
                "{again} with `--idempotency-key {key}` when the server answers: what is stored is not done twice{talk}"
            ),
        }
    }
}

/// Tells whether a request may have been done although it failed.
fn leaves_open(why: &Error) -> bool {
    let code = why.problem().and_then(Problem::error_code);
    matches!(why, Error::Severed(_) | Error::Late { .. }) || code == Some(ErrorCode::OutcomeUnknown)
}

/// How a line of a conversation stands that no server has taken.
fn unsent(session: SessionId) -> Standing {
    Standing {
        known: "the line is not sent".to_owned(),
        next: format!("start the server with `dromia up`, then go on with `dromia chat --session {session}`"),
    }
}

/// How an input stands that the server has stored.
pub(super) fn stored(accepted: &EventAccepted, run: Option<RunId>) -> Standing {
    let session = accepted.session;
    match run {
        Some(run) => Standing {
            known: format!("the input is stored in {session}, and {run} took it"),
            next: format!("it goes on by itself; see it with `dromia run watch {run}`"),
        },
        None => Standing {
            known: format!("the input is stored in {session}, and it is not known which run takes it"),
            next: format!("it goes on by itself; see it with `dromia session show {session}`"),
        },
    }
}

/// Says how a wait for the answer to a stored input ended: `None` is that its time was over. That nobody is there to answer
/// goes first.
pub(super) async fn waited<T>(
    cli: &Cli<'_>,
    accepted: &EventAccepted,
    run: Option<RunId>,
    ended: Result<Outcome<T>, Elapsed>,
) -> Outcome<Option<T>> {
    let why = match ended {
        Ok(Ok(answer)) => return Ok(Some(answer)),
        Ok(Err(why)) => why,
        Err(_) => match cli.client.reach().await {
            Err(why) if why.is_away() => why,
            Ok(()) | Err(_) => return Ok(None),
        },
    };
    if !why.is_away() {
        return Err(why);
    }
    let Standing { known, next } = stored(accepted, run);
    // Without a server nothing goes on.
    Err(Error::under_way(
        why,
        Standing { known, next: format!("start the server with `dromia up`; then {next}") },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_said_for_certain_is_not_open() {
        let problem = |code| Error::Problem(Box::new(Problem::new(code, "x", "req_1")));
        for (why, is_open, is_away) in [
            (Error::Severed("cut".into()), true, true),
            (Error::Late { seconds: 1 }, true, false),
            (problem(ErrorCode::OutcomeUnknown), true, false),
            (Error::Unreachable { socket: "s".into() }, false, true),
            (problem(ErrorCode::ShuttingDown), false, true),
            (problem(ErrorCode::AgentNotFound), false, false),
            (problem(ErrorCode::JournalDamaged), false, false),
            (Error::Broken("no document".into()), false, false),
        ] {
            assert_eq!((leaves_open(&why), why.is_away()), (is_open, is_away), "{why:?}");
        }
    }
}
