//! A pool of slots that tenants share, for whatever the server does a bounded number of at a time.
//!
//! The [`FairQueue`] says who gets a slot. A slot is given back when it is dropped, and so is a place in line. It
//! starts nothing and knows no time: each waiter sets a deadline of its own.

mod queue;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::TenantId;

pub use self::queue::FairQueue;

/// A pool of slots; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct SlotPool {
    state: Arc<Mutex<PoolState>>,
    /// The most of one tenant that wait at a time.
    waiting_max: usize,
}

#[derive(Debug)]
struct PoolState {
    queue: FairQueue<u64>,
    /// Places in line, and slots on their way to their waiters.
    places: HashMap<u64, SlotWaitState>,
    next_place: u64,
}

#[derive(Debug)]
enum SlotWaitState {
    Waits(Option<Waker>),
    HasSlot,
}

/// A slot of a pool, given back when it is dropped.
#[derive(Debug)]
#[must_use = "a slot that is dropped is given back"]
pub struct PoolSlot {
    pool: SlotPool,
    tenant: TenantId,
}

impl Drop for PoolSlot {
    fn drop(&mut self) {
        self.pool.give_back(self.tenant);
    }
}

impl SlotPool {
    /// Makes a pool of so many slots, of which no tenant takes the reserve alone. Of one tenant so many wait at most.
    pub fn new(capacity: usize, reserve: usize, waiting_max: usize) -> Self {
        let queue = FairQueue::new(capacity, reserve);
        let state = PoolState { queue, places: HashMap::new(), next_place: 0 };
        Self { state: Arc::new(Mutex::new(state)), waiting_max }
    }

    /// Takes a slot at once, if the tenant may have one and no waiter may have it.
    pub fn try_take(&self, tenant: TenantId) -> Option<PoolSlot> {
        self.lock_state().queue.try_take(tenant).then(|| self.new_slot(tenant))
    }

    /// Waits for a slot; nothing where as many of the tenant wait as may.
    pub fn wait_for_slot(&self, tenant: TenantId) -> SlotWait {
        SlotWait { pool: self.clone(), tenant, place: None }
    }

    /// Gives the pool another number of slots. Those that are taken beyond it come back in their own time.
    pub fn resize(&self, capacity: usize, reserve: usize) {
        let mut state = self.lock_state();
        state.queue.resize(capacity, reserve);
        let woken = state.hand_out();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Counts slots that are taken.
    pub fn taken_slots(&self) -> usize {
        self.lock_state().queue.taken_slots()
    }

    fn new_slot(&self, tenant: TenantId) -> PoolSlot {
        PoolSlot { pool: self.clone(), tenant }
    }

    fn give_back(&self, tenant: TenantId) {
        let mut state = self.lock_state();
        state.queue.give_back(tenant);
        let woken = state.hand_out();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock_state(&self) -> MutexGuard<'_, PoolState> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolState {
    /// Hands out what is free, and returns who is to be woken.
    fn hand_out(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some((_, place)) = self.queue.take_next() {
            if let Some(SlotWaitState::Waits(waker)) = self.places.insert(place, SlotWaitState::HasSlot) {
                woken.extend(waker);
            }
        }
        woken
    }
}

/// Waits for a slot of a pool. Dropped, it leaves the line.
#[derive(Debug)]
#[must_use = "it does nothing until it is awaited"]
pub struct SlotWait {
    pool: SlotPool,
    tenant: TenantId,
    /// Its place in line, once it is there.
    place: Option<u64>,
}

impl Future for SlotWait {
    type Output = Option<PoolSlot>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (pool, tenant) = (self.pool.clone(), self.tenant);
        let mut state = pool.lock_state();
        let Some(place) = self.place else {
            if state.queue.try_take(tenant) {
                return Poll::Ready(Some(pool.new_slot(tenant)));
            }
            if state.queue.waiting_of(tenant) >= pool.waiting_max {
                return Poll::Ready(None);
            }
            let place = state.next_place;
            state.next_place += 1;
            state.queue.push(tenant, place);
            state.places.insert(place, SlotWaitState::Waits(Some(cx.waker().clone())));
            self.place = Some(place);
            return Poll::Pending;
        };
        match state.places.get_mut(&place) {
            Some(SlotWaitState::Waits(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(SlotWaitState::HasSlot) => {
                state.places.remove(&place);
                self.place = None;
                Poll::Ready(Some(pool.new_slot(tenant)))
            }
            None => Poll::Ready(None),
        }
    }
}

impl Drop for SlotWait {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.pool.lock_state();
        match state.places.remove(&place) {
            Some(SlotWaitState::Waits(_)) => {
                let _ = state.queue.remove(self.tenant, |waiting| *waiting == place);
            }
            Some(SlotWaitState::HasSlot) => {
                drop(state);
                self.pool.give_back(self.tenant);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: TenantId = TenantId::from_bytes([1; 16]);
    const QUIET: TenantId = TenantId::from_bytes([2; 16]);

    fn poll(wait: &mut SlotWait) -> Poll<Option<PoolSlot>> {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn has(wait: &mut SlotWait) -> PoolSlot {
        match poll(wait) {
            Poll::Ready(Some(slot)) => slot,
            other => panic!("it has no slot: {other:?}"),
        }
    }

    #[test]
    fn a_waiter_at_its_limit_leaves_others_their_slot() {
        let pool = SlotPool::new(4, 1, 8);
        let held: Vec<_> = (0..3).map(|_| pool.try_take(FLOOD).expect("it is free")).collect();
        let mut waiting: Vec<_> = (0..2).map(|_| pool.wait_for_slot(FLOOD)).collect();
        assert!(waiting.iter_mut().all(|wait| poll(wait).is_pending()));
        let quiet = has(&mut pool.wait_for_slot(QUIET));
        drop(held);
        let slots: Vec<_> = waiting.iter_mut().map(has).collect();
        assert_eq!(pool.taken_slots(), 3);
        drop((slots, quiet));
        assert_eq!(pool.taken_slots(), 0);
        assert!(pool.lock_state().places.is_empty());
    }

    #[test]
    fn a_waiter_that_leaves_the_pool_takes_no_slot() {
        let pool = SlotPool::new(1, 0, 8);
        let held = pool.try_take(FLOOD).expect("it is free");
        let (mut gone, mut late, mut stays) =
            (pool.wait_for_slot(FLOOD), pool.wait_for_slot(QUIET), pool.wait_for_slot(FLOOD));
        assert!([&mut gone, &mut late, &mut stays].into_iter().all(|wait| poll(wait).is_pending()));
        drop(gone);
        // The slot is on its way to the one that leaves now.
        drop(held);
        assert!(pool.try_take(QUIET).is_none());
        drop(stays);
        let slot = has(&mut late);
        drop(slot);
        assert_eq!(pool.taken_slots(), 0);
        assert!(pool.lock_state().places.is_empty());
    }

    #[test]
    fn waiters_of_a_tenant_are_bounded_and_one_more_refused() {
        let pool = SlotPool::new(1, 0, 2);
        let _held = pool.try_take(FLOOD).expect("it is free");
        let mut waiting: Vec<_> = (0..2).map(|_| pool.wait_for_slot(FLOOD)).collect();
        assert!(waiting.iter_mut().all(|wait| poll(wait).is_pending()));
        assert!(matches!(poll(&mut pool.wait_for_slot(FLOOD)), Poll::Ready(None)));
        assert!(poll(&mut pool.wait_for_slot(QUIET)).is_pending(), "another tenant waits");
        waiting.pop();
        assert!(poll(&mut pool.wait_for_slot(FLOOD)).is_pending(), "there is room again");
    }
}
