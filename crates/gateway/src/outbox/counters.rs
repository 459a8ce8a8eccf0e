//! How messages ended, counted for the meters.

use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::delivery::DeliveryState;

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub(super) struct OutboxCounters {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) targets: AtomicU64,
}

impl OutboxCounters {
    pub(super) fn count_outcome(&self, state: DeliveryState) {
        let counter = match state {
            DeliveryState::Delivered => &self.delivered,
            DeliveryState::Failed => &self.failed,
            DeliveryState::Dead => &self.dead,
            DeliveryState::UnknownAfterSend => &self.unknown,
            DeliveryState::Prepared | DeliveryState::Sending => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
