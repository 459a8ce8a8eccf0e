//! `POST /v1/events`: somebody says something to an agent. The hot path of the server.
//!
//! The answer follows durability: 202 says that the input is stored, and so does every answer after a wait that
//! ended early. A client that goes away while it waits takes nothing back.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use dromia_api::event::{EventAnswered, PLATFORM_DEFAULT, SendEvent, WAIT_MS_DEFAULT, WAIT_MS_MAX};
use dromia_api::{IDEMPOTENCY_HEADER, IDEMPOTENCY_KEY_BYTES_MAX};
use dromia_contracts::agent::Handle;
use dromia_contracts::client::Offer;
use dromia_contracts::content::{Part, parts_text};
use dromia_contracts::delivery::WEBHOOK;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{NewInput, Outcome, Submitted, Target};
use dromia_contracts::session::{IMPORT, SessionKey};
use dromia_contracts::store::{ItemKey, KeyLifetime, Page};
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, Fault, Scope};
use dromia_contracts::{approval, task};
use tokio::time::sleep;

use crate::caller::{Caller, author};
use crate::core::{Core, Shared};
use crate::extract::JsonBody;
use crate::failure::{Answer, Failure};
use crate::ingress::{self, Bringer};
use crate::wire;

/// The longest platform, channel or actor, in bytes.
const NAME_BYTES_MAX: usize = 128;

pub(crate) async fn send(
    State(core): State<Shared>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBody(event): JsonBody<SendEvent>,
) -> Answer<Response> {
    let wait = checked(&event)?;
    let author = author(&caller.scope, event.actor.as_deref());
    let key = key.of_request(request_digest(&event, &author));
    let target = target(&core, &caller.scope, &event, &author).await?;
    let by_handle = !matches!(target, Target::Session(_));
    let input = NewInput {
        target,
        author,
        history: Vec::new(),
        answers: None,
        offer: Offer::default(),
        call: None,
        parts: vec![Part::text(event.text, Label::ACTOR_TEXT)],
        key,
        wait: wait.is_some(),
    };
    let bringer = Bringer::of(&caller, &input.author);
    let submitted = ingress::submit(&core, bringer, caller.scope, input).await.inspect_err(|failure| {
        // The agent was deleted since its handle was looked up; the next request looks again.
        if by_handle && failure.code() == ErrorCode::AgentNotFound {
            core.agents.forget_all();
        }
    })?;
    Ok(match wait {
        None => accepted(&submitted),
        Some(wait) => answered(&core, submitted, wait).await,
    })
}

pub(super) fn accepted(submitted: &Submitted) -> Response {
    (StatusCode::ACCEPTED, Json(wire::accepted(submitted))).into_response()
}

/// Waits for the run that takes the input, and tells how it ended.
async fn answered(core: &Core, mut submitted: Submitted, wait: Duration) -> Response {
    let outcome = match waited(core, &mut submitted, wait).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => return accepted(&submitted),
        Err(failure) => return failure.into_response(),
    };
    let accepted = wire::accepted(&submitted);
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
        failure: outcome.failure.map(wire::failure),
    })
    .into_response()
}

/// Waits for the run that takes an input. Whatever ends the wait first, the input stays accepted and there is no outcome;
/// only where its agent has ended is that a problem, because no answer will ever come.
pub(crate) async fn waited(
    core: &Core,
    submitted: &mut Submitted,
    wait: Duration,
) -> Answer<Option<Outcome>> {
    let Some(outcome) = submitted.outcome.take() else {
        return Ok(None);
    };
    let ended: Option<Result<Outcome, Fault>> = tokio::select! {
        biased;
        ended = outcome => Some(ended),
        () = sleep(wait) => None,
        () = core.phase.hurry.cancelled() => None,
    };
    match ended {
        None => Ok(None),
        // The agent has ended, so this input will never be answered: who goes on to wait does so in vain.
        Some(Err(fault)) if fault.code == ErrorCode::AgentTerminated => Err(Failure::from(fault)),
        Some(Err(fault)) => {
            tracing::warn!(
                code = fault.code.as_str(),
                detail = fault.message,
                "a wait ended without its outcome"
            );
            Ok(None)
        }
        Some(Ok(outcome)) => {
            core.meters.answered(outcome.head.usage);
            Ok(Some(outcome))
        }
    }
}

/// Checks what needs no look at anything else; returns how long to wait, if somebody waits.
pub(crate) fn checked(event: &SendEvent) -> Answer<Option<Duration>> {
    let wait = checked_wait(event.wait, event.wait_ms)?;
    for (field, name) in [("platform", &event.platform), ("channel", &event.channel), ("actor", &event.actor)]
    {
        checked_name(field, name.as_deref())?;
    }
    if event.text.trim().is_empty() {
        return Err(Failure::invalid("`text` is empty"));
    }
    if event.session.is_some() {
        let others = [&event.agent, &event.platform, &event.channel, &event.actor];
        if others.iter().any(|other| other.is_some()) {
            return Err(Failure::invalid(
                "`session` stands alone, without agent, platform, channel and actor",
            ));
        }
    }
    if event.platform.as_deref() == Some(WEBHOOK) {
        return Err(Failure::invalid(format!(
            "`platform` {WEBHOOK} belongs to the channels of dromia.yaml, whose senders sign what they say"
        )));
    }
    if event.platform.as_deref() == Some(task::PLATFORM) {
        let text = format!("`platform` {} belongs to the tasks of agents", task::PLATFORM);
        return Err(Failure::invalid(text).with_hint("give an agent a task with POST /v1/agents/NAME/spawn"));
    }
    if event.platform.as_deref() == Some(approval::PLATFORM) {
        return Err(Failure::invalid(format!(
            "`platform` {} belongs to calls that were approved",
            approval::PLATFORM
        )));
    }
    if event.platform.as_deref() == Some(IMPORT) {
        let text = format!("`platform` {IMPORT} belongs to sessions that came as files");
        return Err(Failure::invalid(text).with_hint("name the session with `session`"));
    }
    Ok(wait)
}

/// Reads how long to wait, if somebody waits.
pub(crate) fn checked_wait(wait: bool, wait_ms: Option<u64>) -> Answer<Option<Duration>> {
    let wait_ms = wait_ms.unwrap_or(WAIT_MS_DEFAULT);
    if !(1..=WAIT_MS_MAX).contains(&wait_ms) {
        return Err(Failure::invalid(format!("`wait_ms` must be from 1 to {WAIT_MS_MAX}, and is {wait_ms}")));
    }
    Ok(wait.then(|| Duration::from_millis(wait_ms)))
}

fn checked_name(field: &str, name: Option<&str>) -> Answer<()> {
    let Some(name) = name else { return Ok(()) };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Failure::invalid(format!(
            "`{field}` must be 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

async fn target(core: &Core, scope: &Scope, event: &SendEvent, author: &Actor) -> Answer<Target> {
    if let Some(session) = event.session {
        return Ok(Target::Session(session));
    }
    let agent = match &event.agent {
        Some(name) => named_agent(core, scope, name).await?,
        None => default_agent(core, scope).await?,
    };
    let platform = event.platform.clone().unwrap_or_else(|| PLATFORM_DEFAULT.to_owned());
    let key = |channel| SessionKey { platform, channel, actor: author.clone() };
    Ok(match &event.channel {
        Some(channel) => Target::Key { agent, key: key(channel.clone()) },
        None => Target::Fresh { agent, key: key(core.ports.runtime.ids.uuid().simple().to_string()) },
    })
}

pub(crate) async fn named_agent(core: &Core, scope: &Scope, name: &str) -> Answer<AgentId> {
    let absent = || Failure::absent(ErrorCode::AgentNotFound, "agent", name);
    match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => match name.parse() {
            Ok(handle) => agent_by_handle(core, scope, handle).await.map_err(|failure| {
                if failure.code() == ErrorCode::AgentNotFound { absent() } else { failure }
            }),
            Err(_) => Err(absent()),
        },
    }
}

async fn default_agent(core: &Core, scope: &Scope) -> Answer<AgentId> {
    let Some(handle) = &core.config.default_agent else {
        return Err(Failure::invalid("`agent` is absent and the server has no default agent"));
    };
    match agent_by_handle(core, scope, handle.clone()).await {
        Err(failure) if failure.code() == ErrorCode::AgentNotFound => {
            Err(no_default(core, scope, handle).await?)
        }
        found => found,
    }
}

/// Says why nobody answers where no agent is named.
async fn no_default(core: &Core, scope: &Scope, handle: &Handle) -> Answer<Failure> {
    let is_empty = core.ports.store.agents(scope, None, Page::first(1)).await?.is_empty();
    let (text, hint) = if is_empty {
        (
            "the tenant has no agent yet".to_owned(),
            format!(
                "make one in the same tenant: `dromia agent create {handle} --grant model --grant reply`"
            ),
        )
    } else {
        (
            format!("no agent was named, and there is no {handle}, which answers then"),
            "name one with --agent; `dromia agent list` lists them".to_owned(),
        )
    };
    Ok(Failure::new(ErrorCode::AgentNotFound, text).with_hint(hint))
}

async fn agent_by_handle(core: &Core, scope: &Scope, handle: Handle) -> Answer<AgentId> {
    let key = (scope.tenant(), handle);
    if let Some(agent) = core.agents.get(&key) {
        return Ok(agent);
    }
    let found = core.ports.store.agent_by_handle(scope, &key.1).await?;
    let agent = found.ok_or_else(super::agent::no_such_agent)?.id;
    core.agents.put(key, agent);
    Ok(agent)
}

/// Digests what is asked and by whom. How the answer is awaited does not belong to it, so a retry may wait longer.
fn request_digest(event: &SendEvent, author: &Actor) -> Digest {
    let canonical = SendEvent { wait: false, wait_ms: None, ..event.clone() };
    // Strings and an id only, so serialization has no failing case.
    let bytes = serde_json::to_vec(&(author, canonical)).unwrap_or_default();
    Digest::from_bytes(*blake3::hash(&bytes).as_bytes())
}

/// The `Idempotency-Key` header.
pub(crate) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// Makes the key of the item that a request becomes.
    pub(crate) fn of_request(self, request: Digest) -> Option<ItemKey> {
        self.0.map(|key| ItemKey { key: format!("http:{key}"), request, lifetime: KeyLifetime::Day })
    }
}

impl FromRequestParts<Shared> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_HEADER) else {
            return Ok(Self(None));
        };
        let key = value.to_str().ok();
        match key.filter(|key| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())) {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => Err(Failure::invalid(format!(
                "Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_what_is_asked_and_by_whom_not_of_the_wait() {
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
