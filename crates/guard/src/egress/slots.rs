//! Request slots: how many requests of a line go out at once, and the share of a tenant.
//!
//! A share may have half of the slots, so a tenant whose hosts dawdle does not shut the others out. A request that
//! waits for its share holds no slot meanwhile. The deadline is the request's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most shares that are remembered, in addition to those in use.
const SHARES_MAX: usize = 1024;

/// The slots of a line.
#[derive(Debug)]
pub(super) struct RequestSlots {
    all: Arc<Semaphore>,
    each_max: usize,
    shares: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

/// A slot, given back when it is dropped.
#[derive(Debug)]
pub(super) struct RequestPermit {
    _share: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

impl RequestSlots {
    /// Makes so many slots, of which one share may have so many.
    pub(super) fn new(all_max: usize, each_max: usize) -> Self {
        let within = |max: usize| max.clamp(1, Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(within(all_max)));
        Self { all, each_max: within(each_max), shares: Mutex::default() }
    }

    /// Waits for a slot. `None` only if the semaphore is closed, which it never is.
    pub(super) async fn acquire_permit(&self, share: &str) -> Option<RequestPermit> {
        let share = self.share_semaphore(share).acquire_owned().await.ok()?;
        let room = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(RequestPermit { _share: share, _room: room })
    }

    fn share_semaphore(&self, name: &str) -> Arc<Semaphore> {
        // No code panics while it holds the lock.
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SHARES_MAX {
            // A share that a request uses or waits for has another reference.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.each_max));
        Arc::clone(shares.entry(name.to_owned()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Waits for what must not come.
    async fn is_kept_waiting(room: &RequestSlots, share: &str) -> bool {
        tokio::time::timeout(Duration::from_millis(20), room.acquire_permit(share)).await.is_err()
    }

    #[tokio::test]
    async fn request_slots_bound_each_share_and_the_total() {
        let room = RequestSlots::new(3, 2);
        let first = room.acquire_permit("a").await.expect("a place");
        let _second = room.acquire_permit("a").await.expect("a place");
        assert!(is_kept_waiting(&room, "a").await, "its share is taken");
        let _third = room.acquire_permit("b").await.expect("the other has its own");
        assert!(is_kept_waiting(&room, "b").await, "the room is full");
        drop(first);
        room.acquire_permit("b").await.expect("a place is given back");
    }

    #[tokio::test]
    async fn unused_shares_of_request_slots_are_forgotten() {
        let room = RequestSlots::new(8, 1);
        let kept = room.acquire_permit("kept").await.expect("a place");
        for other in 0..2 * SHARES_MAX {
            drop(room.acquire_permit(&other.to_string()).await);
        }
        let shares = room.shares.lock().unwrap().len();
        assert!(shares <= SHARES_MAX, "{shares}");
        assert!(is_kept_waiting(&room, "kept").await, "one in use is not");
        drop(kept);
    }
}
