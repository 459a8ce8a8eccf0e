//! Tasks of an agent: give it one, list them, and end what it does.
//!
//! A task is an input in a session of its own, let in as an event is: 202 says that it is durable, and so does every
//! answer after a wait that ended early. How it stands is read off its session and its newest run
//! (`dromia_contracts::task`).

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::List;
use dromia_api::task::{KillRuns, Killed, SpawnTask, Task, TaskEnded, TaskSpawned};
use dromia_contracts::agent::{Agent, AgentState};
use dromia_contracts::capability::{CapabilityUse, NewCapability};
use dromia_contracts::client::Offer;
use dromia_contracts::content::{Part, parts_text};
use dromia_contracts::label::Label;
use dromia_contracts::run::Run;
use dromia_contracts::runs::{Kill, NewInput, Outcome, Submitted, Target};
use dromia_contracts::session::{Session, SessionKey};
use dromia_contracts::store::{ItemKey, Page, RunFilter};
use dromia_contracts::task::{PLATFORM, TaskState, Untaken};
use dromia_contracts::{Actor, AgentId, CapabilityId, Digest, Scope, SessionId};
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::event::{IdempotencyKey, checked_wait, waited};
use crate::caller::{Caller, author};
use crate::core::{Core, Shared};
use crate::extract::{JsonBody, Params, Segments, page_limit};
use crate::failure::{Answer, Failure};
use crate::ingress::{self, Bringer};
use crate::wire;

/// The most pages of sessions that one listing looks through; then it names where to go on.
const PAGES_MAX: usize = 16;

pub(crate) async fn spawn(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    key: IdempotencyKey,
    JsonBody(new): JsonBody<SpawnTask>,
) -> Answer<Response> {
    let wait = checked_wait(new.wait, new.wait_ms)?;
    if new.task.trim().is_empty() {
        return Err(Failure::invalid("`task` is empty"));
    }
    let found = super::agent::find(&core, &caller.scope, &name).await?;
    let agent = found.id;
    let author = author(&caller.scope, None);
    let key = key.of_request(request_digest(agent, &new, &author));
    // Before anything is made for it: what is refused leaves nothing, in the audit neither.
    let bringer = Bringer::of(&caller, &author);
    let leave = ingress::leave(&core, bringer, &caller.scope, &author, key.as_ref()).await?;
    let bound = match bound(&core, &caller.scope, &found, &new, key.as_ref()).await {
        Ok(bound) => bound,
        Err(failure) => {
            leave.give_back(&core, caller.scope.tenant());
            return Err(failure);
        }
    };
    // The place of a bounded task is the name of what bounds it, so no run of it is ever without.
    let channel = match bound {
        Bound::Grants => core.ports.runtime.ids.uuid().simple().to_string(),
        Bound::Made(bound) => bound.to_string(),
        Bound::Nothing => CapabilityId::from_uuid(core.ports.runtime.ids.uuid()).to_string(),
    };
    let place = SessionKey { platform: PLATFORM.to_owned(), channel, actor: author.clone() };
    let input = NewInput {
        target: Target::Fresh { agent, key: place },
        author,
        history: Vec::new(),
        answers: None,
        offer: Offer::default(),
        call: None,
        parts: vec![Part::text(new.task, Label::ACTOR_TEXT)],
        key,
        wait: wait.is_some(),
    };
    let submitted = leave.submit(&core, caller.scope.clone(), input).await;
    let begins = submitted.as_ref().is_ok_and(|submitted| !submitted.replayed);
    if let Bound::Made(bound) = bound
        && !begins
        && let Err(fault) = core.ports.capabilities.forget(caller.scope.clone(), bound).await
    {
        // It bounds nothing, and goes when the tenant has too many.
        tracing::warn!(%bound, %fault, "the capability of a task that does not begin is left");
    }
    answered(&core, &caller.scope, agent, submitted?, wait).await
}

/// What a task stays within.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// What its agent may do, and nothing else.
    Grants,
    /// The capability that was made for it.
    Made(CapabilityId),
    /// One that nobody made, because no task begins. A task that began all the same could do nothing.
    Nothing,
}

/// For how long a key must still stand for its input to be counted on by whoever submits next.
const KEY_SECONDS: i64 = 60;

/// Makes the capability within which the task stays, if it is to stay within any and will begin: what joins a task that is
/// there, or is refused, makes none, as each that is made and let go of is an act.
async fn bound(
    core: &Core,
    scope: &Scope,
    agent: &Agent,
    new: &SpawnTask,
    key: Option<&ItemKey>,
) -> Answer<Bound> {
    if new.rights.is_empty() && new.under.is_none() {
        return Ok(Bound::Grants);
    }
    if matches!(agent.state, AgentState::Terminated | AgentState::Deleting) {
        return Ok(Bound::Nothing);
    }
    if let Some(key) = key {
        let now = core.ports.runtime.clock.now();
        let soon = now.checked_add(SignedDuration::from_secs(KEY_SECONDS)).unwrap_or(now);
        // The same request joins its task, and another one is a conflict.
        if core.ports.store.keyed(scope, &key.key, soon).await?.is_some() {
            return Ok(Bound::Nothing);
        }
    }
    let new = NewCapability {
        holder: agent.id,
        from: new.under,
        usage: CapabilityUse::Task,
        rights: new.rights.clone(),
        until: None,
        wall_ms_max: None,
    };
    Ok(Bound::Made(core.ports.capabilities.grant(scope.clone(), new).await?.id))
}

/// Tells how the task stands once it is durable, or what came of it.
async fn answered(
    core: &Core,
    scope: &Scope,
    agent: AgentId,
    mut submitted: Submitted,
    wait: Option<Duration>,
) -> Answer<Response> {
    let outcome = match wait {
        Some(wait) => waited(core, &mut submitted, wait).await?,
        None => None,
    };
    let task = spawned(agent, &submitted);
    let Some(outcome) = outcome else {
        return Ok((StatusCode::ACCEPTED, Json(standing(core, scope, task).await)).into_response());
    };
    let status = outcome.head.status;
    let task = TaskSpawned {
        run: Some(outcome.run),
        state: TaskState::of_run(status),
        status: Some(status),
        ended: Some(ended(outcome)),
        ..task
    };
    Ok(Json(task).into_response())
}

fn spawned(agent: AgentId, submitted: &Submitted) -> TaskSpawned {
    TaskSpawned {
        agent,
        session: submitted.session,
        item: submitted.item,
        run: submitted.run,
        state: if submitted.run.is_some() { TaskState::Running } else { TaskState::Pending },
        status: None,
        replayed: submitted.replayed,
        ended: None,
    }
}

/// Reads how a task stands by now. It is durable, so a read that fails says nothing against it.
async fn standing(core: &Core, scope: &Scope, task: TaskSpawned) -> TaskSpawned {
    match newest_run(core, scope, task.session).await {
        Ok(Some(run)) => {
            let status = run.head.status;
            TaskSpawned { run: Some(run.id), state: TaskState::of_run(status), status: Some(status), ..task }
        }
        Ok(None) | Err(_) => task,
    }
}

async fn newest_run(core: &Core, scope: &Scope, session: SessionId) -> Answer<Option<Run>> {
    let of_session = RunFilter { session: Some(session), ..RunFilter::default() };
    Ok(core.ports.store.runs(scope, of_session, Page::first(1)).await?.into_iter().next())
}

fn ended(outcome: Outcome) -> TaskEnded {
    TaskEnded {
        reply: parts_text(&outcome.reply),
        last_seq: outcome.last_seq,
        model_calls: outcome.head.model_calls,
        usage: outcome.head.usage,
        cost_micros: outcome.head.cost_micros,
        failure: outcome.failure.map(wire::failure),
    }
}

/// Digests what is asked, of whom and by whom. How the end is awaited does not belong to it.
fn request_digest(agent: AgentId, new: &SpawnTask, author: &Actor) -> Digest {
    let SpawnTask { task, rights, under, .. } = new;
    // Strings and ids only, so serialization has no failing case.
    let bytes = if rights.is_empty() && under.is_none() {
        serde_json::to_vec(&("spawn", author, agent, task))
    } else {
        serde_json::to_vec(&("spawn within", author, agent, task, rights, under))
    };
    let bytes = bytes.unwrap_or_default();
    Digest::from_bytes(*blake3::hash(&bytes).as_bytes())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only tasks that stand so.
    state: Option<TaskState>,
    /// Only tasks after this session; the `next` of the page before.
    after: Option<SessionId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

/// Lists the tasks among an agent's sessions. A page may be short and name a next one all the same.
pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Task>>> {
    let limit = page_limit(listing.limit)?;
    let agent = super::agent::find(&core, &caller.scope, &name).await?;
    let has_ended = matches!(agent.state, AgentState::Terminated | AgentState::Deleting);
    let mut list = List { items: Vec::new(), next: None };
    let mut page = Page { after: listing.after, limit: Page::<SessionId>::LIMIT_MAX };
    for _ in 0..PAGES_MAX {
        let sessions = core.ports.store.sessions(&caller.scope, Some(agent.id), page).await?;
        let is_last = sessions.len() < page.limit;
        for session in sessions {
            page.after = Some(session.id);
            if session.key.platform != PLATFORM {
                continue;
            }
            let task = task(&core, &caller.scope, &session, has_ended).await?;
            if listing.state.is_some_and(|wanted| wanted != task.state) {
                continue;
            }
            list.items.push(task);
            if list.items.len() == limit {
                list.next = page.after.map(|after| after.to_string());
                return Ok(Json(list));
            }
        }
        if is_last {
            return Ok(Json(list));
        }
    }
    list.next = page.after.map(|after| after.to_string());
    Ok(Json(list))
}

async fn task(core: &Core, scope: &Scope, session: &Session, agent_has_ended: bool) -> Answer<Task> {
    let newest = newest_run(core, scope, session.id).await?;
    let untaken = match (session.head.last > session.head.taken, agent_has_ended) {
        (false, _) => Untaken::Nothing,
        (true, false) => Untaken::Waits,
        (true, true) => Untaken::InVain,
    };
    let status = newest.as_ref().map(|run| run.head.status);
    Ok(Task {
        session: session.id,
        agent: session.agent,
        opened_at: session.opened_at,
        state: TaskState::of(status, untaken),
        run: newest.map(|run| run.id),
        status,
    })
}

pub(crate) async fn kill(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    JsonBody(wanted): JsonBody<KillRuns>,
) -> Answer<Response> {
    let what = match wanted {
        KillRuns { run: Some(run), session: None, all: false } => Kill::Run(run),
        KillRuns { run: None, session: Some(session), all: false } => Kill::Session(session),
        KillRuns { run: None, session: None, all: true } => Kill::All,
        _ => return Err(Failure::invalid("name what to end: one of `run`, `session` and `all`")),
    };
    let agent = super::agent::find(&core, &caller.scope, &name).await?.id;
    let runs = core.ports.runs.agent_kill(caller.scope, agent, what).await?;
    Ok((StatusCode::ACCEPTED, Json(Killed { agent, runs })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(task: &str) -> SpawnTask {
        SpawnTask { task: task.to_owned(), wait: false, wait_ms: None, rights: Vec::new(), under: None }
    }

    #[test]
    fn a_key_stands_for_the_task_its_agent_and_who_asks() {
        let (agent, ada) = (AgentId::from_bytes([1; 16]), Actor::new("token:ada"));
        let count = asked("count");
        let digest = request_digest(agent, &count, &ada);
        assert_eq!(
            request_digest(agent, &SpawnTask { wait: true, wait_ms: Some(9), ..count.clone() }, &ada),
            digest
        );
        assert_ne!(request_digest(agent, &asked("sum up"), &ada), digest);
        assert_ne!(request_digest(AgentId::from_bytes([2; 16]), &count, &ada), digest);
        assert_ne!(request_digest(agent, &count, &Actor::new("token:bob")), digest);
        let within = SpawnTask { rights: vec!["file:read".to_owned()], ..count.clone() };
        assert_ne!(request_digest(agent, &within, &ada), digest);
        let under = SpawnTask { under: Some(CapabilityId::from_bytes([3; 16])), ..count.clone() };
        assert_ne!(request_digest(agent, &under, &ada), digest);
    }
}
