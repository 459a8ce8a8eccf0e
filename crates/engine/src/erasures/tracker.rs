//! Which erasures run without a caller.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::{AgentId, TenantId};

/// The erasures that the engine runs without a caller.
#[derive(Debug, Default)]
pub(crate) struct ErasureTracker {
    begun: Mutex<RunningErasures>,
    /// What a caller erases; one request counts the erased rows of each.
    counted: Mutex<BTreeSet<ErasureTarget>>,
    /// One has come to its end, so another may begin.
    pub(super) has_ended: AtomicBool,
}

/// What is erased: an agent of a tenant, or without one the whole tenant.
pub(crate) type ErasureTarget = (TenantId, Option<AgentId>);

#[derive(Debug, Default)]
pub(super) struct RunningErasures {
    /// One for each tenant.
    pub(super) running: BTreeSet<TenantId>,
    /// Which was begun last; those behind it are next.
    pub(super) last: Option<ErasureTarget>,
}

impl ErasureTracker {
    /// Tells, once, whether one has come to its end.
    pub(crate) fn take_ended(&self) -> bool {
        self.has_ended.swap(false, Ordering::AcqRel)
    }

    /// Locks the erasures that run.
    pub(super) fn lock_running(&self) -> MutexGuard<'_, RunningErasures> {
        // A map and a position: a panic cannot leave them half updated.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a caller erases an agent or a tenant.
    pub(super) fn begin_counted(&self, target: ErasureTarget) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).insert(target);
    }

    /// Notes that the caller's erasure is over.
    pub(super) fn end_counted(&self, target: ErasureTarget) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).remove(&target);
    }

    /// Returns whether a caller is erasing it, or the tenant that it belongs to.
    pub(super) fn is_counted(&self, target: ErasureTarget) -> bool {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.contains(&target) || counted.contains(&(target.0, None))
    }
}
