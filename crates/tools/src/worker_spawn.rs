//! `worker.spawn`: a worker, which does a task for the caller as a run of an agent of the same tenant.
//!
//! Invariant: transactional, as `message.send` is. Nothing begins here: the session and its item are handed back and become
//! durable in the commit that holds the call's result, under the call's key, so a repeated call spawns once.
//!
//! A spawn counts as a message between agents, so a chain of workers whose results spawn further ones ends at the same bound. How
//! deep a worker may be, and how many an agent may have open, the store decides in that commit. An agent that is not in the
//! caller's tenant is *not found*, in the same words as one that does not exist.

use std::collections::BTreeSet;

use dromia_contracts::agent::{AgentRecord, AgentState, HandleSlug};
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::identity_document::DocumentName;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunKind;
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::scope::{Actor, Scope};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{InboxPut, SessionOpen, Store};
use dromia_contracts::task::PLATFORM;
use dromia_contracts::tool::{PreparedCall, ToolContext};

use crate::arguments::WorkerSpawn;
use crate::child::{SpawnError, child_input, child_origin};

/// What a worker reads after its task.
const ABOUT: &str = "[You are a worker: you do the task above alone, and nobody answers questions meanwhile. Your last answer is all that \
                     the run which gave you the task gets of you: make it short and complete, and say what was not done.]";

/// Looks the agent up in the caller's tenant, and returns the session and the item that become durable together with the
/// call's result. The origin's grants are the rights that the call asks for; the engine bounds them by those of the run.
pub(crate) async fn prepare_worker(
    store: &dyn Store,
    runtime: &Runtime,
    context: &ToolContext,
    call: &PreparedCall,
    arguments: WorkerSpawn,
    hops_max: u32,
) -> Result<(SessionOpen, InboxPut), SpawnError> {
    if context.hops >= hops_max {
        return Err(SpawnError::TooManyHops { hops: hops_max });
    }
    let found = match &arguments.agent {
        Some(handle) => store.agent_by_handle(&context.scope, handle).await?,
        None => store.agent(&context.scope, context.agent).await?,
    };
    let agent = found.ok_or(SpawnError::NotFound)?;
    match agent.state {
        // A paused agent keeps its tasks and begins them when it is resumed.
        AgentState::Running | AgentState::Paused => {}
        AgentState::Terminated => return Err(SpawnError::Terminated),
        AgentState::Deleting => return Err(SpawnError::NotFound),
    }
    let role = match &arguments.role {
        Some(role) => Some(read_role(store, &context.scope, &agent, role).await?),
        None => None,
    };
    let at = runtime.clock.now();
    let sender = Actor::new(&format!("agent:{}", context.agent));
    let origin = RunOrigin {
        role: arguments.role,
        deadline_ms: arguments.deadline_s.map(|seconds| u64::from(seconds.get()) * 1_000),
        ..child_origin(context, call, RunKind::Worker, arguments.rights)
    };
    let channel = runtime.ids.new_uuid().simple().to_string();
    let open = SessionOpen {
        session: runtime.session_id(),
        agent: agent.id,
        key: SessionKey { platform: PLATFORM.to_owned(), channel, actor: sender.clone() },
        at,
        believes: false,
        importing: false,
        origin: Some(Box::new(origin)),
    };
    // People write roles. A model wrote the task, out of parts that are not seen here.
    // The task is first: lists show its first words.
    let mut parts = vec![ContentPart::new_text(arguments.task, Label::CLAIM)];
    parts.extend(role.map(|role| ContentPart::new_text(role, Label::PUBLIC_FACT)));
    parts.push(ContentPart::new_text(ABOUT, Label::PUBLIC_FACT));
    let message = InputMessage { author: sender.clone(), parts, hops: context.hops + 1 };
    let body = InputBody::from_message(message).encode().map_err(|_| SpawnError::Unwritable)?;
    let item = child_input(runtime, context, call, (&open, sender), body.into());
    Ok((open, item))
}

/// Reads what a role says: the document `roles/NAME.md` of the worker's agent, or what is built in.
async fn read_role(
    store: &dyn Store,
    scope: &Scope,
    agent: &AgentRecord,
    role: &HandleSlug,
) -> Result<String, SpawnError> {
    let revision =
        store.agent_revision(scope, agent.id, agent.revision).await?.ok_or(SpawnError::NotFound)?;
    let documents = &revision.config.identity;
    let Some(own) = documents.get(&DocumentName::Role(role.clone())) else {
        let built_in = dromia_templates::find_role(role.as_str()).map(|role| role.text.to_owned());
        return built_in.ok_or_else(|| {
            let own = documents.keys().filter_map(DocumentName::role).map(HandleSlug::as_str);
            let names: BTreeSet<_> =
                dromia_templates::ROLES.iter().map(|role| role.name).chain(own).collect();
            let known = names.into_iter().collect::<Vec<_>>().join(", ");
            SpawnError::NoRole { role: role.clone(), known }
        });
    };
    let text = store.pinned_text(scope, own.digest).await?;
    text.and_then(|bytes| String::from_utf8(bytes.into()).ok()).ok_or(SpawnError::Unavailable)
}
