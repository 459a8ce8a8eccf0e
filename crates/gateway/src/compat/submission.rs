//! How a request becomes an input: which session it is for, and the run that takes it.
//!
//! A request without a session continues the one that holds the very past which it brings, if there is one; all else
//! opens a session of its own, in which the past that the client tells is a claim.

use std::time::Duration;

use dromia_contracts::agent::AgentState;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::client::ClientToolResults;
use dromia_contracts::content::ToolResult;
use dromia_contracts::runs::{InputReceipt, InputTarget, NewInput};
use dromia_contracts::session::{InboxOwner, SessionHead, SessionKey};
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, RunId, Scope, SessionId, TenantId};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::answer_format::check_answer_format;
use super::compat_request::CompatRequest;
use super::history::{ConversationInput, HandedCalls};
use super::known_conversations::ConversationHasher;
use super::picture_fetch::resolve_pictures;
use super::request_heads::RequestHeads;
use super::run_answer::RunAnswer;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::ingress::{self, Submitter};
use crate::reserved_platforms;
use crate::routes::agent::no_such_agent;
use crate::routes::event::named_agent;

/// How long to rest before an input that waits behind another turn is looked at again.
const QUEUE_REST: Duration = Duration::from_millis(100);

/// A conversation whose words are all known once it is answered.
pub(super) struct PendingConversation {
    tenant: TenantId,
    words: ConversationHasher,
    session: SessionId,
    position: u64,
}

impl PendingConversation {
    pub(super) fn remember_answer(self, core: &GatewayCore, answered: &RunAnswer) {
        let Self { tenant, words, session, position } = self;
        core.caches.conversations.remember_session(
            tenant,
            words.digest_with_answer(answered),
            session,
            position,
        );
    }
}

/// An input that is durable.
pub(super) struct SubmittedRequest {
    pub(super) agent: AgentId,
    pub(super) receipt: InputReceipt,
    /// The conversation, if its words identify it.
    pub(super) talk: Option<PendingConversation>,
}

/// A session that holds the past of a request, and what of the request is new.
struct KnownSession {
    session: SessionId,
    said: ConversationInput,
}

/// Finds the session that holds the past which a client sends, word for word, and nothing after it. The past ends with
/// the last message of the assistant; what comes after that is new, the results of its calls too. New words end a turn,
/// and a session may show results of earlier turns as handles only: a client that sends such results whole gets a session
/// in which they are whole.
async fn find_known_session(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    said: &ConversationInput,
) -> Answer<Option<KnownSession>> {
    let ConversationInput { history, answers: None, parts, handed } = said else { return Ok(None) };
    let Some(last) = history.iter().rposition(|turn| matches!(turn, TranscriptTurn::Unit(_))) else {
        return Ok(None);
    };
    let TranscriptTurn::Unit(unit) = &history[last] else { return Ok(None) };
    let has_calls =
        |turn: &TranscriptTurn| matches!(turn, TranscriptTurn::Unit(unit) if !unit.results().is_empty());
    let is_new_turn = !parts.is_empty() || last + 1 < history.len();
    if is_new_turn && history.iter().any(has_calls) {
        return Ok(None);
    }
    let answers = match (handed, unit.results()) {
        (_, []) => None,
        (Some(handed), results) => Some(results_of_calls(handed, results)),
        // Under these names no call left this server.
        (None, _) => return Ok(None),
    };
    let words = ConversationHasher::from_conversation(scope.actor(), agent, &history[..last], &[]);
    let Some(mut words) = words else { return Ok(None) };
    if words.add_message(unit.message()).is_none() {
        return Ok(None);
    }
    let Some((session, position)) = core.caches.conversations.take_session(scope.tenant(), words.digest())
    else {
        return Ok(None);
    };
    let holds_no_more = |head: SessionHead| head.last == position && head.taken == position;
    let found = core.ports.store.session(scope, session).await?;
    if !found.is_some_and(|found| found.agent == agent && holds_no_more(found.head)) {
        return Ok(None);
    }
    if let Some(answers) = &answers {
        let run = core.ports.store.run(scope, answers.run).await?;
        if run.is_none_or(|run| run.session != session) {
            return Ok(None);
        }
    }
    let history = history[last + 1..].to_vec();
    let said = ConversationInput { history, answers, parts: parts.clone(), handed: None };
    Ok(Some(KnownSession { session, said }))
}

/// Gives the results of a history's last calls the names under which the calls left this server.
fn results_of_calls(handed: &HandedCalls, results: &[ToolResult]) -> ClientToolResults {
    let named = handed.calls.iter().zip(results);
    let results = named.map(|(call, result)| ToolResult { call: *call, ..result.clone() }).collect();
    ClientToolResults { run: handed.run, results }
}

/// Stores what is asked, in the session that it is for.
pub(super) async fn submit_request(
    core: &Shared,
    caller: &Caller,
    heads: RequestHeads,
    mut asked: CompatRequest,
) -> Answer<SubmittedRequest> {
    let scope = &caller.scope;
    let agent = named_agent(core, scope, &asked.model).await.map_err(|failure| failure.at_field("model"))?;
    let author = scope.actor().clone();
    if let Some(format) = &asked.offer.wishes.answer {
        check_answer_format(core, scope.tenant(), (asked.answer_field, format)).await?;
    }
    let request = request_digest(&author, agent, heads.session, &asked);
    let key = heads.key.of_request(request);
    let (mut words, mut session) = (None, heads.session);
    if session.is_none() {
        words = ConversationHasher::from_conversation(&author, agent, &asked.said.history, &asked.said.parts);
        // A retry under a key joins the item of the first request, which must be where it was.
        if key.is_none()
            && let Some(known) = find_known_session(core, scope, agent, &asked.said).await?
        {
            (session, asked.said) = (Some(known.session), known.said);
        }
    }
    let target = match session {
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
    let bringer = Submitter::from_caller(caller, &author);
    if let InputTarget::Session(session) = target {
        reserved_platforms::check_session(core, scope, session).await?;
    }
    let leave = ingress::acquire_rate_permit(core, bringer, scope, &author, key.as_ref()).await?;
    resolve_pictures(core, scope, agent, key.as_ref(), &mut asked.said).await?;
    let ConversationInput { history, answers, parts, .. } = asked.said;
    let offer = asked.offer;
    let declares = answers.is_none() && !offer.tools.is_empty();
    let input = NewInput {
        target,
        author,
        history,
        answers,
        offer,
        call: None,
        workspace: None,
        // A client of another API expects the answer to its own request, and not the rest of another one.
        when_busy: Some(BusyPolicy::FollowUp),
        parts,
        key,
        wait: false,
    };
    let submitted = leave.submit(core, scope.clone(), input).await;
    let receipt = submitted.map_err(|failure| locate_error(core, declares, failure))?;
    let (tenant, session, position) = (scope.tenant(), receipt.session, receipt.position);
    let talk = words.map(|words| PendingConversation { tenant, words, session, position });
    Ok(SubmittedRequest { agent, receipt, talk })
}

/// Names the place of what the engine found wrong; `declares` says whether the client declared tools.
pub(super) fn locate_error(core: &GatewayCore, declares: bool, failure: ApiError) -> ApiError {
    if declares && failure.code() == ErrorCode::InvalidRequest {
        // What only the engine knows of: a name that the agent has.
        return failure.at_field("tools");
    }
    if failure.code() == ErrorCode::AgentNotFound {
        // The agent was deleted since its handle was looked up; the next request looks again.
        core.caches.agents.forget_all();
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
pub(super) async fn taken_by(
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
