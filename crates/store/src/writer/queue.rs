//! The writer's queue: two lanes, and in each a share per tenant.
//!
//! A drain goes round the tenants, one job each, so a flooding tenant delays another by one group at most. The
//! bulk lane gives way to turns, but not for ever: after [`BULK_AFTER_GROUPS`] groups of turns that passed it, one job of
//! it is served. Jobs of one tenant in one lane keep their order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use dromia_contracts::agent::Erased;
use dromia_contracts::audit::{Act, AuditMark};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::store::{Batch, Commit, Lane, ReadError};

use crate::apply::Size;
use crate::config::{
    BULK_AFTER_GROUPS, GROUP_BATCHES_MAX, GROUP_BYTES_MAX, LANE_BATCHES_MAX, LANE_BYTES_MAX,
    TENANT_BATCHES_MAX, TENANT_BYTES_MAX,
};

/// Work for the writer.
#[derive(Debug)]
pub(crate) enum Job {
    /// A batch.
    Write(Write),
    /// A page of an erasure.
    Erase { tenant: TenantId, agent: AgentId, ack: oneshot::Sender<Result<(Erased, bool), ReadError>> },
    /// A page of file bodies, each to be removed unless a row names it.
    Sweep { tenant: TenantId, hashes: Vec<[u8; 32]>, ack: oneshot::Sender<Result<u64, ReadError>> },
    /// Something for the audit that is no batch of a tenant.
    Audit { tenant: TenantId, note: Note, ack: oneshot::Sender<Result<(), ReadError>> },
}

/// What is noted for the audit.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// The last checkpoint that is durable outside of the file.
    Mark(AuditMark),
    /// Under which configuration the tenant is served, and since when, in milliseconds.
    Config { config: Digest, at: i64 },
    /// An act that changes no row, and when, in milliseconds.
    Act { act: Act, at: i64 },
}

/// A batch and whoever waits for it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) batch: Batch,
    pub(crate) ack: oneshot::Sender<Commit>,
}

impl Job {
    fn tenant(&self) -> TenantId {
        match self {
            Self::Write(write) => write.batch.tenant,
            Self::Erase { tenant, .. } | Self::Sweep { tenant, .. } | Self::Audit { tenant, .. } => *tenant,
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Self::Write(write) => write.batch.lane,
            Self::Erase { .. } | Self::Sweep { .. } => Lane::Bulk,
            // Small and rare, and a stop waits for it.
            Self::Audit { .. } => Lane::Turn,
        }
    }

    fn size(&self) -> Size {
        match self {
            Self::Write(write) => Size::of(&write.batch),
            Self::Erase { .. } | Self::Sweep { .. } => Size { rows: Batch::ROWS_MAX, bytes: 0 },
            Self::Audit { .. } => Size { rows: 2, bytes: 0 },
        }
    }
}

/// Why a job was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The lane or the tenant's share of it is full.
    Full,
    /// The store is closing.
    Closed,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// One transaction's worth of jobs: any number of batches, or one other job.
    Group(Vec<Job>),
    /// Nothing came in time.
    Idle,
    /// Closed and empty.
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    turn: Jobs,
    bulk: Jobs,
    /// How many groups of turns passed what waits in the bulk lane since it was served last.
    passed: usize,
    closed: bool,
}

impl State {
    /// Takes one group: of turns while any wait, but one job of the bulk lane once so many groups passed it.
    fn take_group(&mut self, rows_max: usize, passed_max: usize) -> Vec<Job> {
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

impl Queue {
    pub(crate) fn push(&self, job: Job) -> Result<(), Rejected> {
        let mut state = self.lock();
        if state.closed {
            return Err(Rejected::Closed);
        }
        let lane = match job.lane() {
            Lane::Turn => &mut state.turn,
            Lane::Bulk => &mut state.bulk,
        };
        if !lane.push(job) {
            return Err(Rejected::Full);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for work and takes one group of it.
    pub(crate) fn next(&self, wait: Duration, rows_max: usize) -> Next {
        self.next_passing(wait, rows_max, BULK_AFTER_GROUPS)
    }

    /// The same, with the most groups of turns that pass what waits in the bulk lane.
    fn next_passing(&self, wait: Duration, rows_max: usize, passed_max: usize) -> Next {
        let state = self.lock();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, wait, |state| {
                state.turn.ring.is_empty() && state.bulk.ring.is_empty() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let group = state.take_group(rows_max, passed_max);
        match (group.is_empty(), state.closed) {
            (false, _) => Next::Group(group),
            (true, false) => Next::Idle,
            (true, true) => Next::Closed,
        }
    }

    /// Waits for a time, or until the queue is closed. Returns whether it is closed, and all jobs in it.
    pub(crate) fn pause(&self, wait: Duration) -> (bool, Vec<Job>) {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lane.
#[derive(Debug, Default)]
struct Jobs {
    /// Tenants with jobs, each once, in the order in which they are served next.
    ring: VecDeque<TenantId>,
    tenants: HashMap<TenantId, Share>,
    count: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Share {
    jobs: VecDeque<(Job, Size)>,
    bytes: usize,
}

impl Jobs {
    /// Takes a job in, unless the lane or the tenant's share of it is full.
    fn push(&mut self, job: Job) -> bool {
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

    fn drain(&mut self, rows_max: usize, jobs_max: usize) -> Vec<Job> {
        let mut group = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while group.len() < jobs_max {
            let Some(tenant) = self.ring.front().copied() else { break };
            let Some((job, size)) = self.tenants.get(&tenant).and_then(|share| share.jobs.front()) else {
                self.forget(tenant);
                continue;
            };
            let alone = !matches!(job, Job::Write(_));
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
    fn pop(&mut self, tenant: TenantId) -> Option<Job> {
        let share = self.tenants.get_mut(&tenant)?;
        let (job, size) = share.jobs.pop_front()?;
        share.bytes -= size.bytes;
        self.count -= 1;
        self.bytes -= size.bytes;
        if share.jobs.is_empty() {
            self.forget(tenant);
        } else {
            self.ring.rotate_left(1);
        }
        Some(job)
    }

    fn forget(&mut self, tenant: TenantId) {
        self.tenants.remove(&tenant);
        self.ring.retain(|waiting| *waiting != tenant);
    }

    fn take_all(&mut self) -> impl Iterator<Item = Job> + use<> {
        let taken = std::mem::take(self);
        taken.tenants.into_values().flat_map(|share| share.jobs).map(|(job, _)| job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);
    const OTHER: TenantId = TenantId::from_bytes([2; 16]);

    fn write(tenant: TenantId, lane: Lane) -> Job {
        let mut batch = Batch::new(tenant);
        batch.lane = lane;
        Job::Write(Write { batch, ack: oneshot::channel().0 })
    }

    fn erase(tenant: TenantId) -> Job {
        Job::Erase { tenant, agent: AgentId::from_bytes([3; 16]), ack: oneshot::channel().0 }
    }

    fn lanes(next: Next) -> Vec<Lane> {
        match next {
            Next::Group(group) => group.iter().map(Job::lane).collect(),
            other => panic!("work waits: {other:?}"),
        }
    }

    /// Keeps a turn waiting all the time. Returns behind how many groups of turns each page of an erasure is served.
    fn served_behind(pages: usize, passed_max: usize) -> Vec<usize> {
        let queue = Queue::default();
        for _ in 0..pages {
            queue.push(erase(OTHER)).expect("there is room");
        }
        let (mut behind, mut passed) = (Vec::new(), 0);
        for _ in 0..1_000 {
            queue.push(write(TENANT, Lane::Turn)).expect("there is room");
            match lanes(queue.next_passing(Duration::ZERO, 1024, passed_max)).as_slice() {
                [Lane::Bulk] => behind.push(std::mem::take(&mut passed)),
                turns => {
                    assert!(turns.iter().all(|lane| *lane == Lane::Turn), "{turns:?}");
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
    fn of_what_has_waited_long_one_job_is_served_and_all_of_it_where_no_turn_waits() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.push(write(OTHER, Lane::Bulk)).expect("there is room");
        }
        queue.push(write(TENANT, Lane::Turn)).expect("there is room");
        queue.push(write(TENANT, Lane::Turn)).expect("there is room");
        assert_eq!(lanes(queue.next_passing(Duration::ZERO, 1024, 0)), [Lane::Bulk]);
        assert_eq!(lanes(queue.next_passing(Duration::ZERO, 1024, 1)), [Lane::Turn; 2]);
        assert_eq!(lanes(queue.next(Duration::ZERO, 1024)), [Lane::Bulk; 2]);
        assert!(matches!(queue.next(Duration::ZERO, 1024), Next::Idle));
    }
}
