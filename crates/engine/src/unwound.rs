//! What becomes of a panic in a task of the engine: a run that its owner has lost, and nothing more.
//!
//! A panic is a defect of this program, of a tool or of a provider's adapter. As its task unwinds, its slot comes back and its
//! run leaves the memory of runs with a task, so signals and the janitor find it as they find any run without an owner: it is
//! taken over under a new epoch, and held after as many claims as any other. The panic goes on to whoever runs tasks, once
//! all that is done.
//!
//! It repairs nothing: what the task knew is gone, and the journal is read again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use dromia_contracts::{AgentId, BoxFuture, ItemId, RunId, TenantId};
use futures_util::FutureExt as _;
use jiff::SignedDuration;

use crate::core::Core;
use crate::janitor;
use crate::scheduler::Ready;

/// The time from a panic, or an erasure that failed, to the next look: what fails at each look, as a session that nobody can
/// read, must not be a spin.
const PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// Minds the work of a task. If it panics, whatever is free goes to others at once, and what it worked on is looked for in
/// the store after a while.
pub(crate) fn minded(core: Arc<Core>, ready: Ready, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(panic) = panic_of(work).await else { return };
        match ready {
            Ready::Run(run) => tracing::error!(%run, "the task of a run panicked; the run is taken over"),
            Ready::Session(session) => tracing::error!(%session, "the claim of a session panicked"),
        }
        core.dispatch();
        core.look_later().await;
        resume_unwind(panic)
    })
}

/// Minds an erasure. If it panics, the agent is looked for in the store after a while, as one whose erasure failed.
pub(crate) fn minded_erasure(
    core: Arc<Core>,
    agent: AgentId,
    work: BoxFuture<'static, ()>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(panic) = panic_of(work).await else { return };
        tracing::error!(%agent, "the erasure of an agent panicked; it goes on later");
        core.look_later().await;
        resume_unwind(panic)
    })
}

/// Runs the janitor, and another one after each that panics: without one nothing that was lost is found again.
pub(crate) fn minded_janitor(core: Arc<Core>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(panic) = panic_of(Box::pin(janitor::run(Arc::clone(&core)))).await else { return };
        tracing::error!("the janitor panicked; another one begins");
        core.look_later().await;
        core.ports.runtime.spawn.spawn(minded_janitor(Arc::clone(&core)));
        resume_unwind(panic)
    })
}

/// Does the work; returns what it panicked with, if it did. Whatever it held is given back by then.
async fn panic_of(work: BoxFuture<'static, ()>) -> Option<Box<dyn Any + Send>> {
    AssertUnwindSafe(work).catch_unwind().await.err()
}

impl Core {
    /// Asks for a look at everything after a while.
    pub(crate) async fn look_later(&self) {
        let clock = &self.ports.runtime.clock;
        let later = clock.now().checked_add(PAUSE);
        clock.sleep_until(later.unwrap_or_else(|_| clock.now())).await;
        self.request_rescan();
    }
}

/// Forgets a run's task if it is dropped before the task has let go by itself.
pub(crate) struct Abandon {
    core: Arc<Core>,
    tenant: TenantId,
    run: RunId,
    items: Vec<ItemId>,
    armed: bool,
}

impl Abandon {
    /// Begins with a run that has its place among those with a task.
    pub(crate) fn armed(core: &Arc<Core>, tenant: TenantId, run: RunId, items: &[ItemId]) -> Self {
        Self { core: Arc::clone(core), tenant, run, items: items.to_vec(), armed: true }
    }

    /// The task lets go by itself.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if self.armed {
            self.core.hub.deactivate(self.run);
            // Whoever waits is answered by the next owner, or by the janitor if the run has ended.
            self.core.hub.lose(self.tenant, self.run, &self.items);
        }
    }
}
