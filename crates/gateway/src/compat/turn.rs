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
use dromia_contracts::client::Offer;
use dromia_contracts::content::InputMessage;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{NewInput, Submitted, Target};
use dromia_contracts::session::{InboxOwner, SessionKey};
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, RunId, Scope, SessionId};
use futures_util::stream;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::history::Said;
use super::listen::{Answered, Listener, Patience, Word};
use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::failure::{Answer, Failure};
use crate::ingress::{self, Bringer};
use crate::request::RequestId;
use crate::routes::agent::no_such_agent;
use crate::routes::event::{IdempotencyKey, named_agent};
use crate::share::{Share, Spender};
use crate::standing::Standing;

/// How long to rest before an input that waits behind another turn is looked at again.
const QUEUE_REST: Duration = Duration::from_millis(100);

/// What a request asks for, in our words.
#[derive(Debug)]
pub(super) struct Asked {
    /// The platform of a session that is opened for it.
    pub(super) platform: &'static str,
    /// The agent, by its handle or id.
    pub(super) model: String,
    /// What is said.
    pub(super) said: Said,
    /// What the client offers to the model.
    pub(super) offer: Offer,
    /// Whether the answer is wanted in pieces.
    pub(super) stream: bool,
}

impl Asked {
    /// What would be stored of it.
    pub(super) fn body(self, author: &Actor) -> InputBody {
        let Said { history, answers, parts } = self.said;
        let message = InputMessage { author: author.clone(), parts, hops: 0 };
        InputBody { history, answers, offer: self.offer, call: None, message }
    }
}

/// What the headers of a request say.
pub(crate) struct Heads {
    pub(super) session: Option<SessionId>,
    key: IdempotencyKey,
    wait: Duration,
    spender: Spender,
    request: RequestId,
}

/// The run that answers.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) run: RunId,
    /// The model as the client named it.
    pub(super) model: String,
}

/// How one API writes an answer.
pub(super) trait Format: Send + Sync + 'static {
    /// Writes a whole answer.
    fn whole(&self, answered: &Answered) -> serde_json::Value;
    /// Writes what comes before the text.
    fn began(&mut self, at: Timestamp) -> String;
    /// Writes a piece of text.
    fn text(&mut self, piece: &str) -> String;
    /// Writes what comes after the text, the last byte included.
    fn answered(&mut self, answered: &Answered) -> String;
    /// Writes the failure that ends the stream.
    fn broken(&mut self, failure: &Failure, request_id: &str) -> String;
}

/// Stores what is asked and answers it.
pub(super) async fn answer<F: Format>(
    core: Shared,
    caller: Caller,
    heads: Heads,
    asked: Asked,
    format: impl FnOnce(Running) -> F,
) -> Answer<Response> {
    // Before anything is stored: who is refused here has asked for nothing.
    let share = asked.stream.then(|| Share::stream(&core, heads.spender)).transpose()?;
    let scope = caller.scope.clone();
    let deadline = Instant::now() + heads.wait;
    let (model, request) = (asked.model.clone(), heads.request.clone());
    let (agent, submitted) = submit(&core, &caller, heads, asked).await?;
    let Submitted { item, session, position, run, .. } = submitted;
    let stop = if share.is_some() { &core.phase.closing } else { &core.phase.hurry };
    let run = match run {
        Some(run) => Some(run),
        None => taken_by(&core, &scope, agent, (session, position), deadline, stop).await?,
    };
    let Some(run) = run else {
        let text =
            format!("{item} waits in {session} behind another turn, or for its agent; it is answered there");
        let mut response = Failure::new(ErrorCode::RunUnfinished, text).into_response();
        name(response.headers_mut(), session, None);
        return Ok(response);
    };
    let live = share.is_some();
    let standing = live.then(|| Standing::new(caller));
    let patience = Patience { live, until: (!live).then_some(deadline), stop: stop.clone(), standing };
    let listener = Listener::new(core.clone(), scope, run, patience);
    let format = format(Running { run, model });
    let mut response = match share {
        Some(share) => streamed(core, listener, format, share, request),
        None => whole(&core, listener, &format).await.unwrap_or_else(IntoResponse::into_response),
    };
    name(response.headers_mut(), session, Some(run));
    Ok(response)
}

async fn submit(core: &Core, caller: &Caller, heads: Heads, asked: Asked) -> Answer<(AgentId, Submitted)> {
    let scope = &caller.scope;
    let agent = named_agent(core, scope, &asked.model).await.map_err(|failure| failure.at("model"))?;
    let author = scope.actor().clone();
    let request = request_digest(&author, agent, heads.session, &asked);
    let target = match heads.session {
        None => {
            let channel = core.ports.runtime.ids.uuid().simple().to_string();
            let platform = asked.platform.to_owned();
            Target::Fresh { agent, key: SessionKey { platform, channel, actor: author.clone() } }
        }
        Some(session) => {
            let found = core.ports.store.session(scope, session).await?;
            let found = found.ok_or_else(|| Failure::new(ErrorCode::SessionNotFound, "no such session"))?;
            if found.agent != agent {
                let text = format!("{session} belongs to another agent than the one that `model` names");
                return Err(Failure::invalid(text).at("model"));
            }
            Target::Session(session)
        }
    };
    let Said { history, answers, parts } = asked.said;
    let (key, offer) = (heads.key.of_request(request), asked.offer);
    let declares = answers.is_none() && !offer.tools.is_empty();
    let input = NewInput { target, author, history, answers, offer, call: None, parts, key, wait: false };
    let bringer = Bringer::of(caller, &input.author);
    let submitted = ingress::submit(core, bringer, scope.clone(), input).await;
    let submitted = submitted.map_err(|failure| declared(core, declares, failure))?;
    Ok((agent, submitted))
}

/// Names the place of what the engine found wrong; `declares` says whether the client brought tools along.
pub(super) fn declared(core: &Core, declares: bool, failure: Failure) -> Failure {
    if declares && failure.code() == ErrorCode::InvalidRequest {
        // What only the engine knows of: a name that the agent has.
        return failure.at("tools");
    }
    if failure.code() == ErrorCode::AgentNotFound {
        // The agent was deleted since its handle was looked up; the next request looks again.
        core.agents.forget_all();
        return no_such_agent().at("model");
    }
    failure
}

/// Digests what is asked, of whom and by whom. In which form the answer is wanted does not belong to it.
fn request_digest(author: &Actor, agent: AgentId, session: Option<SessionId>, asked: &Asked) -> Digest {
    let said = (&asked.said.history, &asked.said.parts);
    // A request that brings nothing along keeps the digest that it had before clients could.
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
    core: &Core,
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
        let found = core.ports.store.inbox(scope, inbox, position.saturating_sub(1), 1).await?;
        if let Some(run) = found.first().and_then(|item| item.taken_by) {
            return Ok(Some(run));
        }
        if ended {
            let text = "the input gets no answer: its agent was terminated or erased before a turn took it";
            return Err(Failure::new(ErrorCode::AgentTerminated, text)
                .with_hint("create another agent with `dromia agent create` and send it there"));
        }
        if Instant::now() >= deadline || timeout(QUEUE_REST, stop.cancelled()).await.is_ok() {
            return Ok(None);
        }
    }
}

/// Tells whether an agent takes no more input. One that is being erased is not found.
async fn has_ended(core: &Core, scope: &Scope, agent: AgentId) -> Answer<bool> {
    let agent = core.ports.store.agent(scope, agent).await?;
    Ok(agent.is_none_or(|agent| matches!(agent.state, AgentState::Terminated | AgentState::Deleting)))
}

/// Collects the whole answer.
async fn whole(core: &Core, mut listener: Listener, format: &impl Format) -> Answer<Response> {
    loop {
        match listener.word().await {
            Some(Word::Began(_) | Word::Text(_) | Word::Quiet) => {}
            Some(Word::Answered(answered)) => {
                core.meters.answered(answered.usage);
                return Ok(axum::Json(format.whole(&answered)).into_response());
            }
            Some(Word::Broken(failure)) => return Err(failure),
            None => return Err(Failure::new(ErrorCode::Internal, "the answer has no end")),
        }
    }
}

/// Sends the answer as it comes; nothing is listened to before the connection took what came before. A failure names the
/// request as the headers do.
fn streamed<F: Format>(
    core: Shared,
    listener: Listener,
    format: F,
    share: Share,
    request: RequestId,
) -> Response {
    let state = (core, listener, format, share, request);
    let pieces = stream::unfold(state, |(core, mut listener, mut format, share, request)| async move {
        let text = match listener.word().await? {
            Word::Began(at) => format.began(at),
            Word::Text(piece) => format.text(&piece),
            Word::Quiet => ": keep-alive\n\n".to_owned(),
            Word::Answered(answered) => {
                core.meters.answered(answered.usage);
                format.answered(&answered)
            }
            Word::Broken(failure) => {
                failure.log(request.as_str());
                format.broken(&failure, request.as_str())
            }
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (core, listener, format, share, request)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Names the session and the run of an answer.
fn name(headers: &mut HeaderMap, session: SessionId, run: Option<RunId>) {
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

impl FromRequestParts<Shared> for Heads {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let text = |header: &str| {
            let value = parts.headers.get(header)?;
            Some(value.to_str().map_err(|_| Failure::invalid(format!("{header} is no plain text"))))
        };
        let session = match text(SESSION_HEADER).transpose()? {
            Some(session) => Some(crate::extract::id(session)?),
            None => None,
        };
        let wait_ms = match text(WAIT_HEADER).transpose()? {
            Some(wait) => {
                wait.parse().ok().filter(|wait| (1..=WAIT_MS_MAX).contains(wait)).ok_or_else(|| {
                    Failure::invalid(format!("{WAIT_HEADER} must be from 1 to {WAIT_MS_MAX}"))
                })?
            }
            None => WAIT_MS_MAX,
        };
        let wait = Duration::from_millis(wait_ms);
        let key = IdempotencyKey::from_request_parts(parts, core).await?;
        let spender = parts.extensions.get::<Spender>().copied().unwrap_or(Spender(None));
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { session, key, wait, spender, request })
    }
}
