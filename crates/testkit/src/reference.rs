//! The reference store: the simplest code that does what the port promises, in memory.
//!
//! It is the oracle that every other store is compared with, so it is written to be read: a batch works on a
//! copy of its tenant's rows, which replaces the original only when every mutation held. It keeps nothing after
//! the process, knows no lanes and is never overloaded or read-only.

mod agent;
mod apply;
mod approval;
mod audit_acts;
mod budget;
mod capability;
mod chain;
mod deliver;
mod erase;
mod file;
mod inbox;
mod lease;
mod limits;
mod node;
mod page;
mod peek;
mod read;
mod retention;
mod rows;
mod run;
mod scope_view;
mod session;
mod task;
mod token;
mod turn;
mod vault;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::TenantId;
use dromia_contracts::runtime::Clock;
use dromia_contracts::store::{CommitOutcome, StoreStats, WriteBatch};

use self::lease::LeaseRows;
use self::rows::TenantRows;

pub(crate) use self::chain::chain_digest;

/// An in-memory store with the semantics of the port and nothing else. A clone is a second handle to it.
#[derive(Debug, Clone, Default)]
pub struct ReferenceStore {
    state: Arc<Mutex<ReferenceState>>,
}

#[derive(Debug, Default)]
struct ReferenceState {
    tenants: BTreeMap<TenantId, TenantRows>,
    stats: StoreStats,
    leases: LeaseRows,
}

impl ReferenceStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty store whose leases end by a clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let leases = LeaseRows::with_clock(clock);
        Self { state: Arc::new(Mutex::new(ReferenceState { leases, ..ReferenceState::default() })) }
    }

    fn lock_state(&self) -> MutexGuard<'_, ReferenceState> {
        // A batch replaces rows in one move at its end, so a panic in the middle leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a batch at once.
    pub fn apply_batch(&self, batch: &WriteBatch) -> CommitOutcome {
        match self.lock_state().apply_batch(batch) {
            Ok(receipt) => CommitOutcome::Done(receipt),
            Err(refusal) => CommitOutcome::Refused(refusal),
        }
    }
}
