//! What the writer tells everybody else: whether it takes batches, how much it did, and when readers must yield.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dromia_contracts::store::StoreStats;

#[derive(Debug, Default)]
pub(crate) struct Gauge {
    read_only: Mutex<Option<String>>,
    /// Raised to interrupt every read that began before.
    yields: AtomicU64,
    /// Frames in the log that a restart of the log has not dropped.
    pub(crate) wal_frames: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) writer_micros: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

impl Gauge {
    pub(crate) fn read_only(&self) -> Option<String> {
        self.read_only.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_read_only(&self, cause: Option<String>) {
        *self.read_only.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }

    /// Asks every read that is under way to end.
    pub(crate) fn interrupt_readers(&self) {
        self.yields.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn yields(&self) -> u64 {
        self.yields.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            writer_micros: self.writer_micros.load(Ordering::Relaxed),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
