//! `worker.cancel`: ends a worker or a branch of the conversation after its current call.
//!
//! Invariant: transactional: the signal is one commit with the call's result, so no crash leaves one of them alone. A session that is no
//! child of this conversation is *not found*, in the same words as one that does not exist. The end comes to the conversation as any
//! other end of a child does.

use bytes::Bytes;
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{InboxPut, PageRequest, ReadError, RunFilter, Store};
use dromia_contracts::tool::ToolContext;

use crate::arguments::WorkerCancel;

/// Why nothing was ended, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CancelError {
    #[error(
        "nothing was ended: this conversation has no such worker or branch; name the session that worker.spawn or \
         branch gave"
    )]
    NotFound,
    #[error("nothing was ended: it has not begun yet; try again later")]
    Pending,
    #[error("nothing was ended: it has ended already")]
    Ended,
    #[error("nothing was ended: the store did not answer; trying again later may help")]
    Unavailable,
}

impl From<ReadError> for CancelError {
    fn from(_: ReadError) -> Self {
        Self::Unavailable
    }
}

/// Finds the child, and returns the signal that becomes durable together with the call's result.
pub(crate) async fn prepare_cancel(
    store: &dyn Store,
    runtime: &Runtime,
    context: &ToolContext,
    arguments: &WorkerCancel,
) -> Result<InboxPut, CancelError> {
    let scope = &context.scope;
    let child = store.session(scope, arguments.worker).await?.ok_or(CancelError::NotFound)?;
    let is_own = |origin: &RunOrigin| origin.session == context.session;
    if !child.origin.as_deref().is_some_and(is_own) {
        return Err(CancelError::NotFound);
    }
    let newest = RunFilter { session: Some(child.id), ..RunFilter::default() };
    let runs = store.runs(scope, newest, PageRequest::first_page(1)).await?;
    let run = runs.first().ok_or(CancelError::Pending)?;
    if run.head.status.is_terminal() {
        return Err(CancelError::Ended);
    }
    Ok(InboxPut {
        owner: InboxOwner::Run(run.id),
        item: runtime.item_id(),
        at: runtime.clock.now(),
        kind: ItemKind::Cancel,
        author: Actor::new(&format!("agent:{}", context.agent)),
        body: Bytes::new(),
        key: None,
    })
}
