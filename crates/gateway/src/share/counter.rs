//! Slots of which only the number counts. How many there are is asked each time, because an edit may change it.
//!
//! It knows no tenants and keeps no order: a listener waits alone, and a request that finds no slot is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a task that waits goes without looking whether there are more slots.
const LOOK: Duration = Duration::from_millis(500);

/// How many slots are taken.
#[derive(Debug, Default)]
pub(crate) struct SlotCounter {
    taken: AtomicUsize,
    /// Wakes the one task that waits.
    freed: Notify,
}

/// A slot, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct CountedSlot(Arc<SlotCounter>);

impl Drop for CountedSlot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

impl SlotCounter {
    /// Takes a slot, if fewer than so many are taken.
    pub(crate) fn try_take(self: &Arc<Self>, max: usize) -> Option<CountedSlot> {
        let one_more = |taken| (taken < max).then_some(taken + 1);
        let counted = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        counted.is_ok().then(|| CountedSlot(Arc::clone(self)))
    }

    /// Waits for a slot. One task may wait at a time.
    pub(crate) async fn take(self: &Arc<Self>, max: impl Fn() -> usize) -> CountedSlot {
        loop {
            if let Some(slot) = self.try_take(max()) {
                return slot;
            }
            // A slot that was freed meanwhile has left its notice.
            drop(timeout(LOOK, self.freed.notified()).await);
        }
    }

    /// Counts slots that are taken.
    pub(crate) fn count_taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_gets_a_slot_from_a_drop_or_a_higher_bound() {
        let (slots, max) = (Arc::new(SlotCounter::default()), Arc::new(AtomicUsize::new(1)));
        let first = slots.try_take(1).unwrap();
        assert!(slots.try_take(1).is_none());
        let waiting = tokio::spawn({
            let (slots, max) = (slots.clone(), max.clone());
            let bound = move || max.load(Ordering::SeqCst);
            async move { (slots.take(&bound).await, slots.take(&bound).await) }
        });
        drop(first);
        max.store(2, Ordering::SeqCst);
        let both = waiting.await.unwrap();
        assert_eq!(slots.count_taken(), 2);
        drop(both.0);
        assert!(slots.try_take(1).is_none(), "one is still taken");
    }
}
