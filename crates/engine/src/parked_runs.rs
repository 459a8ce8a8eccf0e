//! The folded state of parked runs, kept so that a wake-up reads no journal.
//!
//! An owner gives its state away as it parks its run, and the next owner takes it. Nothing depends on it: a state is used only
//! if epoch and last entry of the run's row are its own, and the commit that wakes the run has the store compare both again.
//!
//! The cache has at most [`BYTES_MAX`] bytes. Each run counts for at least [`RUN_BYTES_MIN`], so they are at most
//! [`RUNS_MAX`]; one that is larger than [`RUN_BYTES_MAX`] is not kept. Where there is no room, the tenant that has the most
//! gives up its oldest ones: alone, a tenant may fill the cache, and it takes nothing from tenants that have less.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::SessionKey;
use dromia_contracts::{Actor, AgentId, RunId, TenantId};

use crate::byte_count::count_bytes;
use crate::checkpoint::CheckpointMarks;
use crate::context::transcript::ConversationTranscript;
use crate::state::RunState;

/// The most bytes of all runs together.
pub(crate) const BYTES_MAX: usize = 8 << 20;
/// The most runs.
pub(crate) const RUNS_MAX: usize = 4096;
/// What each run counts for at least.
const RUN_BYTES_MIN: usize = BYTES_MAX / RUNS_MAX;
/// The most bytes of one run.
const RUN_BYTES_MAX: usize = BYTES_MAX / 8;

/// A run as its owner left it.
#[derive(Debug)]
pub(crate) struct ParkedRun {
    pub(crate) agent: AgentId,
    /// The epoch of the owner that parked it.
    pub(crate) epoch: u64,
    /// The author of its first input.
    pub(crate) author: Actor,
    /// The key of its session.
    pub(crate) key: SessionKey,
    pub(crate) state: RunState,
    pub(crate) marks: CheckpointMarks,
    pub(crate) story: ConversationTranscript,
}

impl ParkedRun {
    /// Returns whether nothing happened to the run since it was parked.
    fn is_current(&self, row: &RunRecord) -> bool {
        row.head.status == RunStatus::Parked
            && row.holder.is_none()
            && (row.epoch, row.last_seq) == (self.epoch, self.state.seq)
    }

    /// Returns about how many bytes it holds, as it would be written.
    fn held_bytes(&self) -> usize {
        let written = count_bytes(&self.state) + count_bytes(&self.marks) + count_bytes(&self.key);
        written + self.story.held_bytes() + size_of::<Self>()
    }
}

/// The runs of one tenant, the oldest first.
#[derive(Debug, Default)]
struct TenantRuns {
    runs: BTreeMap<u64, (RunId, usize, ParkedRun)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct KeptRuns {
    tenants: BTreeMap<TenantId, TenantRuns>,
    /// Where each run is kept.
    places: BTreeMap<RunId, (TenantId, u64)>,
    bytes: usize,
    next: u64,
}

impl KeptRuns {
    fn remove_run(&mut self, run: RunId) -> Option<ParkedRun> {
        let (tenant, place) = self.places.remove(&run)?;
        let kept = self.tenants.get_mut(&tenant)?;
        let (_, bytes, parked) = kept.runs.remove(&place)?;
        kept.bytes -= bytes;
        self.bytes -= bytes;
        if kept.runs.is_empty() {
            self.tenants.remove(&tenant);
        }
        Some(parked)
    }

    /// Removes the oldest run of the tenant that has the most.
    fn remove_oldest(&mut self) {
        let most = self.tenants.values().max_by_key(|kept| kept.bytes);
        let oldest = most.and_then(|kept| kept.runs.values().next()).map(|(run, ..)| *run);
        let removed = oldest.and_then(|run| self.remove_run(run));
        debug_assert!(removed.is_some(), "only an empty cache has no oldest run");
    }
}

/// The parked runs whose state is kept.
#[derive(Debug, Default)]
pub(crate) struct ParkedRunCache {
    kept: Mutex<KeptRuns>,
}

impl ParkedRunCache {
    /// Keeps a run that was parked a moment ago.
    pub(crate) fn keep_run(&self, tenant: TenantId, run: RunId, parked: ParkedRun) {
        let bytes = parked.held_bytes().max(RUN_BYTES_MIN);
        let mut kept = self.lock_kept();
        kept.remove_run(run);
        if bytes > RUN_BYTES_MAX {
            return;
        }
        while kept.bytes + bytes > BYTES_MAX {
            kept.remove_oldest();
        }
        let place = kept.next;
        (kept.next, kept.bytes) = (place + 1, kept.bytes + bytes);
        kept.places.insert(run, (tenant, place));
        let own = kept.tenants.entry(tenant).or_default();
        own.bytes += bytes;
        own.runs.insert(place, (run, bytes, parked));
    }

    /// Takes the state of a run, if it is the one that the run's row says. Another one is forgotten.
    pub(crate) fn take_current(&self, tenant: TenantId, row: &RunRecord) -> Option<ParkedRun> {
        let mut kept = self.lock_kept();
        if kept.places.get(&row.id).is_none_or(|(of, _)| *of != tenant) {
            return None;
        }
        kept.remove_run(row.id).filter(|parked| parked.is_current(row))
    }

    /// Forgets the runs of an agent that is being erased.
    pub(crate) fn forget_agent(&self, tenant: TenantId, agent: AgentId) {
        let mut kept = self.lock_kept();
        let of_tenant = kept.tenants.get(&tenant).into_iter().flat_map(|own| own.runs.values());
        let runs: Vec<_> =
            of_tenant.filter(|(.., parked)| parked.agent == agent).map(|(run, ..)| *run).collect();
        for run in runs {
            kept.remove_run(run);
        }
    }

    fn lock_kept(&self) -> MutexGuard<'_, KeptRuns> {
        // A panic in the middle leaves at most a run that is not found, or counted though it is gone.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
