//! `POST /v1/events`: an actor says something to an agent. The hot path of the server.
//!
//! The answer follows durability: 202 says that the input is stored, and so does every answer after a wait that
//! ended early. A client that goes away while it waits takes nothing back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::event::{EventAnswered, PLATFORM_DEFAULT, SendEvent, WAIT_MS_DEFAULT, WAIT_MS_MAX};
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::label::Label;
use dromia_contracts::runs::{InputReceipt, InputTarget, NewInput, RunOutcome};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::PageRequest;
use dromia_contracts::token::TokenScope;
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, Fault, Scope};
use tokio::time::sleep;

use super::agent::absent_agent;
use crate::caller::{Caller, input_author};
use crate::core::{GatewayCore, Shared};
use crate::extract::JsonBody;
use crate::failure::{Answer, ApiError};
use crate::idempotency_key::IdempotencyKey;
use crate::ingress::{self, Submitter};
use crate::{reserved_platforms, wire};

/// The longest platform, channel or actor, in bytes.
const NAME_BYTES_MAX: usize = 128;

pub(crate) async fn send_event(
    State(core): State<Shared>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBody(event): JsonBody<SendEvent>,
) -> Answer<Response> {
    let wait = check_event(&event)?;
    if event.workspace.is_some() {
        // As for a change of the agent's own workspace.
        caller.must_have(TokenScope::Admin)?;
    }
    let author = input_author(&caller.scope, event.actor.as_deref());
    let key = key.of_request(request_digest(&event, &author));
    let target = find_target(&core, &caller.scope, &event, &author).await?;
    let by_handle = !matches!(target, InputTarget::Session(_));
    let input = NewInput {
        target,
        author,
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        call: None,
        workspace: event.workspace,
        when_busy: event.when_busy,
        parts: vec![ContentPart::new_text(event.text, Label::ACTOR_TEXT)],
        key,
        wait: wait.is_some(),
    };
    let bringer = Submitter::from_caller(&caller, &input.author);
    let submitted =
        ingress::submit_input(&core, bringer, caller.scope, input).await.inspect_err(|failure| {
            // The agent was deleted since its handle was looked up; the next request looks again.
            if by_handle && failure.code() == ErrorCode::AgentNotFound {
                core.caches.agents.forget_all();
            }
        })?;
    Ok(match wait {
        None => accepted_response(&submitted),
        Some(wait) => answered_response(&core, submitted, wait).await,
    })
}

pub(super) fn accepted_response(submitted: &InputReceipt) -> Response {
    (StatusCode::ACCEPTED, Json(wire::event_accepted(submitted))).into_response()
}

/// Waits for the run that takes the input, and tells how it ended.
async fn answered_response(core: &GatewayCore, mut submitted: InputReceipt, wait: Duration) -> Response {
    let outcome = match wait_for_outcome(core, &mut submitted, wait).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => return accepted_response(&submitted),
        Err(failure) => return failure.into_response(),
    };
    let accepted = wire::event_accepted(&submitted);
    Json(EventAnswered {
        item: accepted.item,
        session: accepted.session,
        position: accepted.position,
        run: outcome.run,
        replayed: accepted.replayed,
        status: outcome.head.status,
        reply: outcome.reply.as_deref().map(parts_text),
        last_seq: outcome.last_seq,
        model_calls: outcome.head.model_calls,
        usage: outcome.head.usage,
        cost_micros: outcome.head.cost_micros,
        unpriced_calls: outcome.head.unpriced_calls,
        failure: outcome.failure.map(wire::api_failure),
    })
    .into_response()
}

/// Waits for the run that takes an input. Whatever ends the wait first, the input stays accepted and there is no outcome;
/// only where its agent has ended is that a problem, because no answer will ever come.
pub(crate) async fn wait_for_outcome(
    core: &GatewayCore,
    submitted: &mut InputReceipt,
    wait: Duration,
) -> Answer<Option<RunOutcome>> {
    let Some(outcome) = submitted.outcome.take() else {
        return Ok(None);
    };
    let ended: Option<Result<RunOutcome, Fault>> = tokio::select! {
        biased;
        ended = outcome => Some(ended),
        () = wait_for_caller(core, wait) => None,
        () = core.phase.hurry.cancelled() => None,
    };
    match ended {
        None => Ok(None),
        // The agent has ended, so this input will never be answered: who goes on to wait does so in vain.
        Some(Err(fault)) if fault.code == ErrorCode::AgentTerminated => Err(ApiError::from(fault)),
        Some(Err(fault)) => {
            tracing::warn!(
                code = fault.code.as_str(),
                detail = fault.message,
                "a wait ended without its result"
            );
            Ok(None)
        }
        Some(Ok(outcome)) => Ok(Some(outcome)),
    }
}

/// Waits as long as the caller would. A caller that gets "accepted" from a server that stops cannot come back for the
/// answer, so then the wait goes on until all waits end.
async fn wait_for_caller(core: &GatewayCore, wait: Duration) {
    sleep(wait).await;
    if core.phase.closing.is_cancelled() {
        core.phase.hurry.cancelled().await;
    }
}

/// Checks what needs no look at anything else; returns how long to wait, if the caller waits.
pub(crate) fn check_event(event: &SendEvent) -> Answer<Option<Duration>> {
    let wait = checked_wait(event.wait, event.wait_ms)?;
    for (field, name) in [("platform", &event.platform), ("channel", &event.channel), ("actor", &event.actor)]
    {
        checked_name(field, name.as_deref())?;
    }
    if event.text.trim().is_empty() {
        return Err(ApiError::invalid_request("`text` is empty"));
    }
    if event.session.is_some() {
        let others = [&event.agent, &event.platform, &event.channel, &event.actor];
        if others.iter().any(|other| other.is_some()) {
            return Err(ApiError::invalid_request("`session` excludes agent, platform, channel and actor"));
        }
    }
    if let Some(platform) = &event.platform {
        reserved_platforms::may_open(platform)?;
    }
    Ok(wait)
}

/// Reads how long to wait, if the caller waits.
pub(crate) fn checked_wait(wait: bool, wait_ms: Option<u64>) -> Answer<Option<Duration>> {
    let wait_ms = wait_ms.unwrap_or(WAIT_MS_DEFAULT);
    if !(1..=WAIT_MS_MAX).contains(&wait_ms) {
        return Err(ApiError::invalid_request(format!(
            "`wait_ms` must be from 1 to {WAIT_MS_MAX}, and is {wait_ms}"
        )));
    }
    Ok(wait.then(|| Duration::from_millis(wait_ms)))
}

fn checked_name(field: &str, name: Option<&str>) -> Answer<()> {
    let Some(name) = name else { return Ok(()) };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::invalid_request(format!(
            "`{field}` must be 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

async fn find_target(
    core: &GatewayCore,
    scope: &Scope,
    event: &SendEvent,
    author: &Actor,
) -> Answer<InputTarget> {
    if let Some(session) = event.session {
        return Ok(InputTarget::Session(session));
    }
    let agent = match &event.agent {
        Some(name) => named_agent(core, scope, name).await?,
        None => default_agent(core, scope).await?,
    };
    let platform = event.platform.clone().unwrap_or_else(|| PLATFORM_DEFAULT.to_owned());
    let key = |channel| SessionKey { platform, channel, actor: author.clone() };
    Ok(match &event.channel {
        Some(channel) => InputTarget::Key { agent, key: key(channel.clone()) },
        None => {
            InputTarget::Fresh { agent, key: key(core.ports.runtime.ids.new_uuid().simple().to_string()) }
        }
    })
}

pub(crate) async fn named_agent(core: &GatewayCore, scope: &Scope, name: &str) -> Answer<AgentId> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let found = match name.parse() {
        Ok(handle) => agent_by_handle(core, scope, handle).await,
        Err(_) => return Err(absent_agent(core, scope, name).await?),
    };
    match found {
        Err(failure) if failure.code() == ErrorCode::AgentNotFound => {
            Err(absent_agent(core, scope, name).await?)
        }
        found => found,
    }
}

async fn default_agent(core: &GatewayCore, scope: &Scope) -> Answer<AgentId> {
    let live = core.live();
    let Some(handle) = &live.default_agent else {
        return Err(ApiError::invalid_request("`agent` is absent and the server has no default agent"));
    };
    match agent_by_handle(core, scope, handle.clone()).await {
        Err(failure) if failure.code() == ErrorCode::AgentNotFound => {
            Err(no_default(core, scope, handle).await?)
        }
        found => found,
    }
}

/// Says why no agent answers where none is named.
async fn no_default(core: &GatewayCore, scope: &Scope, handle: &HandleSlug) -> Answer<ApiError> {
    let is_empty = core.ports.store.agents(scope, None, PageRequest::first_page(1)).await?.is_empty();
    let (text, hint) = if is_empty {
        (
            "the tenant has no agent".to_owned(),
            format!(
                "create one in the same tenant: `dromia agent create {handle} --grant model --grant reply`"
            ),
        )
    } else {
        (
            format!("the request names no agent, and the default agent {handle} does not exist"),
            "name one with --agent; `dromia agent list` lists them".to_owned(),
        )
    };
    Ok(ApiError::new(ErrorCode::AgentNotFound, text).with_hint(hint))
}

async fn agent_by_handle(core: &GatewayCore, scope: &Scope, handle: HandleSlug) -> Answer<AgentId> {
    let key = (scope.tenant(), handle);
    if let Some(agent) = core.caches.agents.get(&key) {
        return Ok(agent);
    }
    let found = core.ports.store.agent_by_handle(scope, &key.1).await?;
    let agent = found.ok_or_else(super::agent::no_such_agent)?.id;
    core.caches.agents.put(key, agent);
    Ok(agent)
}

/// Digests what is asked and by whom. How the answer is awaited does not belong to it, so a retry may wait longer.
fn request_digest(event: &SendEvent, author: &Actor) -> Digest {
    let canonical = SendEvent { wait: false, wait_ms: None, ..event.clone() };
    // Strings and an id only, so serialization has no failing case.
    let bytes = serde_json::to_vec(&(author, canonical)).unwrap_or_default();
    Digest::from_bytes(*blake3::hash(&bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_digest_covers_content_and_actor_without_the_wait() {
        let ada = Actor::new("token:ada");
        let event = SendEvent { text: "hello".into(), ..SendEvent::default() };
        let digest = request_digest(&event, &ada);
        let patient = SendEvent { wait: true, wait_ms: Some(9), ..event.clone() };
        assert_eq!(request_digest(&patient, &ada), digest);
        let other = SendEvent { text: "bye".into(), ..event.clone() };
        assert_ne!(request_digest(&other, &ada), digest);
        assert_ne!(request_digest(&event, &Actor::new("token:bob")), digest);
    }
}
