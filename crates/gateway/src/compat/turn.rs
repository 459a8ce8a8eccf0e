//! From a request to a run, and from the run back to an answer, whole or in pieces: what all APIs share.
//!
//! The input is stored in one commit before anything is answered, and a client that goes away takes nothing back. A
//! retry with the same `Idempotency-Key` joins the run of the first request and gets the same answer, because the
//! answer is read off the run's journal each time.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dromia_api::event::WAIT_MS_MAX;
use dromia_api::{RUN_HEADER, SESSION_HEADER, WAIT_HEADER};
use dromia_contracts::agent::AgentState;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::InputMessage;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{InputReceipt, InputTarget, NewInput};
use dromia_contracts::session::{InboxOwner, SessionHead, SessionKey};
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, RunId, Scope, SessionId, TenantId};
use futures_util::stream;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::history::ConversationInput;
use super::known_conversations::ConversationHasher;
use super::run_listener::{ListenOptions, ListenerEvent, RunAnswer, RunListener};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::ingress::{self, Submitter};
use crate::request::RequestId;
use crate::routes::agent::no_such_agent;
use crate::routes::event::{IdempotencyKey, named_agent};
use crate::share::{ConcurrencyPermit, RequestPayer};
use crate::stream_authentication::StreamAuthentication;

/// How long to rest before an input that waits behind another turn is looked at again.
const QUEUE_REST: Duration = Duration::from_millis(100);

/// What a request asks for, in our words.
#[derive(Debug)]
pub(super) struct CompatRequest {
    /// The platform of a session that is opened for it.
    pub(super) platform: &'static str,
    /// The agent, by its handle or id.
    pub(super) model: String,
    /// What is said.
    pub(super) said: ConversationInput,
    /// What the client offers to the model.
    pub(super) offer: ClientOptions,
    /// Whether the answer is wanted in pieces.
    pub(super) stream: bool,
}

impl CompatRequest {
    /// What would be stored of it.
    pub(super) fn input_body(self, author: &Actor) -> InputBody {
        let ConversationInput { history, answers, parts } = self.said;
        let message = InputMessage { author: author.clone(), parts, hops: 0 };
        InputBody { history, answers, offer: self.offer, call: None, message }
    }
}

/// What the headers of a request say.
pub(crate) struct RequestHeads {
    pub(super) session: Option<SessionId>,
    key: IdempotencyKey,
    wait: Duration,
    spender: RequestPayer,
    request: RequestId,
}

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
    let (model, request) = (asked.model.clone(), heads.request.clone());
    let (agent, submitted, words) = submit_request(&core, &caller, heads, asked).await?;
    let InputReceipt { item, session, position, run, .. } = submitted;
    let talk = words.map(|words| PendingConversation { tenant: scope.tenant(), words, session, position });
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
        set_run_headers(response.headers_mut(), session, None);
        return Ok(response);
    };
    let live = share.is_some();
    let standing = live.then(|| StreamAuthentication::new(caller));
    let patience = ListenOptions { live, until: (!live).then_some(deadline), stop: stop.clone(), standing };
    let listener = RunListener::new(core.clone(), scope, run, patience);
    let format = format(AnsweringRun { run, model });
    let mut response = match share {
        Some(share) => stream_response(core, listener, format, share, request, talk),
        None => {
            whole_response(&core, listener, &format, talk).await.unwrap_or_else(IntoResponse::into_response)
        }
    };
    set_run_headers(response.headers_mut(), session, Some(run));
    Ok(response)
}

/// A conversation whose words are all known once it is answered.
struct PendingConversation {
    tenant: TenantId,
    words: ConversationHasher,
    session: SessionId,
    position: u64,
}

impl PendingConversation {
    fn remember_answer(self, core: &GatewayCore, answered: &RunAnswer) {
        if answered.calls.is_empty() {
            let Self { tenant, words, session, position } = self;
            core.talks.remember_session(tenant, words.digest_with_answer(&answered.text), session, position);
        }
    }
}

/// Finds the session that holds the past which a client sends, word for word, and nothing after it.
async fn known_session(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    asked: &CompatRequest,
) -> Answer<Option<SessionId>> {
    let ConversationInput { history, answers: None, parts } = &asked.said else { return Ok(None) };
    if history.is_empty() || parts.is_empty() {
        return Ok(None);
    }
    let Some(words) = ConversationHasher::from_conversation(scope.actor(), agent, history, &[]) else {
        return Ok(None);
    };
    let Some((session, position)) = core.talks.take_session(scope.tenant(), words.digest()) else {
        return Ok(None);
    };
    let found = core.ports.store.session(scope, session).await?;
    let holds_no_more = |head: SessionHead| head.last == position && head.taken == position;
    Ok(found.filter(|found| found.agent == agent && holds_no_more(found.head)).map(|found| found.id))
}

async fn submit_request(
    core: &GatewayCore,
    caller: &Caller,
    heads: RequestHeads,
    mut asked: CompatRequest,
) -> Answer<(AgentId, InputReceipt, Option<ConversationHasher>)> {
    let scope = &caller.scope;
    let agent = named_agent(core, scope, &asked.model).await.map_err(|failure| failure.at_field("model"))?;
    let author = scope.actor().clone();
    let request = request_digest(&author, agent, heads.session, &asked);
    let key = heads.key.of_request(request);
    let mut words = None;
    let known = if heads.session.is_none() {
        words = ConversationHasher::from_conversation(&author, agent, &asked.said.history, &asked.said.parts);
        // A retry under a key joins the item of the first request, which must be where it was.
        if key.is_none() { known_session(core, scope, agent, &asked).await? } else { None }
    } else {
        None
    };
    if known.is_some() {
        asked.said.history = Vec::new();
    }
    let target = match heads.session.or(known) {
        None => {
            let channel = core.ports.runtime.ids.new_uuid().simple().to_string();
            let platform = asked.platform.to_owned();
            InputTarget::Fresh { agent, key: SessionKey { platform, channel, actor: author.clone() } }
        }
        Some(session) => {
            let found = core.ports.store.session(scope, session).await?;
            let found =
                found.ok_or_else(|| ApiError::new(ErrorCode::SessionNotFound, "there is no such session"))?;
            if found.agent != agent {
                let text = format!("{session} does not belong to the agent that `model` names");
                return Err(ApiError::invalid_request(text).at_field("model"));
            }
            InputTarget::Session(session)
        }
    };
    let ConversationInput { history, answers, parts } = asked.said;
    let offer = asked.offer;
    let declares = answers.is_none() && !offer.tools.is_empty();
    let input = NewInput { target, author, history, answers, offer, call: None, parts, key, wait: false };
    let bringer = Submitter::from_caller(caller, &input.author);
    let submitted = ingress::submit_input(core, bringer, scope.clone(), input).await;
    let submitted = submitted.map_err(|failure| locate_error(core, declares, failure))?;
    Ok((agent, submitted, words))
}

/// Names the place of what the engine found wrong; `declares` says whether the client declared tools.
pub(super) fn locate_error(core: &GatewayCore, declares: bool, failure: ApiError) -> ApiError {
    if declares && failure.code() == ErrorCode::InvalidRequest {
        // What only the engine knows of: a name that the agent has.
        return failure.at_field("tools");
    }
    if failure.code() == ErrorCode::AgentNotFound {
        // The agent was deleted since its handle was looked up; the next request looks again.
        core.agents.forget_all();
        return no_such_agent().at_field("model");
    }
    failure
}

/// Digests what is asked, of whom and by whom. In which form the answer is wanted does not belong to it.
fn request_digest(
    author: &Actor,
    agent: AgentId,
    session: Option<SessionId>,
    asked: &CompatRequest,
) -> Digest {
    let said = (&asked.said.history, &asked.said.parts);
    // A request without tools and results has the digest of the input alone.
    let brought = (asked.said.answers.is_some() || !asked.offer.is_empty())
        .then_some((&asked.said.answers, &asked.offer));
    let request = (asked.platform, author, agent, session, said);
    // Strings, numbers and ids only, so serialization has no failing case.
    let bytes = match brought {
        None => serde_json::to_vec(&request),
        Some(brought) => serde_json::to_vec(&(request, brought)),
    };
    let bytes = bytes.unwrap_or_default();
    Digest::from_bytes(*blake3::hash(&bytes).as_bytes())
}

/// Waits for the run that takes the item at a place of a session's inbox; `None` if the wait ends first. Where the agent
/// ends first, no run will.
async fn taken_by(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    (session, position): (SessionId, u64),
    deadline: Instant,
    stop: &CancellationToken,
) -> Answer<Option<RunId>> {
    let inbox = InboxOwner::Session(session);
    loop {
        // The agent first: once it has ended nothing more is taken, so what is read then stays so.
        let ended = has_ended(core, scope, agent).await?;
        let found = core.ports.store.inbox_items(scope, inbox, position.saturating_sub(1), 1).await?;
        if let Some(run) = found.first().and_then(|item| item.taken_by) {
            return Ok(Some(run));
        }
        if ended {
            let text = "the input gets no answer: its agent was terminated or erased before a turn took the \
                        input";
            return Err(ApiError::new(ErrorCode::AgentTerminated, text)
                .with_hint("create another agent with `dromia agent create` and send the input to it"));
        }
        if Instant::now() >= deadline || timeout(QUEUE_REST, stop.cancelled()).await.is_ok() {
            return Ok(None);
        }
    }
}

/// Tells whether an agent takes no more input. One that is being erased is not found.
async fn has_ended(core: &GatewayCore, scope: &Scope, agent: AgentId) -> Answer<bool> {
    let agent = core.ports.store.agent(scope, agent).await?;
    Ok(agent.is_none_or(|agent| matches!(agent.state, AgentState::Terminated | AgentState::Deleting)))
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
            Some(ListenerEvent::Began(_) | ListenerEvent::Text(_) | ListenerEvent::Quiet) => {}
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
    request: RequestId,
    talk: Option<PendingConversation>,
) -> Response {
    let state = (core, listener, format, share, request, talk);
    let pieces =
        stream::unfold(state, |(core, mut listener, mut format, share, request, mut talk)| async move {
            let text = match listener.next_event().await? {
                ListenerEvent::Began(at) => format.write_start(at),
                ListenerEvent::Text(piece) => format.write_text(&piece),
                ListenerEvent::Quiet => ": keep-alive\n\n".to_owned(),
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

/// Names the session and the run of an answer.
fn set_run_headers(headers: &mut HeaderMap, session: SessionId, run: Option<RunId>) {
    let mut put = |header: &'static str, id: String| {
        // The text form of an id is plain ASCII.
        if let Ok(value) = HeaderValue::from_str(&id) {
            headers.insert(header, value);
        }
    };
    put(SESSION_HEADER, session.to_string());
    if let Some(run) = run {
        put(RUN_HEADER, run.to_string());
    }
}

impl FromRequestParts<Shared> for RequestHeads {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let text = |header: &str| {
            let value = parts.headers.get(header)?;
            Some(value.to_str().map_err(|_| ApiError::invalid_request(format!("{header} is not plain text"))))
        };
        let session = match text(SESSION_HEADER).transpose()? {
            Some(session) => Some(crate::extract::parse_id(session)?),
            None => None,
        };
        let wait_ms = match text(WAIT_HEADER).transpose()? {
            Some(wait) => {
                wait.parse().ok().filter(|wait| (1..=WAIT_MS_MAX).contains(wait)).ok_or_else(|| {
                    ApiError::invalid_request(format!("{WAIT_HEADER} must be from 1 to {WAIT_MS_MAX}"))
                })?
            }
            None => WAIT_MS_MAX,
        };
        let wait = Duration::from_millis(wait_ms);
        let key = IdempotencyKey::from_request_parts(parts, core).await?;
        let spender = parts.extensions.get::<RequestPayer>().copied();
        let spender = spender
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no tenant to charge"))?;
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { session, key, wait, spender, request })
    }
}
