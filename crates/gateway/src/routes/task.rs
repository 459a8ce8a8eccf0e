//! Tasks of an agent: give it one, list them, and end what it does.
//!
//! A task is an input in a session of its own, let in as an event is: 202 says that it is durable, and so does every
//! answer after a wait that ended early. Its state is read off its session and its newest run
//! (`dromia_contracts::task`).

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::task::{KillReceipt, KillRuns, SpawnTask, TaskEnded, TaskResource, TaskSpawned};
use dromia_contracts::agent::{AgentRecord, AgentState};
use dromia_contracts::capability::{CapabilityUse, NewCapability};
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::label::Label;
use dromia_contracts::run::RunRecord;
use dromia_contracts::runs::{InputReceipt, InputTarget, KillTarget, NewInput, RunOutcome};
use dromia_contracts::session::{SessionKey, SessionRecord};
use dromia_contracts::store::{ItemKey, PageRequest, RunFilter};
use dromia_contracts::task::{PLATFORM, PendingInput, TaskState};
use dromia_contracts::{Actor, AgentId, CapabilityId, Digest, Scope, SessionId};
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::capability::check_tools;
use super::event::{checked_wait, wait_for_outcome};
use crate::caller::{Caller, input_author};
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::idempotency_key::IdempotencyKey;
use crate::ingress::{self, Submitter};
use crate::wire;

/// The most pages of sessions that one listing looks through; then it names where to go on.
const PAGES_MAX: usize = 16;

pub(crate) async fn spawn_task(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    key: IdempotencyKey,
    JsonBody(new): JsonBody<SpawnTask>,
) -> Answer<Response> {
    let wait = checked_wait(new.wait, new.wait_ms)?;
    if new.task.trim().is_empty() {
        return Err(ApiError::invalid_request("`task` is empty"));
    }
    let found = super::agent::find_agent(&core, &caller.scope, &name).await?;
    let agent = found.id;
    let author = input_author(&caller.scope, None);
    let key = key.of_request(request_digest(agent, &new, &author));
    // Before anything is made for it: what is refused leaves nothing, in the audit neither.
    let bringer = Submitter::from_caller(&caller, &author);
    let leave = ingress::acquire_rate_permit(&core, bringer, &caller.scope, &author, key.as_ref()).await?;
    let bound = match make_task_bound(&core, &caller.scope, &found, &new, key.as_ref()).await {
        Ok(bound) => bound,
        Err(failure) => {
            leave.give_back(&core, caller.scope.tenant());
            return Err(failure);
        }
    };
    // The place of a bounded task is the name of what bounds it, so no run of it is ever without.
    let channel = match bound {
        TaskBound::Grants => core.ports.runtime.ids.new_uuid().simple().to_string(),
        TaskBound::Made(bound) => bound.to_string(),
        TaskBound::Nothing => CapabilityId::from_uuid(core.ports.runtime.ids.new_uuid()).to_string(),
    };
    let place = SessionKey { platform: PLATFORM.to_owned(), channel, actor: author.clone() };
    let input = NewInput {
        target: InputTarget::Fresh { agent, key: place },
        author,
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        call: None,
        workspace: None,
        when_busy: None,
        parts: vec![ContentPart::new_text(new.task, Label::ACTOR_TEXT)],
        key,
        wait: wait.is_some(),
    };
    let submitted = leave.submit(&core, caller.scope.clone(), input).await;
    let begins = submitted.as_ref().is_ok_and(|submitted| !submitted.replayed);
    if let TaskBound::Made(bound) = bound
        && !begins
        && let Err(fault) = core.ports.capabilities.forget_task_capability(caller.scope.clone(), bound).await
    {
        // It bounds nothing, and goes when the tenant has too many.
        tracing::warn!(%bound, %fault, "failed to remove the capability of a task that did not start");
    }
    task_response(&core, &caller.scope, agent, submitted?, wait).await
}

/// What a task stays within.
#[derive(Debug, Clone, Copy)]
enum TaskBound {
    /// What its agent may do, and nothing else.
    Grants,
    /// The capability that was made for it.
    Made(CapabilityId),
    /// None was made, because no task begins. A task that began all the same could do nothing.
    Nothing,
}

/// How long a key must still be remembered for the next submission to join its input, in seconds.
const KEY_SECONDS: i64 = 60;

/// Makes the capability within which the task stays, if it is to stay within any and will begin: what joins a task that is
/// there, or is refused, makes none, as each that is made and let go of is an act.
async fn make_task_bound(
    core: &GatewayCore,
    scope: &Scope,
    agent: &AgentRecord,
    new: &SpawnTask,
    key: Option<&ItemKey>,
) -> Answer<TaskBound> {
    if new.rights.is_empty() && new.under.is_none() {
        return Ok(TaskBound::Grants);
    }
    if matches!(agent.state, AgentState::Terminated | AgentState::Deleting) {
        return Ok(TaskBound::Nothing);
    }
    if let Some(key) = key {
        let now = core.ports.runtime.clock.now();
        let soon = now.checked_add(SignedDuration::from_secs(KEY_SECONDS)).unwrap_or(now);
        // The same request joins its task, and another one is a conflict.
        if core.ports.store.find_keyed_item(scope, &key.key, soon).await?.is_some() {
            return Ok(TaskBound::Nothing);
        }
    }
    check_tools(core, scope, &new.rights, None).await?;
    let new = NewCapability {
        holder: agent.id,
        from: new.under,
        usage: CapabilityUse::Task,
        rights: new.rights.clone(),
        until: None,
        wall_ms_max: None,
    };
    Ok(TaskBound::Made(core.ports.capabilities.grant_capability(scope.clone(), new).await?.id))
}

/// Returns the task's state once it is durable, or what came of it.
async fn task_response(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    mut submitted: InputReceipt,
    wait: Option<Duration>,
) -> Answer<Response> {
    let outcome = match wait {
        Some(wait) => wait_for_outcome(core, &mut submitted, wait).await?,
        None => None,
    };
    let task = task_spawned(agent, &submitted);
    let Some(outcome) = outcome else {
        return Ok((StatusCode::ACCEPTED, Json(read_task_state(core, scope, task).await)).into_response());
    };
    let status = outcome.head.status;
    let task = TaskSpawned {
        run: Some(outcome.run),
        state: TaskState::of_run(status),
        status: Some(status),
        ended: Some(task_ended(outcome)),
        ..task
    };
    Ok(Json(task).into_response())
}

fn task_spawned(agent: AgentId, submitted: &InputReceipt) -> TaskSpawned {
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

/// Reads the task's state by now. It is durable, so a read that fails says nothing against it.
async fn read_task_state(core: &GatewayCore, scope: &Scope, task: TaskSpawned) -> TaskSpawned {
    match newest_run(core, scope, task.session).await {
        Ok(Some(run)) => {
            let status = run.head.status;
            TaskSpawned { run: Some(run.id), state: TaskState::of_run(status), status: Some(status), ..task }
        }
        Ok(None) | Err(_) => task,
    }
}

async fn newest_run(core: &GatewayCore, scope: &Scope, session: SessionId) -> Answer<Option<RunRecord>> {
    let of_session = RunFilter { session: Some(session), ..RunFilter::default() };
    Ok(core.ports.store.runs(scope, of_session, PageRequest::first_page(1)).await?.into_iter().next())
}

fn task_ended(outcome: RunOutcome) -> TaskEnded {
    TaskEnded {
        reply: outcome.reply.as_deref().map(parts_text),
        last_seq: outcome.last_seq,
        model_calls: outcome.head.model_calls,
        usage: outcome.head.usage,
        cost_micros: outcome.head.cost_micros,
        failure: outcome.failure.map(wire::api_failure),
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
pub(crate) struct TaskListQuery {
    /// Only tasks in this state.
    state: Option<TaskState>,
    /// Only tasks after this session; the `next` of the page before.
    after: Option<SessionId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

/// Lists the tasks among an agent's sessions. A page may be short and name a next one all the same.
pub(crate) async fn list_tasks(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    QueryParams(listing): QueryParams<TaskListQuery>,
) -> Answer<Json<ListPage<TaskResource>>> {
    let limit = page_limit(listing.limit)?;
    let agent = super::agent::find_agent(&core, &caller.scope, &name).await?;
    let has_ended = matches!(agent.state, AgentState::Terminated | AgentState::Deleting);
    let mut list = ListPage { items: Vec::new(), next: None };
    let mut page = PageRequest { after: listing.after, limit: PageRequest::<SessionId>::LIMIT_MAX };
    for _ in 0..PAGES_MAX {
        let sessions = core.ports.store.sessions(&caller.scope, Some(agent.id), page).await?;
        let is_last = sessions.len() < page.limit;
        for session in sessions {
            page.after = Some(session.id);
            if session.key.platform != PLATFORM {
                continue;
            }
            let task = read_task(&core, &caller.scope, &session, has_ended).await?;
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

async fn read_task(
    core: &GatewayCore,
    scope: &Scope,
    session: &SessionRecord,
    agent_has_ended: bool,
) -> Answer<TaskResource> {
    let newest = newest_run(core, scope, session.id).await?;
    let untaken = match (session.head.last > session.head.taken, agent_has_ended) {
        (false, _) => PendingInput::Nothing,
        (true, false) => PendingInput::Waits,
        (true, true) => PendingInput::InVain,
    };
    let status = newest.as_ref().map(|run| run.head.status);
    Ok(TaskResource {
        session: session.id,
        agent: session.agent,
        opened_at: session.opened_at,
        state: TaskState::derive_state(status, untaken),
        run: newest.map(|run| run.id),
        status,
    })
}

pub(crate) async fn kill_runs(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    JsonBody(wanted): JsonBody<KillRuns>,
) -> Answer<Response> {
    let what = match wanted {
        KillRuns { run: Some(run), session: None, all: false } => KillTarget::Run(run),
        KillRuns { run: None, session: Some(session), all: false } => KillTarget::Session(session),
        KillRuns { run: None, session: None, all: true } => KillTarget::All,
        _ => return Err(ApiError::invalid_request("name the target: one of `run`, `session` and `all`")),
    };
    let agent = super::agent::find_agent(&core, &caller.scope, &name).await?.id;
    let runs = core.ports.runs.agent_kill(caller.scope, agent, what).await?;
    Ok((StatusCode::ACCEPTED, Json(KillReceipt { agent, runs })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(task: &str) -> SpawnTask {
        SpawnTask { task: task.to_owned(), wait: false, wait_ms: None, rights: Vec::new(), under: None }
    }

    #[test]
    fn a_task_key_covers_the_task_agent_and_actor() {
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
