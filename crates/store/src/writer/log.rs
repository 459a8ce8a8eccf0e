//! The write-ahead log, kept short.
//!
//! Each 4 MiB of it are copied into the main file. Once all of it is copied and no reader is in it, SQLite restarts
//! it. A reader that stays keeps it growing: past 32 MiB readers are interrupted, past 56 MiB no batch is
//! taken until the log is empty, so that it stays under 64 MiB (a reader of another process cannot be interrupted).
//! While a copy of the database holds the log, both bounds are higher, and it stays under 1 GiB.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use crate::acknowledged_end::AcknowledgedEnd;
use crate::config::{StoreConfig, WAL_COPY_BYTES, WAL_FULL_BYTES, WAL_PRESS_BYTES};
use crate::counters::{StoreGauge, add_count};
use crate::log_hold;

const PAGE_BYTES: u64 = 4096;
const FRAME_BYTES: u64 = PAGE_BYTES + 24;
/// Free pages that the file keeps.
const FREE_PAGES_KEPT: i64 = 1_024;

#[derive(Debug)]
pub(crate) struct WriteAheadLog {
    gauge: Arc<StoreGauge>,
    /// Frames at which the next copy is due.
    due: u64,
    /// Frames that were copied into the main file already.
    copied: u64,
    /// Bytes past which readers are interrupted.
    press: u64,
    end: AcknowledgedEnd,
}

impl WriteAheadLog {
    pub(crate) fn new(gauge: Arc<StoreGauge>, end: AcknowledgedEnd) -> Self {
        Self { gauge, due: WAL_COPY_BYTES / FRAME_BYTES, copied: 0, press: WAL_PRESS_BYTES, end }
    }

    /// Remembers outside the log how far it has come: after a commit, before it is acknowledged.
    pub(crate) fn reached(&mut self) {
        let frames = self.gauge.wal_frames.load(Ordering::Relaxed);
        if frames > 0 {
            self.end.reach(frames);
        }
    }

    /// Counts what a connection commits.
    pub(crate) fn attach_hook(&self, db: &mut Connection) -> rusqlite::Result<()> {
        let gauge = self.gauge.clone();
        db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames: std::ffi::c_int| {
            let frames = u64::from(frames.unsigned_abs());
            let before = gauge.wal_frames.swap(frames, Ordering::Relaxed);
            // Fewer frames than before: this commit restarted the log.
            let added = if frames > before { frames - before } else { frames };
            add_count(&gauge.bytes_written, added * FRAME_BYTES);
            Ok(())
        }))
    }

    /// How many rows the next transaction may have: fewer while the log is long.
    pub(crate) fn rows_max(&self, usual: usize) -> usize {
        if self.log_bytes() < self.press { usual } else { usual / 4 }
    }

    /// Gives pages that erasure freed back to the file system, some at a time. Returns whether that was all.
    pub(crate) fn shrink_file(db: &Connection) -> rusqlite::Result<bool> {
        let free: i64 = db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
        // A few free pages are used again by the next turns; giving them back would only move others.
        if free <= FREE_PAGES_KEPT {
            return Ok(true);
        }
        db.execute_batch("PRAGMA incremental_vacuum(512)").map(|()| false)
    }

    /// Returns whether everything in the log is in the main file too.
    pub(crate) fn is_copied(&self) -> bool {
        self.copied >= self.gauge.wal_frames.load(Ordering::Relaxed)
    }

    /// Copies the log if it is due. Returns false if it is full and cannot be restarted.
    pub(crate) fn copy_if_due(
        &mut self,
        db: &Connection,
        config: &StoreConfig,
        idle: bool,
    ) -> rusqlite::Result<bool> {
        let frames = self.gauge.wal_frames.load(Ordering::Relaxed);
        if frames < self.copied {
            self.copied = 0;
            self.due = WAL_COPY_BYTES / FRAME_BYTES;
        }
        let due = frames >= self.due || (idle && frames > self.copied);
        if !due {
            return Ok(true);
        }
        self.press = WAL_PRESS_BYTES;
        if self.log_bytes() >= self.press && self.end.is_held() {
            self.press = log_hold::held_log_max(config);
        }
        if self.log_bytes() >= self.press {
            self.gauge.interrupt_readers();
            if self.truncate_log(db)? {
                return Ok(true);
            }
        } else {
            self.copy_frames(db, "PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        // A long log is looked at more often, so that it is seen to be full before it is at its bound.
        let step = if self.log_bytes() < self.press { WAL_COPY_BYTES } else { WAL_COPY_BYTES / 4 };
        self.due = frames + step / FRAME_BYTES;
        Ok(self.log_bytes() < self.press + WAL_FULL_BYTES)
    }

    /// Copies and syncs the whole log and empties it. False if a reader is in it.
    pub(crate) fn truncate_log(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        self.end.clear_durably();
        let emptied = self.copy_frames(db, "PRAGMA wal_checkpoint(TRUNCATE)")?;
        if !emptied && !self.is_copied() {
            // A reader stays: the log keeps what is not in the main file yet.
            self.reached();
        }
        if emptied {
            self.gauge.wal_frames.store(0, Ordering::Relaxed);
            self.copied = 0;
            self.due = WAL_COPY_BYTES / FRAME_BYTES;
        }
        Ok(emptied)
    }

    fn copy_frames(&mut self, db: &Connection, sql: &str) -> rusqlite::Result<bool> {
        let (busy, log, copied): (bool, i64, i64) =
            db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let copied = match log {
            // An emptied log counts as nothing copied: what it held before was all of it.
            0 => self.gauge.wal_frames.load(Ordering::Relaxed),
            // None of it is copied where a reader began before its first frame.
            1.. => u64::try_from(copied).unwrap_or(self.copied),
            _ => self.copied,
        };
        add_count(&self.gauge.bytes_written, copied.saturating_sub(self.copied) * PAGE_BYTES);
        self.copied = copied;
        if self.is_copied() {
            self.end.clear();
        }
        Ok(!busy)
    }

    fn log_bytes(&self) -> u64 {
        self.gauge.wal_frames.load(Ordering::Relaxed) * FRAME_BYTES
    }
}
