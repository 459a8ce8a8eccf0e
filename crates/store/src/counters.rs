//! Counters and flags shared by the threads of a store: whether the writer takes batches, how much it did, when
//! readers must yield, and what damage any of them met.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dromia_contracts::store::{StoreDamage, StoreStats};

#[derive(Debug, Default)]
pub(crate) struct StoreGauge {
    read_only: Mutex<Option<String>>,
    /// The first damage that a read or a write met, and when.
    damaged: Mutex<Option<(String, Instant)>>,
    /// How many of them met any.
    met: AtomicU64,
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

impl StoreGauge {
    pub(crate) fn read_only(&self) -> Option<String> {
        self.read_only.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_read_only(&self, cause: Option<String>) {
        *self.read_only.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }

    pub(crate) fn known_damage(&self) -> Option<StoreDamage> {
        let first = self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let met = self.met.load(Ordering::Relaxed);
        first.map(|(problem, at)| StoreDamage { problem, ago: at.elapsed(), met })
    }

    /// Counts that a read or a write met damage, and keeps what the first one met until the store is closed: an open
    /// file is not repaired.
    pub(crate) fn meet_damage(&self, place: &str, problem: &str) {
        let mut first = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        add_count(&self.met, 1);
        first.get_or_insert_with(|| (format!("{place}: {problem}"), Instant::now()));
    }

    /// Asks every read that is under way to end.
    pub(crate) fn interrupt_readers(&self) {
        self.yields.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn yield_count(&self) -> u64 {
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

pub(crate) fn add_count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
