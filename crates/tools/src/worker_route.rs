//! `worker.route`: more words for a worker that the conversation has, whether it works or has ended.
//!
//! Invariant: transactional, as `worker.spawn` is. The message joins the worker's running turn before its next model call, or begins a
//! run of its session, whose end comes to the conversation as the first one's did. A session that is no worker of this conversation is
//! *not found*, in the same words as one that does not exist. What the worker may do stays bounded as it was: its runs have the rights of its
//! parent at the moment of the spawn, as far as that agent has them now.

use dromia_contracts::agent::AgentState;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunKind;
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{InboxPut, ItemKey, KeyLifetime, PageRequest, ReadError, Store};
use dromia_contracts::tool::{PreparedCall, ToolContext};

use crate::arguments::WorkerRoute;

/// Why nothing was sent, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error(
        "nothing was sent: this conversation has no such worker; name the session that worker.spawn gave"
    )]
    NotFound,
    #[error("nothing was sent: the agent of that worker accepts no more input")]
    Terminated,
    #[error(
        "nothing was sent: {most} workers of this conversation have not ended, which is the most; wait for their messages"
    )]
    Full { most: usize },
    #[error(
        "nothing was sent: {hops} messages between agents led here without a person, and at most {hops} may; \
         say it in your answer instead"
    )]
    TooManyHops { hops: u32 },
    #[error("nothing was sent: the store did not answer; trying again later may help")]
    Unavailable,
    #[error("nothing was sent: the message cannot be stored")]
    Unwritable,
}

impl From<ReadError> for RouteError {
    fn from(_: ReadError) -> Self {
        Self::Unavailable
    }
}

/// Finds the worker, and returns the item that becomes durable together with the call's result.
pub(crate) async fn prepare_route(
    store: &dyn Store,
    runtime: &Runtime,
    context: &ToolContext,
    call: &PreparedCall,
    arguments: WorkerRoute,
    hops_max: u32,
) -> Result<InboxPut, RouteError> {
    if context.hops >= hops_max {
        return Err(RouteError::TooManyHops { hops: hops_max });
    }
    let scope = &context.scope;
    let worker = store.session(scope, arguments.worker).await?.ok_or(RouteError::NotFound)?;
    let is_own = |origin: &RunOrigin| origin.kind == RunKind::Worker && origin.session == context.session;
    if !worker.origin.as_deref().is_some_and(is_own) {
        return Err(RouteError::NotFound);
    }
    match store.agent(scope, worker.agent).await?.ok_or(RouteError::NotFound)?.state {
        // A paused agent keeps its input and goes on when it is resumed.
        AgentState::Running | AgentState::Paused => {}
        AgentState::Terminated => return Err(RouteError::Terminated),
        AgentState::Deleting => return Err(RouteError::NotFound),
    }
    if worker.head.active.is_none() && worker.head.last == worker.head.taken {
        // It has ended and would begin again, beside those that have not.
        let page = PageRequest::first_page(PageRequest::<dromia_contracts::SessionId>::LIMIT_MAX);
        let open = store.session_children(scope, context.session, true, page).await?;
        let open = open.iter().filter(|child| child.origin.kind == RunKind::Worker);
        let most = RunKind::Worker.open_max();
        if open.count() >= most {
            return Err(RouteError::Full { most });
        }
    }
    let sender = Actor::new(&format!("agent:{}", context.agent));
    // A model wrote it, out of parts that are not seen here.
    let parts = vec![ContentPart::new_text(arguments.text, Label::CLAIM)];
    let message = InputMessage { author: sender.clone(), parts, hops: context.hops + 1 };
    let body = InputBody { when_busy: BusyPolicy::Steer, ..InputBody::from_message(message) };
    let body = body.encode().map_err(|_| RouteError::Unwritable)?;
    let key = ItemKey { key: context.key.clone(), request: call.action, lifetime: KeyLifetime::Forever };
    Ok(InboxPut {
        owner: InboxOwner::Session(worker.id),
        item: runtime.item_id(),
        at: runtime.clock.now(),
        kind: ItemKind::Input,
        author: sender,
        body: body.into(),
        key: Some(key),
    })
}
