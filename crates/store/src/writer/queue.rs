//! The writer's queue: two lanes, and in each a share per tenant.
//!
//! A drain goes round the tenants, one job each, so a flooding tenant delays another by one group at most. The
//! bulk lane gives way to turns, but not for ever: after [`BULK_AFTER_GROUPS`] groups of turns that passed it, one job of
//! it is served. Jobs of one tenant in one lane keep their order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::audit::{AuditAct, AuditMark};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;
use dromia_contracts::store::{CommitOutcome, ReadError, WriteBatch, WriterLane};

use crate::apply::BatchSize;
use crate::config::{
    BULK_AFTER_GROUPS, GROUP_BATCHES_MAX, GROUP_BYTES_MAX, LANE_BATCHES_MAX, LANE_BYTES_MAX,
    TENANT_BATCHES_MAX, TENANT_BYTES_MAX,
};
use crate::erase::ErasedOwner;

/// Work for the writer.
#[derive(Debug)]
pub(crate) enum WriterJob {
    /// A batch.
    Write(BatchWrite),
    /// A page of an erasure.
    Erase {
        tenant: TenantId,
        owner: ErasedOwner,
        ack: oneshot::Sender<Result<(ErasureCounts, bool), ReadError>>,
    },
    /// A page of file bodies, each to be removed unless a row names it.
    Sweep { tenant: TenantId, hashes: Vec<[u8; 32]>, ack: oneshot::Sender<Result<u64, ReadError>> },
    /// Something for the audit that is no batch of a tenant.
    Audit { tenant: TenantId, note: AuditNote, ack: oneshot::Sender<Result<(), ReadError>> },
}

/// What is noted for the audit.
#[derive(Debug, Clone)]
pub(crate) enum AuditNote {
    /// The last checkpoint that is durable outside of the file.
    Mark(AuditMark),
    /// Under which configuration the tenant is served, and since when, in milliseconds.
    Config { config: Digest, at: i64 },
    /// An act that changes no row, and when, in milliseconds.
    Act { act: AuditAct, at: i64 },
}

/// A batch and the caller that waits for it.
#[derive(Debug)]
pub(crate) struct BatchWrite {
    pub(crate) batch: WriteBatch,
    pub(crate) ack: oneshot::Sender<CommitOutcome>,
}

impl WriterJob {
    fn tenant(&self) -> TenantId {
        match self {
            Self::Write(write) => write.batch.tenant,
            Self::Erase { tenant, .. } | Self::Sweep { tenant, .. } | Self::Audit { tenant, .. } => *tenant,
        }
    }

    fn lane(&self) -> WriterLane {
        match self {
            Self::Write(write) => write.batch.lane,
            Self::Erase { .. } | Self::Sweep { .. } => WriterLane::Bulk,
            // Small and rare, and a stop waits for it.
            Self::Audit { .. } => WriterLane::Turn,
        }
    }

    fn size(&self) -> BatchSize {
        match self {
            Self::Write(write) => BatchSize::from_batch(&write.batch),
            Self::Erase { .. } | Self::Sweep { .. } => BatchSize { rows: WriteBatch::ROWS_MAX, bytes: 0 },
            Self::Audit { .. } => BatchSize { rows: 2, bytes: 0 },
        }
    }
}

/// Why a job was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRejection {
    /// The lane or the tenant's share of it is full.
    Full,
    /// The store is closing.
    Closed,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum WriterStep {
    /// One transaction's worth of jobs: any number of batches, or one other job.
    Group(Vec<WriterJob>),
    /// Nothing came in time.
    Idle,
    /// Closed and empty.
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct WriterQueue {
    state: Mutex<WriterQueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WriterQueueState {
    turn: JobLane,
    bulk: JobLane,
    /// How many groups of turns passed what waits in the bulk lane since it was served last.
    passed: usize,
    closed: bool,
}

impl WriterQueueState {
    /// Takes one group: of turns while any wait, but one job of the bulk lane once so many groups passed it.
    fn take_group(&mut self, rows_max: usize, passed_max: usize) -> Vec<WriterJob> {
        let both_wait = !self.turn.ring.is_empty() && !self.bulk.ring.is_empty();
        if both_wait && self.passed < passed_max {
            self.passed += 1;
            return self.turn.drain(rows_max, GROUP_BATCHES_MAX);
        }
        self.passed = 0;
        if both_wait {
            // One, and not a whole group: turns wait behind it.
            return self.bulk.drain(rows_max, 1);
        }
        let lane = if self.turn.ring.is_empty() { &mut self.bulk } else { &mut self.turn };
        lane.drain(rows_max, GROUP_BATCHES_MAX)
    }
}

impl WriterQueue {
    pub(crate) fn push(&self, job: WriterJob) -> Result<(), QueueRejection> {
        let mut state = self.lock();
        if state.closed {
            return Err(QueueRejection::Closed);
        }
        let lane = match job.lane() {
            WriterLane::Turn => &mut state.turn,
            WriterLane::Bulk => &mut state.bulk,
        };
        if !lane.push(job) {
            return Err(QueueRejection::Full);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for work and takes one group of it.
    pub(crate) fn next(&self, wait: Duration, rows_max: usize) -> WriterStep {
        self.next_passing(wait, rows_max, BULK_AFTER_GROUPS)
    }

    /// The same, with the most groups of turns that pass what waits in the bulk lane.
    fn next_passing(&self, wait: Duration, rows_max: usize, passed_max: usize) -> WriterStep {
        let state = self.lock();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, wait, |state| {
                state.turn.ring.is_empty() && state.bulk.ring.is_empty() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let group = state.take_group(rows_max, passed_max);
        match (group.is_empty(), state.closed) {
            (false, _) => WriterStep::Group(group),
            (true, false) => WriterStep::Idle,
            (true, true) => WriterStep::Closed,
        }
    }

    /// Waits for a time, or until the queue is closed. Returns whether it is closed, and all jobs in it.
    pub(crate) fn wait_and_drain(&self, wait: Duration) -> (bool, Vec<WriterJob>) {
        let state = self.lock();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, wait, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let jobs = state.turn.take_all().chain(state.bulk.take_all()).collect();
        (state.closed, jobs)
    }

    /// Takes nothing in any more; what is in it is still served.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, WriterQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lane.
#[derive(Debug, Default)]
struct JobLane {
    /// Tenants with jobs, each once, in the order in which they are served next.
    ring: VecDeque<TenantId>,
    tenants: HashMap<TenantId, TenantJobs>,
    count: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct TenantJobs {
    jobs: VecDeque<(WriterJob, BatchSize)>,
    bytes: usize,
}

impl JobLane {
    /// Takes a job in, unless the lane or the tenant's share of it is full.
    fn push(&mut self, job: WriterJob) -> bool {
        let (tenant, size) = (job.tenant(), job.size());
        let share = self.tenants.get(&tenant);
        let (waiting, bytes) = share.map_or((0, 0), |share| (share.jobs.len(), share.bytes));
        let full = self.count >= LANE_BATCHES_MAX
            || self.bytes + size.bytes > LANE_BYTES_MAX
            || waiting >= TENANT_BATCHES_MAX
            || bytes + size.bytes > TENANT_BYTES_MAX;
        if full {
            return false;
        }
        if waiting == 0 {
            self.ring.push_back(tenant);
        }
        let share = self.tenants.entry(tenant).or_default();
        share.jobs.push_back((job, size));
        share.bytes += size.bytes;
        self.count += 1;
        self.bytes += size.bytes;
        true
    }

    fn drain(&mut self, rows_max: usize, jobs_max: usize) -> Vec<WriterJob> {
        let mut group = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while group.len() < jobs_max {
            let Some(tenant) = self.ring.front().copied() else { break };
            let Some((job, size)) = self.tenants.get(&tenant).and_then(|share| share.jobs.front()) else {
                self.forget_tenant(tenant);
                continue;
            };
            let alone = !matches!(job, WriterJob::Write(_));
            let fits = !alone && rows + size.rows <= rows_max && bytes + size.bytes <= GROUP_BYTES_MAX;
            if !group.is_empty() && !fits {
                break;
            }
            rows += size.rows;
            bytes += size.bytes;
            if let Some(job) = self.pop(tenant) {
                group.push(job);
            }
            if alone {
                break;
            }
        }
        group
    }

    /// Takes the first job of the tenant in front, which then waits behind the others.
    fn pop(&mut self, tenant: TenantId) -> Option<WriterJob> {
        let share = self.tenants.get_mut(&tenant)?;
        let (job, size) = share.jobs.pop_front()?;
        share.bytes -= size.bytes;
        self.count -= 1;
        self.bytes -= size.bytes;
        if share.jobs.is_empty() {
            self.forget_tenant(tenant);
        } else {
            self.ring.rotate_left(1);
        }
        Some(job)
    }

    fn forget_tenant(&mut self, tenant: TenantId) {
        self.tenants.remove(&tenant);
        self.ring.retain(|waiting| *waiting != tenant);
    }

    fn take_all(&mut self) -> impl Iterator<Item = WriterJob> + use<> {
        let taken = std::mem::take(self);
        taken.tenants.into_values().flat_map(|share| share.jobs).map(|(job, _)| job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);
    const OTHER: TenantId = TenantId::from_bytes([2; 16]);

    fn write(tenant: TenantId, lane: WriterLane) -> WriterJob {
        let mut batch = WriteBatch::new(tenant);
        batch.lane = lane;
        WriterJob::Write(BatchWrite { batch, ack: oneshot::channel().0 })
    }

    fn erase(tenant: TenantId) -> WriterJob {
        let owner = ErasedOwner::Agent(dromia_contracts::AgentId::from_bytes([3; 16]));
        WriterJob::Erase { tenant, owner, ack: oneshot::channel().0 }
    }

    fn lanes(next: WriterStep) -> Vec<WriterLane> {
        match next {
            WriterStep::Group(group) => group.iter().map(WriterJob::lane).collect(),
            other => panic!("work waits: {other:?}"),
        }
    }

    /// Keeps a turn waiting all the time. Returns behind how many groups of turns each page of an erasure is served.
    fn served_behind(pages: usize, passed_max: usize) -> Vec<usize> {
        let queue = WriterQueue::default();
        for _ in 0..pages {
            queue.push(erase(OTHER)).expect("there is room");
        }
        let (mut behind, mut passed) = (Vec::new(), 0);
        for _ in 0..1_000 {
            queue.push(write(TENANT, WriterLane::Turn)).expect("there is room");
            match lanes(queue.next_passing(Duration::ZERO, 1024, passed_max)).as_slice() {
                [WriterLane::Bulk] => behind.push(std::mem::take(&mut passed)),
                turns => {
                    assert!(turns.iter().all(|lane| *lane == WriterLane::Turn), "{turns:?}");
                    passed += 1;
                }
            }
        }
        behind
    }

    #[test]
    fn an_erasure_goes_on_while_turns_never_end() {
        assert_eq!(served_behind(3, BULK_AFTER_GROUPS), [BULK_AFTER_GROUPS; 3]);
    }

    /// Planted fault: a bulk lane that is served only where no turn waits.
    #[test]
    fn a_bulk_lane_that_does_not_age_is_caught() {
        assert_eq!(served_behind(3, usize::MAX), Vec::<usize>::new(), "nothing notices it");
    }

    #[test]
    fn one_aged_bulk_job_is_served_between_turns() {
        let queue = WriterQueue::default();
        for _ in 0..3 {
            queue.push(write(OTHER, WriterLane::Bulk)).expect("there is room");
        }
        queue.push(write(TENANT, WriterLane::Turn)).expect("there is room");
        queue.push(write(TENANT, WriterLane::Turn)).expect("there is room");
        assert_eq!(lanes(queue.next_passing(Duration::ZERO, 1024, 0)), [WriterLane::Bulk]);
        assert_eq!(lanes(queue.next_passing(Duration::ZERO, 1024, 1)), [WriterLane::Turn; 2]);
        assert_eq!(lanes(queue.next(Duration::ZERO, 1024)), [WriterLane::Bulk; 2]);
        assert!(matches!(queue.next(Duration::ZERO, 1024), WriterStep::Idle));
    }
}
