//! Which session or run gets a task next: the one order in which tenants take turns, under one bound of active runs.
//!
//! A tenant with ten thousand queued turns delays another's single turn by at most one round, and one whose runs are many and
//! long leaves the others a part of the bound ([`FairQueue`]). A run that waits for a slot of something else gives its own back
//! meanwhile ([`TaskSlot::pause`]) and takes one again in its tenant's turn. A run that has a task works in steps
//! ([`TaskSlot::begin_step`]), of which tenants that work at the same time share a few: so the processor and the store are not full
//! of one tenant's runs when another's comes. Nothing here is durable: a queue that overflows, and everything at a crash, is found
//! again in the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dromia_contracts::pool::FairQueue;
use dromia_contracts::{RunId, SessionId, TenantId};
use tokio::sync::oneshot;

use crate::config::{ACTIVE_RESERVE_PART, READY_MAX};
use crate::steps::{StepKind, StepPermit, StepPool, StepWait};

/// Something that wants a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadyWork {
    /// A session with waiting input.
    Session(SessionId),
    /// A run to take over.
    Run(RunId),
}

/// What waits in line.
#[derive(Debug)]
enum QueuedWork {
    /// For a task.
    Task(ReadyWork),
    /// With a task, for the slot that it gave back, under this number.
    Paused(u64),
}

/// Hands out tasks.
#[derive(Debug, Clone)]
pub struct Scheduler {
    inner: Arc<Mutex<SchedulerState>>,
    steps: StepPool,
}

#[derive(Debug)]
struct SchedulerState {
    queue: FairQueue<QueuedWork>,
    backlogs: HashMap<TenantId, TenantBacklog>,
    /// Runs that gave their slot back and have their task still.
    paused: usize,
    /// Those of them that want it again.
    resuming: HashMap<u64, oneshot::Sender<TakenSlot>>,
    next_number: u64,
    stopped: bool,
}

/// What of a tenant wants a task.
#[derive(Debug, Default)]
struct TenantBacklog {
    known: HashSet<ReadyWork>,
    /// Something did not fit and waits in the store only.
    overflowed: bool,
    /// The same of a parked run that is due.
    left_due: bool,
}

impl TenantBacklog {
    fn is_needed(&self) -> bool {
        self.overflowed || self.left_due || !self.known.is_empty()
    }
}

/// The kinds of work that wait only in the store and fit into the queue now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoredBacklog {
    /// A session or a run.
    pub lost: bool,
    /// A parked run that is due.
    pub due: bool,
}

/// One of the slots, released when dropped.
#[derive(Debug)]
struct TakenSlot {
    scheduler: Scheduler,
    tenant: TenantId,
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        self.scheduler.lock().queue.give_back(self.tenant);
    }
}

/// The right to run one task; released when dropped.
#[derive(Debug)]
pub struct TaskSlot {
    scheduler: Scheduler,
    tenant: TenantId,
    /// Nothing while the run waits for something else.
    taken: Mutex<Option<TakenSlot>>,
    /// Nothing while the run waits for what is no part of a step.
    step: Mutex<Option<StepPermit>>,
}

impl TaskSlot {
    /// Charges the tenant for model calls beyond the one that every turn pays at its start.
    pub fn charge_model_calls(&self, model_calls: u32) {
        self.scheduler.lock().queue.charge_tenant(self.tenant, model_calls.saturating_sub(1).into());
    }

    /// Gives the slot back while the run waits for something that others hold; its task stays. The caller must dispatch
    /// afterwards.
    pub fn pause(&self) {
        let taken = self.lock_taken().take();
        if taken.is_some() {
            self.scheduler.lock().paused += 1;
        }
    }

    /// Takes a slot again, in the tenant's turn. Once it is queued, the caller's `hand_out` must dispatch free slots.
    /// After the scheduler stopped, the run continues without one.
    pub async fn resume(&self, hand_out: impl FnOnce()) {
        if self.lock_taken().is_some() {
            return;
        }
        let answer = self.scheduler.lock().enqueue_resume(self.tenant);
        hand_out();
        if let Ok(taken) = answer.await {
            *self.lock_taken() = Some(taken);
            self.scheduler.lock().paused -= 1;
        }
    }

    /// Begins a step, in the tenant's turn; one that is under way goes on. The time is that since a fixed moment.
    pub async fn begin_step(&self, now: Duration) {
        if self.lock_step().is_some() {
            return;
        }
        let step = self.scheduler.begin_step(self.tenant, StepKind::UnderWay, now).await;
        *self.lock_step() = Some(step);
    }

    /// Goes on with a step that began before there was a slot.
    pub fn continue_step(&self, step: Option<StepPermit>) {
        let previous = std::mem::replace(&mut *self.lock_step(), step);
        drop(previous);
    }

    /// Ends the step, if one is under way, and tells whether there was one: what comes next is a wait for a model, a tool or
    /// what else is outside.
    pub fn end_step(&self) -> bool {
        let step = self.lock_step().take();
        step.is_some()
    }

    fn lock_step(&self) -> MutexGuard<'_, Option<StepPermit>> {
        // No code panics while it holds the lock.
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_taken(&self) -> MutexGuard<'_, Option<TakenSlot>> {
        // No code panics while it holds the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        let taken = self.lock_taken().take();
        if taken.is_none() {
            self.scheduler.lock().paused -= 1;
        }
    }
}

impl Scheduler {
    /// Makes a scheduler that runs at most `active_max` tasks at once, of which no tenant takes all. How many steps a tenant
    /// takes that works alone, and how many tenants share, the pool says.
    pub fn new(active_max: usize, steps: StepPool) -> Self {
        let inner = SchedulerState {
            queue: FairQueue::new(active_max, active_max / ACTIVE_RESERVE_PART),
            backlogs: HashMap::new(),
            paused: 0,
            resuming: HashMap::new(),
            next_number: 0,
            stopped: false,
        };
        Self { inner: Arc::new(Mutex::new(inner)), steps }
    }

    /// Takes a slot at once, but only while nothing waits that may have it.
    pub fn try_slot(&self, tenant: TenantId) -> Option<TaskSlot> {
        let mut inner = self.lock();
        let is_taken = !inner.stopped && inner.queue.try_take(tenant);
        is_taken.then(|| self.claimed_slot(tenant))
    }

    /// Begins a step of work that has no slot, in the tenant's turn. The time is that since a fixed moment.
    pub fn begin_step(&self, tenant: TenantId, kind: StepKind, now: Duration) -> StepWait {
        self.steps.begin_step(tenant, kind, now)
    }

    /// Queues work. Work that is queued already, or does not fit, is not queued.
    pub fn push_ready(&self, tenant: TenantId, ready: ReadyWork) {
        self.lock().push_work(tenant, ready, |backlog| backlog.overflowed = true);
    }

    /// Queues a parked run that is due. If it does not fit, [`Scheduler::take_left`] reports it separately.
    pub fn push_due(&self, tenant: TenantId, run: RunId) {
        self.lock().push_work(tenant, ReadyWork::Run(run), |backlog| backlog.left_due = true);
    }

    /// Takes the next one together with a slot for it. A run that waits for its slot gets it on the way.
    pub fn next(&self) -> Option<(TenantId, ReadyWork, TaskSlot)> {
        loop {
            let mut inner = self.lock();
            if inner.stopped {
                return None;
            }
            let (tenant, waiting) = inner.queue.take_next()?;
            match waiting {
                QueuedWork::Task(ready) => {
                    inner.forget_work(tenant, ready);
                    return Some((tenant, ready, self.claimed_slot(tenant)));
                }
                QueuedWork::Paused(number) => {
                    let wanted = inner.resuming.remove(&number);
                    drop(inner);
                    let taken = TakenSlot { scheduler: self.clone(), tenant };
                    if let Some(wanted) = wanted {
                        // A run that ended meanwhile wants none: the slot is dropped and comes back.
                        drop(wanted.send(taken));
                    }
                }
            }
        }
    }

    /// Returns, once, which work of a tenant waits only in the store, as soon as half of its queue is free.
    pub fn take_left(&self) -> StoredBacklog {
        let mut inner = self.lock();
        let mut left = StoredBacklog::default();
        inner.backlogs.retain(|_, backlog| {
            if backlog.known.len() < READY_MAX / 2 {
                left.lost |= std::mem::take(&mut backlog.overflowed);
                left.due |= std::mem::take(&mut backlog.left_due);
            }
            backlog.is_needed()
        });
        left
    }

    /// Dispatches nothing from now on. Runs that have a task continue.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        inner.resuming.clear();
    }

    /// Counts slots that are taken, what waits and the bound.
    pub fn slot_load(&self) -> (usize, usize, usize) {
        let inner = self.lock();
        (inner.queue.taken_slots(), inner.queue.waiting_count(), inner.queue.capacity())
    }

    /// Counts tasks: runs with a slot, and those that gave theirs back for a while.
    pub fn count_tasks(&self) -> usize {
        let inner = self.lock();
        inner.queue.taken_slots() + inner.paused
    }

    fn claimed_slot(&self, tenant: TenantId) -> TaskSlot {
        let taken = TakenSlot { scheduler: self.clone(), tenant };
        TaskSlot { scheduler: self.clone(), tenant, taken: Mutex::new(Some(taken)), step: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, SchedulerState> {
        // No code panics while it holds the lock, and the counters stay true even if one did.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchedulerState {
    fn push_work(&mut self, tenant: TenantId, ready: ReadyWork, turn_away: impl FnOnce(&mut TenantBacklog)) {
        let backlog = self.backlogs.entry(tenant).or_default();
        if backlog.known.contains(&ready) {
            return;
        }
        if backlog.known.len() >= READY_MAX {
            turn_away(backlog);
            return;
        }
        backlog.known.insert(ready);
        self.queue.push(tenant, QueuedWork::Task(ready));
    }

    fn forget_work(&mut self, tenant: TenantId, ready: ReadyWork) {
        if let Some(backlog) = self.backlogs.get_mut(&tenant) {
            backlog.known.remove(&ready);
            if !backlog.is_needed() {
                self.backlogs.remove(&tenant);
            }
        }
    }

    /// Puts a run in line for its slot. Once it is stopped, it answers at once that there is none.
    fn enqueue_resume(&mut self, tenant: TenantId) -> oneshot::Receiver<TakenSlot> {
        let (answer, receiver) = oneshot::channel();
        if !self.stopped {
            let number = self.next_number;
            self.next_number += 1;
            self.resuming.insert(number, answer);
            self.queue.push(tenant, QueuedWork::Paused(number));
        }
        receiver
    }
}

#[cfg(test)]
mod tests;
