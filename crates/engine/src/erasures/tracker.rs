//! Which erasures run without a caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::{AgentId, TenantId};

/// The erasures that the engine runs without a caller.
#[derive(Debug, Default)]
pub(crate) struct ErasureTracker {
    begun: Mutex<RunningErasures>,
    /// Agents that a caller erases; one request counts the erased rows of each.
    counted: Mutex<BTreeSet<AgentId>>,
    /// One has come to its end, so another may begin.
    pub(super) has_ended: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct RunningErasures {
    pub(super) running: BTreeMap<TenantId, AgentId>,
    /// Which was begun last; those behind it are next.
    pub(super) last: Option<(TenantId, AgentId)>,
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

    /// Notes that a caller erases an agent.
    pub(super) fn begin_counted(&self, agent: AgentId) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).insert(agent);
    }

    /// Notes that the caller's erasure is over.
    pub(super) fn end_counted(&self, agent: AgentId) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
    }

    /// Returns whether a caller is erasing an agent.
    pub(super) fn is_counted(&self, agent: AgentId) -> bool {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).contains(&agent)
    }
}
