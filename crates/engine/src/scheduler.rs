//! Which session or run gets a task next: deficit round robin by tenant under one bound of active runs.
//!
//! A tenant with ten thousand queued turns delays another's single turn by at most one round. A debt of model calls is
//! paid while something waits and goes with the last of it: kept, it would have a single turn that comes later wait for
//! more than one round. Nothing here is durable: a queue that overflows, and everything at a crash, is found again in the
//! store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::{RunId, SessionId, TenantId};

use crate::config::{QUANTUM, READY_MAX};

/// Something that wants a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ready {
    /// A session with waiting input.
    Session(SessionId),
    /// A run to take over.
    Run(RunId),
}

/// Hands out tasks.
#[derive(Debug, Clone)]
pub struct Scheduler {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    active: usize,
    active_max: usize,
    ready: usize,
    stopped: bool,
    /// Tenants with a backlog, in the order of their turn.
    round: VecDeque<TenantId>,
    queues: HashMap<TenantId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Ready>,
    known: HashSet<Ready>,
    deficit: i64,
    /// Something did not fit and waits in the store only.
    overflowed: bool,
    /// The same of a parked run that is due.
    left_due: bool,
}

impl Queue {
    fn is_needed(&self) -> bool {
        self.overflowed || self.left_due || !self.items.is_empty()
    }
}

/// What waits in the store only and has room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// A session or a run.
    pub lost: bool,
    /// A parked run that is due.
    pub due: bool,
}

/// The right to run one task; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    scheduler: Scheduler,
    tenant: TenantId,
}

impl Slot {
    /// Charges the tenant for model calls beyond the one that every turn pays at its start.
    pub fn charge(&self, model_calls: u32) {
        let mut inner = self.scheduler.lock();
        if let Some(queue) = inner.queues.get_mut(&self.tenant) {
            queue.deficit -= i64::from(model_calls.saturating_sub(1));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.scheduler.lock().active -= 1;
    }
}

impl Scheduler {
    /// Makes a scheduler that runs at most `active_max` tasks at once.
    pub fn new(active_max: usize) -> Self {
        let inner = Inner {
            active: 0,
            active_max,
            ready: 0,
            stopped: false,
            round: VecDeque::new(),
            queues: HashMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Takes a slot at once, but only while nobody waits for one.
    pub fn try_slot(&self, tenant: TenantId) -> Option<Slot> {
        let mut inner = self.lock();
        if inner.stopped || inner.ready > 0 || inner.active >= inner.active_max {
            return None;
        }
        inner.active += 1;
        Some(Slot { scheduler: self.clone(), tenant })
    }

    /// Queues something. What is queued already, or does not fit, is not queued twice or at all.
    pub fn push(&self, tenant: TenantId, ready: Ready) {
        self.lock().push(tenant, ready, |queue| queue.overflowed = true);
    }

    /// Queues a parked run that is due. Where it does not fit, [`Scheduler::take_left`] tells of it by itself.
    pub fn push_due(&self, tenant: TenantId, run: RunId) {
        self.lock().push(tenant, Ready::Run(run), |queue| queue.left_due = true);
    }

    /// Takes the next one together with a slot for it.
    pub fn next(&self) -> Option<(TenantId, Ready, Slot)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if inner.stopped || inner.active >= inner.active_max {
            return None;
        }
        // Each visit adds a quantum, so a tenant in debt is reached again after finitely many rounds.
        loop {
            let tenant = *inner.round.front()?;
            let queue = inner.queues.entry(tenant).or_default();
            if queue.deficit <= 0 {
                queue.deficit += QUANTUM;
                inner.round.rotate_left(1);
                if queue.deficit <= 0 || inner.round.len() > 1 {
                    continue;
                }
            }
            let Some(ready) = queue.items.pop_front() else {
                inner.round.pop_front();
                continue;
            };
            queue.known.remove(&ready);
            queue.deficit -= 1;
            inner.ready -= 1;
            if queue.items.is_empty() {
                inner.round.pop_front();
                if !queue.is_needed() {
                    inner.queues.remove(&tenant);
                }
            }
            inner.active += 1;
            return Some((tenant, ready, Slot { scheduler: self.clone(), tenant }));
        }
    }

    /// Tells, once, what of a tenant waits in the store only, as soon as half of its queue is free.
    pub fn take_left(&self) -> Left {
        let mut inner = self.lock();
        let mut left = Left::default();
        inner.queues.retain(|_, queue| {
            if queue.items.len() < READY_MAX / 2 {
                left.lost |= std::mem::take(&mut queue.overflowed);
                left.due |= std::mem::take(&mut queue.left_due);
            }
            queue.is_needed()
        });
        left
    }

    /// Hands out nothing from now on.
    pub fn stop(&self) {
        self.lock().stopped = true;
    }

    /// Counts tasks, waiting ones and the bound.
    pub fn load(&self) -> (usize, usize, usize) {
        let inner = self.lock();
        (inner.active, inner.ready, inner.active_max)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock, and the counters stay true even if one did.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, tenant: TenantId, ready: Ready, turn_away: impl FnOnce(&mut Queue)) {
        let queue = self.queues.entry(tenant).or_default();
        if queue.known.contains(&ready) {
            return;
        }
        if queue.items.len() >= READY_MAX {
            turn_away(queue);
            return;
        }
        queue.known.insert(ready);
        if queue.items.is_empty() {
            self.round.push_back(tenant);
        }
        queue.items.push_back(ready);
        self.ready += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u16) -> Ready {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        Ready::Session(SessionId::from_bytes(bytes))
    }

    const FLOOD: TenantId = TenantId::from_bytes([1; 16]);
    const QUIET: TenantId = TenantId::from_bytes([2; 16]);

    #[test]
    fn a_single_turn_starts_within_two_of_a_flooding_tenant() {
        let scheduler = Scheduler::new(1);
        for n in 0..10_000 {
            scheduler.push(FLOOD, session(n));
        }
        for _ in 0..7 {
            let (tenant, _, slot) = scheduler.next().expect("a slot is free");
            assert_eq!(tenant, FLOOD);
            slot.charge(1);
        }
        scheduler.push(QUIET, session(20_000));
        let order: Vec<_> = (0..3).map(|_| scheduler.next().expect("a slot is free").0).collect();
        assert!(order.contains(&QUIET), "{order:?}");
        assert_eq!(order.iter().position(|tenant| *tenant == QUIET).map(|at| at <= 2), Some(true));
    }

    #[test]
    fn a_tenant_whose_turns_are_long_waits_longer() {
        let scheduler = Scheduler::new(1);
        for n in 0..100 {
            scheduler.push(FLOOD, session(n));
            scheduler.push(QUIET, session(1000 + n));
        }
        let mut turns = HashMap::<TenantId, u32>::new();
        for _ in 0..60 {
            let (tenant, _, slot) = scheduler.next().expect("a slot is free");
            *turns.entry(tenant).or_default() += 1;
            slot.charge(if tenant == FLOOD { 9 } else { 1 });
        }
        assert!(turns[&QUIET] > 3 * turns[&FLOOD], "{turns:?}");
    }

    #[test]
    fn slots_are_bounded_and_come_back() {
        let scheduler = Scheduler::new(2);
        let first = scheduler.try_slot(FLOOD).expect("two are free");
        let _second = scheduler.try_slot(FLOOD).expect("one is free");
        assert!(scheduler.try_slot(QUIET).is_none());
        drop(first);
        scheduler.push(FLOOD, session(1));
        assert!(scheduler.try_slot(QUIET).is_none(), "somebody waits already");
        assert!(scheduler.next().is_some());
        assert!(scheduler.next().is_none(), "both are taken");
    }

    #[test]
    fn what_does_not_fit_is_told_once_and_what_is_queued_is_not_queued_twice() {
        let scheduler = Scheduler::new(1);
        scheduler.push(QUIET, session(1));
        scheduler.push(QUIET, session(1));
        assert_eq!(scheduler.load().1, 1);
        for n in 0..=READY_MAX {
            let mut bytes = [9; 16];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            scheduler.push(FLOOD, Ready::Session(SessionId::from_bytes(bytes)));
        }
        assert_eq!(scheduler.take_left(), Left::default(), "the queue is still full");
        while scheduler.next().is_some() {}
        assert_eq!(scheduler.take_left(), Left { lost: true, due: false });
        assert_eq!(scheduler.take_left(), Left::default());
    }

    #[test]
    fn a_due_run_that_does_not_fit_is_told_of_by_itself_once_half_of_the_queue_is_free() {
        let run = |n: usize| RunId::from_bytes((n as u128).to_be_bytes());
        let scheduler = Scheduler::new(1);
        for n in 0..=READY_MAX {
            scheduler.push_due(FLOOD, run(n));
        }
        scheduler.push_due(FLOOD, run(0));
        assert_eq!(scheduler.load().1, READY_MAX);
        for taken in 0..=READY_MAX / 2 {
            assert_eq!(scheduler.take_left(), Left::default(), "{taken} are gone");
            scheduler.next().expect("the slot of the one before is free");
        }
        assert_eq!(scheduler.take_left(), Left { lost: false, due: true });
        assert_eq!(scheduler.take_left(), Left::default());
    }

    /// Were a debt kept while nothing waits, a tenant of long turns would pay for each with many rounds of the others.
    #[test]
    fn a_single_turn_waits_for_one_round_whatever_the_turn_before_it_took() {
        let scheduler = Scheduler::new(1);
        for n in 0..100 {
            scheduler.push(FLOOD, session(n));
        }
        for n in 0..10 {
            scheduler.push(QUIET, session(1_000 + n));
            let mut waited = 0;
            while let Some((tenant, _, slot)) = scheduler.next() {
                slot.charge(if tenant == QUIET { 50 } else { 1 });
                if tenant == QUIET {
                    break;
                }
                waited += 1;
            }
            assert!(waited <= 2, "turn {n} waited for {waited}");
        }
    }
}
