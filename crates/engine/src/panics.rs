//! Panic recovery of the engine's tasks: a panic costs a run its owner, and nothing more.
//!
//! A panic is a defect of this program, of a tool or of a provider's adapter. As its task unwinds, its slot comes back
//! and its run leaves the memory of runs with a task, so signals and the janitor find it as they find any run without
//! an owner: it is taken over under a new epoch, and held after as many claims as any other. After that the panic
//! continues to the executor.
//!
//! It repairs nothing: the task's memory is gone, and the journal is read again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use dromia_contracts::{BoxFuture, ItemId, RunId, TenantId};
use futures_util::FutureExt as _;

use crate::core::EngineCore;
use crate::erasures::tracker::ErasureTarget;
use crate::scheduler::ReadyWork;

/// Supervises a task. If it panics, its slot goes to others at once, and the store is scanned for its run or session
/// after a while.
pub(crate) fn supervise_task(
    core: Arc<EngineCore>,
    ready: ReadyWork,
    work: BoxFuture<'static, ()>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(panic) = panic_of(work).await else { return };
        match ready {
            ReadyWork::Run(run) => tracing::error!(%run, "the task of a run panicked; another one takes the \
                                                          run over"),
            ReadyWork::Session(session) => tracing::error!(%session, "the claim of a session panicked"),
        }
        core.dispatch_ready();
        core.look_later().await;
        resume_unwind(panic)
    })
}

/// Supervises an erasure. If it panics, the agent is looked for in the store after a while, as one whose erasure failed.
pub(crate) fn supervise_erasure(
    core: Arc<EngineCore>,
    (tenant, agent): ErasureTarget,
    work: BoxFuture<'static, ()>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(panic) = panic_of(work).await else { return };
        tracing::error!(%tenant, ?agent, "an erasure panicked; it continues later");
        core.look_later().await;
        resume_unwind(panic)
    })
}

/// Does the work; returns what it panicked with, if it did. It has released everything that it held by then.
pub(crate) async fn panic_of(work: BoxFuture<'static, ()>) -> Option<Box<dyn Any + Send>> {
    AssertUnwindSafe(work).catch_unwind().await.err()
}

/// Removes a run's task from memory if it is dropped before the task has released the run.
pub(crate) struct AbandonGuard {
    core: Arc<EngineCore>,
    tenant: TenantId,
    run: RunId,
    items: Vec<ItemId>,
    armed: bool,
}

impl AbandonGuard {
    /// Begins with a run that has its place among those with a task.
    pub(crate) fn arm_guard(core: &Arc<EngineCore>, tenant: TenantId, run: RunId, items: &[ItemId]) -> Self {
        Self { core: Arc::clone(core), tenant, run, items: items.to_vec(), armed: true }
    }

    /// Disarms the guard, because the task releases the run itself.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for AbandonGuard {
    fn drop(&mut self) {
        if self.armed {
            self.core.hub.deactivate(self.run);
            // The next owner answers the waiting callers, or the janitor if the run has ended.
            self.core.hub.note_lost_run(self.tenant, self.run, &self.items);
        }
    }
}
