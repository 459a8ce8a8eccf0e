//! Which session or run gets a task next: deficit round robin by tenant under one bound of active runs.
//!
//! A tenant with ten thousand queued turns delays another's single turn by at most one round. Nothing here is
//! durable: a queue that overflows, and everything at a crash, is found again in the store.

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
        let mut inner = self.lock();
        let inner = &mut *inner;
        let queue = inner.queues.entry(tenant).or_default();
        if queue.items.len() >= READY_MAX {
            queue.overflowed = true;
            return;
        }
        if !queue.known.insert(ready) {
            return;
        }
        if queue.items.is_empty() {
            inner.round.push_back(tenant);
        }
        queue.items.push_back(ready);
        inner.ready += 1;
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
                if !queue.overflowed {
                    inner.queues.remove(&tenant);
                }
            }
            inner.active += 1;
            return Some((tenant, ready, Slot { scheduler: self.clone(), tenant }));
        }
    }

    /// Tells, once, that something of a tenant waits in the store only.
    pub fn take_overflow(&self) -> bool {
        let mut inner = self.lock();
        let mut overflowed = false;
        inner.queues.retain(|_, queue| {
            if queue.items.len() < READY_MAX / 2 {
                overflowed |= std::mem::take(&mut queue.overflowed);
            }
            queue.overflowed || !queue.items.is_empty()
        });
        overflowed
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
        assert!(!scheduler.take_overflow(), "the queue is still full");
        while scheduler.next().is_some() {}
        assert!(scheduler.take_overflow());
        assert!(!scheduler.take_overflow());
    }
}
