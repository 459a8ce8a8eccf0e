//! Sends an input, a task or a call so that it is stored once, whatever becomes of the connection.
//!
//! Each of them goes under an idempotency key: the caller's, else one of this call alone. If the connection breaks, it
//! is unknown whether the input is stored; the same request under the same key joins it if it is, so it is sent again
//! while there is time. Only what a server said for certain is taken for an answer. When nothing more is heard, the
//! error says what is known, and the command that goes on from there.

use std::time::Duration;

use bytes::Bytes;
use dromia_api::event::{EventAccepted, SendEvent};
use dromia_api::{ErrorCode, ProblemDetails, RunId, SessionId};
use hyper::StatusCode;
use serde::Serialize;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep};

use super::Cli;
use crate::client::{ATTEMPTS, FIRST_REST};
use crate::error::{Error, Outcome, PendingStatus};
use crate::output::CommandOutput;

/// The platform of events from the command line.
pub(super) const PLATFORM: &str = "cli";

/// What is sent, and how it is sent once more by hand.
#[derive(Debug, Clone)]
pub(super) struct EventSubmission {
    key: String,
    again: &'static str,
    /// The word for what is sent.
    what: &'static str,
    /// The conversation that a line belongs to. A server that goes away between two lines is waited for.
    session: Option<SessionId>,
}

/// The longest rest before a line is sent again that no server has taken.
const REST_LAST: Duration = Duration::from_secs(2);

impl EventSubmission {
    /// Under the key that the caller gave to a command, else under one that no other call has.
    pub(super) fn of_command(given: Option<String>, output: &mut CommandOutput<'_>) -> Self {
        let key = given.unwrap_or_else(|| output.context_mut().request_key.clone());
        Self { key, again: "repeat the command", what: "input", session: None }
    }

    /// The same for a task.
    pub(super) fn of_task(given: Option<String>, output: &mut CommandOutput<'_>) -> Self {
        Self { what: "task", ..Self::of_command(given, output) }
    }

    /// The same for a call by hand.
    pub(super) fn of_call(given: Option<String>, output: &mut CommandOutput<'_>) -> Self {
        Self { what: "call", ..Self::of_command(given, output) }
    }

    /// A line of a conversation.
    pub(super) fn of_line(number: u32, session: Option<SessionId>, output: &mut CommandOutput<'_>) -> Self {
        let key = format!("{}-{number}", output.context_mut().request_key);
        let again = "send it with `dromia ask` and the same --session or --agent";
        Self { key, again, what: "input", session }
    }

    /// Sends the input, and resends it until the patience is over while it is unknown whether the server stored it.
    /// Each answer may take longer by the margin.
    pub(super) async fn post_with_retries(
        &self,
        cli: &Cli<'_>,
        event: &SendEvent,
        patience: Duration,
        margin: Duration,
        output: &mut CommandOutput<'_>,
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
        output: &mut CommandOutput<'_>,
    ) -> Outcome<(StatusCode, Bytes)> {
        let (began, mut attempt, mut is_open) = (Instant::now(), 1, false);
        // A person would have to type the line again, so the patience lasts until they have started the server.
        let is_typed = self.session.is_some() && output.context_mut().input_is_terminal;
        loop {
            // A command that ends while the request is on its way can say no more than that.
            output.note_pending(Some(self.unknown_status()));
            let left = patience.saturating_sub(began.elapsed()).saturating_add(margin);
            let why = match cli.client.post_keyed(path, body, &self.key, left).await {
                Ok(answer) => {
                    output.note_server_back();
                    return Ok(answer);
                }
                Err(why) => why,
            };
            is_open |= leaves_open(&why);
            let status = match self.session {
                _ if is_open => self.unknown_status(),
                Some(session) if why.is_away() => unsent_status(session),
                Some(_) | None => {
                    output.note_pending(None);
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
                return Err(Error::under_way(why, status));
            }
            if matches!(why, Error::Unreachable { .. }) {
                output.note_server_away()?;
            }
            output.note_pending(Some(status));
            sleep(rest).await;
            attempt += 1;
        }
    }

    fn unknown_status(&self) -> PendingStatus {
        let Self { key, again, what, session } = self;
        let talk = session
            .map(|session| format!("; continue the conversation with `dromia chat --session {session}`"));
        let talk = talk.unwrap_or_default();
        PendingStatus {
            known: format!("it is not known whether the server stored the {what}"),
            next: format!(
                "{again} with `--idempotency-key {key}` when the server answers: a stored request is not \
                 executed twice{talk}"
            ),
        }
    }
}

/// Tells whether a request may have been done although it failed.
fn leaves_open(why: &Error) -> bool {
    let code = why.server_problem().and_then(ProblemDetails::error_code);
    matches!(why, Error::Severed(_) | Error::Late { .. }) || code == Some(ErrorCode::OutcomeUnknown)
}

/// The status of a line of a conversation that no server has taken.
fn unsent_status(session: SessionId) -> PendingStatus {
    PendingStatus {
        known: "the line was not sent".to_owned(),
        next: format!(
            "start the server with `dromia up`, then continue with `dromia chat --session {session}`"
        ),
    }
}

/// The status of an input that the server has stored.
pub(super) fn stored_status(accepted: &EventAccepted, run: Option<RunId>) -> PendingStatus {
    let session = accepted.session;
    match run {
        Some(run) => PendingStatus {
            known: format!("the server stored the input in {session}, and {run} took it"),
            next: format!("the run continues by itself; follow it with `dromia run watch {run}`"),
        },
        None => PendingStatus {
            known: format!("the server stored the input in {session}; it is not known which run takes it"),
            next: format!("the server continues by itself; see `dromia session show {session}`"),
        },
    }
}

/// Says how a wait for the answer to a stored input ended; `None` means that its time was over. A server that is away
/// is reported first.
pub(super) async fn wait_result<T>(
    cli: &Cli<'_>,
    accepted: &EventAccepted,
    run: Option<RunId>,
    ended: Result<Outcome<T>, Elapsed>,
) -> Outcome<Option<T>> {
    let why = match ended {
        Ok(Ok(answer)) => return Ok(Some(answer)),
        Ok(Err(why)) => why,
        Err(_) => match cli.client.check_connection().await {
            Err(why) if why.is_away() => why,
            Ok(()) | Err(_) => return Ok(None),
        },
    };
    if !why.is_away() {
        return Err(why);
    }
    let PendingStatus { known, next } = stored_status(accepted, run);
    // Without a server nothing goes on.
    Err(Error::under_way(
        why,
        PendingStatus { known, next: format!("start the server with `dromia up`; then {next}") },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definite_server_answer_leaves_no_open_outcome() {
        let problem = |code| Error::Problem(Box::new(ProblemDetails::new(code, "x", "req_1")));
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
