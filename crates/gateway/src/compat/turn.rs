//! From a request to a run, and from the run back to an answer, whole or in pieces: what all APIs share.
//!
//! The input is stored in one commit before anything is answered, and a client that goes away takes nothing back. A
//! retry with the same `Idempotency-Key` joins the run of the first request and gets the same answer, because the
//! answer is read off the run's journal each time.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dromia_api::{RUN_HEADER, SESSION_HEADER, WARNING_HEADER};
use dromia_contracts::runs::InputReceipt;
use dromia_contracts::{ErrorCode, RunId, SessionId};
use futures_util::stream;
use jiff::Timestamp;
use tokio::time::Instant;

use super::compat_request::CompatRequest;
use super::request_heads::RequestHeads;
use super::run_answer::RunAnswer;
use super::run_listener::{ListenOptions, ListenerEvent, RunListener};
use super::submission::{PendingConversation, SubmittedRequest, submit_request, taken_by};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::request::RequestId;
use crate::share::ConcurrencyPermit;
use crate::stream_authentication::StreamAuthentication;

/// The run that answers.
#[derive(Debug, Clone)]
pub(super) struct AnsweringRun {
    pub(super) run: RunId,
    /// The model as the client named it.
    pub(super) model: String,
}

/// How one API writes an answer.
pub(super) trait AnswerWriter: Send + Sync + 'static {
    /// Writes a whole answer.
    fn write_whole(&self, answered: &RunAnswer) -> serde_json::Value;
    /// Writes what comes before the text.
    fn write_start(&mut self, at: Timestamp) -> String;
    /// Writes a piece of text.
    fn write_text(&mut self, piece: &str) -> String;
    /// Writes what comes after the text, the last byte included.
    fn write_end(&mut self, answered: &RunAnswer) -> String;
    /// Writes the failure that ends the stream.
    fn write_error(&mut self, failure: &ApiError, request_id: &str) -> String;
}

/// Stores what is asked and answers it.
pub(super) async fn submit_and_answer<F: AnswerWriter>(
    core: Shared,
    caller: Caller,
    heads: RequestHeads,
    asked: CompatRequest,
    format: impl FnOnce(AnsweringRun) -> F,
) -> Answer<Response> {
    // Before anything is stored: who is refused here has asked for nothing.
    let share = asked.stream.then(|| ConcurrencyPermit::acquire_stream(&core, heads.spender)).transpose()?;
    let scope = caller.scope.clone();
    let deadline = Instant::now() + heads.wait;
    let (model, request) = (asked.model.clone(), (heads.request.clone(), heads.tells_waiting));
    let last_only = asked.offer.wishes.answer.is_some();
    let warnings = asked.warnings.join("; ");
    let SubmittedRequest { agent, receipt, talk } = submit_request(&core, &caller, heads, asked).await?;
    let InputReceipt { item, session, position, run, .. } = receipt;
    let stop = if share.is_some() { &core.phase.closing } else { &core.phase.hurry };
    let run = match run {
        Some(run) => Some(run),
        None => taken_by(&core, &scope, agent, (session, position), deadline, stop).await?,
    };
    let Some(run) = run else {
        let text = format!(
            "{item} waits in {session} for another turn or for its agent; its answer will be in that session"
        );
        let mut response = ApiError::new(ErrorCode::RunUnfinished, text).into_response();
        set_answer_headers(response.headers_mut(), session, None, &warnings);
        return Ok(response);
    };
    let live = share.is_some();
    let authentication = live.then(|| StreamAuthentication::new(caller));
    let patience = ListenOptions {
        live,
        last_only,
        until: (!live).then_some(deadline),
        stop: stop.clone(),
        authentication,
    };
    let listener = RunListener::new(core.clone(), scope, run, patience);
    let format = format(AnsweringRun { run, model });
    let mut response = match share {
        Some(share) => stream_response(core, listener, format, share, request, talk),
        None => {
            whole_response(&core, listener, &format, talk).await.unwrap_or_else(IntoResponse::into_response)
        }
    };
    set_answer_headers(response.headers_mut(), session, Some(run), &warnings);
    Ok(response)
}

/// Collects the whole answer.
async fn whole_response(
    core: &GatewayCore,
    mut listener: RunListener,
    format: &impl AnswerWriter,
    talk: Option<PendingConversation>,
) -> Answer<Response> {
    loop {
        match listener.next_event().await {
            Some(
                ListenerEvent::Began(_)
                | ListenerEvent::Text(_)
                | ListenerEvent::Waiting(_)
                | ListenerEvent::Quiet(_),
            ) => {}
            Some(ListenerEvent::RunAnswer(answered)) => {
                if let Some(talk) = talk {
                    talk.remember_answer(core, &answered);
                }
                return Ok(axum::Json(format.write_whole(&answered)).into_response());
            }
            Some(ListenerEvent::Broken(failure)) => return Err(failure),
            None => return Err(ApiError::new(ErrorCode::Internal, "the answer has no last entry")),
        }
    }
}

/// Sends the answer as it comes; nothing is listened to before the connection took what came before. A failure names the
/// request as the headers do.
fn stream_response<F: AnswerWriter>(
    core: Shared,
    listener: RunListener,
    format: F,
    share: ConcurrencyPermit,
    (request, tells_waiting): (RequestId, bool),
    talk: Option<PendingConversation>,
) -> Response {
    let state = (core, listener, format, share, request, talk);
    let pieces =
        stream::unfold(state, move |(core, mut listener, mut format, share, request, mut talk)| async move {
            let text = match listener.next_event().await? {
                ListenerEvent::Began(at) => format.write_start(at),
                ListenerEvent::Text(piece) => format.write_text(&piece),
                ListenerEvent::Quiet(None) => ": keep-alive\n\n".to_owned(),
                ListenerEvent::Waiting(what) if tells_waiting => {
                    format.write_text(&format!("[waiting for {}]\n\n", plain_line(&what)))
                }
                ListenerEvent::Waiting(what) | ListenerEvent::Quiet(Some(what)) => comment_line(&what),
                ListenerEvent::RunAnswer(answered) => {
                    if let Some(talk) = talk.take() {
                        talk.remember_answer(&core, &answered);
                    }
                    format.write_end(&answered)
                }
                ListenerEvent::Broken(failure) => {
                    failure.write_log(request.as_str());
                    format.write_error(&failure, request.as_str())
                }
            };
            Some((Ok::<_, Infallible>(Bytes::from(text)), (core, listener, format, share, request, talk)))
        });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says what a run waits for in a line that clients pass over and people read.
fn comment_line(what: &str) -> String {
    format!(": waiting for {}\n\n", plain_line(what))
}

fn plain_line(what: &str) -> String {
    what.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// Names the session and the run of an answer, and what was left out of the request.
fn set_answer_headers(headers: &mut HeaderMap, session: SessionId, run: Option<RunId>, warnings: &str) {
    let mut put = |header: &'static str, text: &str| {
        // Ids and warnings are plain ASCII.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(header, value);
        }
    };
    put(SESSION_HEADER, &session.to_string());
    if let Some(run) = run {
        put(RUN_HEADER, &run.to_string());
    }
    if !warnings.is_empty() {
        put(WARNING_HEADER, warnings);
    }
}
