//! Leases of the lives that share this store, in memory only.
//!
//! The home's lock gives the store to one process, so every life that holds a lease is in this process, and a start finds
//! none: what held something before it is gone. A row for each life would cost an idle server a sync every few seconds and
//! say nothing that the lock does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dromia_contracts::digest::Digest;
use dromia_contracts::lease::NodeLife;

/// The lease of the last life of each node.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: Mutex<Vec<(NodeLife, Instant)>>,
}

impl LeaseTable {
    /// Begins a life in the place of the one before it.
    pub(crate) fn begin_life(&self, life: &NodeLife, lasts: Duration) {
        let mut leases = self.lock_leases();
        leases.retain(|(known, _)| known.node != life.node);
        leases.push((life.clone(), Instant::now() + lasts));
        leases.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    }

    /// Renews the lease of a life; `false` if it is not the last of its node.
    pub(crate) fn renew_life(&self, life: &NodeLife, lasts: Duration) -> bool {
        let mut leases = self.lock_leases();
        let found = leases.iter_mut().find(|(known, _)| known == life);
        found.map(|(_, until)| *until = Instant::now() + lasts).is_some()
    }

    /// Lists the lives whose lease lasts.
    pub(crate) fn living_lives(&self) -> Vec<NodeLife> {
        let now = Instant::now();
        self.lock_leases().iter().filter(|(_, until)| *until > now).map(|(life, _)| life.clone()).collect()
    }

    /// Returns how much longer the lease of a life lasts, if it does.
    pub(crate) fn time_left(&self, life: Digest) -> Option<Duration> {
        let leases = self.lock_leases();
        let (_, until) = leases.iter().find(|(known, _)| known.life == life)?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn lock_leases(&self) -> MutexGuard<'_, Vec<(NodeLife, Instant)>> {
        // Each change is one assignment or one that the sort ends; a panic in between loses order, and no lease.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
