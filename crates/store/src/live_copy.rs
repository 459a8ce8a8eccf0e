//! Copying the database while a server may write it, without slowing the writer down.
//!
//! SQLite's online backup copies pages in bounded steps inside one read transaction, so the copy is the database of one
//! moment, with every commit that was acknowledged before. Without that transaction each write of the server would make
//! the copy start again. The price is that the log cannot restart while the copy runs. So the copy says that it holds the
//! log, and the writer lets it grow to a second bound. Before that bound the copy gives up: at it the writer would stop.
//! `VACUUM INTO` holds the same snapshot, takes longer and cannot give it up page by page.
//!
//! While no server has the store, its lock is held: without a log the file is read as immutable, and a server that
//! started meanwhile would change it. Nothing of the store is written, except the lock's own file.

use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::acknowledged_end::{self, LogLoss};
use crate::config::StoreConfig;
use crate::inspect::StoreInspector;
use crate::lock::HomeLock;
use crate::log_hold::{self, LogHold};
use crate::open_error::OpenError;

/// Pages of one step: 1 MiB, after which the log is looked at.
const STEP_PAGES: i32 = 256;
/// How long a step waits for a lock of SQLite.
const POLL: Duration = Duration::from_millis(20);
/// How long a copy may wait for one lock of SQLite.
const PATIENCE: Duration = Duration::from_hours(24);

/// Keeps a server from opening the store, where none has it open.
#[derive(Debug)]
pub struct StoreHold(Option<HomeLock>);

impl StoreHold {
    /// Takes the lock of the store unless a server has it.
    pub fn acquire(config: &StoreConfig) -> Result<Self, OpenError> {
        match HomeLock::acquire(&config.dir) {
            Ok(lock) => Ok(Self(Some(lock))),
            Err(OpenError::HomeLocked { .. }) => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    /// Whether a server has the store and may write it.
    pub fn is_served(&self) -> bool {
        self.0.is_none()
    }
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    /// Pages that are copied.
    pub copied: u64,
    /// Pages of the database.
    pub total: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The caller stopped it.
    #[error("the copy was stopped")]
    Stopped,
    /// The server writes faster than the database is copied.
    #[error("the server's log grew past {} MiB while the database was copied", .0 >> 20)]
    Outrun(u64),
    /// Acknowledged commits are missing already.
    #[error("the store is damaged: {0}")]
    Lossy(String),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy cannot be written, or a page cannot be read.
    #[error("failed to copy the database: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Copies the database of a store to a new file that only its owner can read. `watch` is called after each step.
pub fn copy_database(
    config: &StoreConfig,
    hold: &StoreHold,
    to: &Path,
    watch: &mut dyn FnMut(CopyProgress) -> ControlFlow<()>,
) -> Result<(), CopyError> {
    let failed = |error: std::io::Error| CopyError::Failed(error.to_string());
    if !hold.is_served()
        && let Some(LogLoss::Lost(problem)) = acknowledged_end::log_loss(config).map_err(failed)?
    {
        return Err(CopyError::Lossy(problem));
    }
    // Let go after the snapshot is.
    let _held = if hold.is_served() { Some(LogHold::acquire(config).map_err(failed)?) } else { None };
    let inspector = StoreInspector::new(config.clone(), PATIENCE);
    let source = if hold.is_served() { inspector.connect_beside()? } else { inspector.connect()? };
    // Empty each time: of a copy that was given up, SQLite may have written some pages and not the first.
    let make = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    make.map_err(failed)?;
    let mut copy = Connection::open(to)?;
    // A copy that breaks off is thrown away, so nothing of it needs a journal or a sync.
    copy.pragma_update(None, "journal_mode", "OFF")?;
    copy.pragma_update(None, "synchronous", "OFF")?;
    source.execute_batch("BEGIN")?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let backup = Backup::new(&source, &mut copy)?;
    loop {
        let step = backup.step(STEP_PAGES)?;
        let progress = backup.progress();
        let pages = |count: i32| u64::try_from(count).unwrap_or_default();
        let total = pages(progress.pagecount);
        let copied = total.saturating_sub(pages(progress.remaining));
        if watch(CopyProgress { copied, total }).is_break() {
            return Err(CopyError::Stopped);
        }
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More if !hold.is_served() => {}
            StepResult::More => {
                let most = log_hold::held_log_max(config) / 8 * 7;
                if acknowledged_end::log_bytes(config) > most {
                    return Err(CopyError::Outrun(most));
                }
            }
            _ => std::thread::sleep(POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::open::open_writer;

    fn go_on(_: CopyProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn put_pins(db: &Connection, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let bytes = vec![u8::try_from(number % 251).expect("fits"); 3_000];
            db.execute(
                "INSERT INTO pins VALUES (x'01', ?1, ?2)",
                rusqlite::params![number.to_be_bytes(), bytes],
            )
            .expect("is put");
        }
    }

    fn count_pins(path: &Path) -> u32 {
        let db = Connection::open(path).expect("opens");
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("is checked");
        assert_eq!(sound, "ok");
        db.query_row("SELECT count(*) FROM pins", [], |row| row.get(0)).expect("is counted")
    }

    #[test]
    fn a_copy_beside_a_writer_is_of_one_moment() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path().join("store"));
        fs::create_dir(&config.dir).expect("is made");
        let lock = HomeLock::acquire(&config.dir).expect("is free");
        let writer = open_writer(&config).expect("opens");
        put_pins(&writer, 0..1_000);
        let hold = StoreHold::acquire(&config).expect("is tried");
        assert!(hold.is_served());
        let copy = dir.path().join("copy.db");
        let mut next = 1_000;
        let mut write_more = |_: CopyProgress| {
            put_pins(&writer, next..next + 5);
            next += 5;
            ControlFlow::Continue(())
        };
        copy_database(&config, &hold, &copy, &mut write_more).expect("is copied");
        assert!(next > 1_010, "the writer was at work between steps: {next}");
        assert_eq!(fs::metadata(&copy).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(count_pins(&copy), 1_000, "what was committed before, and nothing later");
        drop(lock);
    }

    #[test]
    fn a_copy_holds_the_lock_while_no_server_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::new(dir.path().join("store"));
        fs::create_dir(&config.dir).expect("is made");
        put_pins(&open_writer(&config).expect("opens"), 0..10);
        let hold = StoreHold::acquire(&config).expect("is tried");
        assert!(!hold.is_served() && HomeLock::acquire(&config.dir).is_err(), "no server can start");
        let copy = dir.path().join("copy.db");
        copy_database(&config, &hold, &copy, &mut go_on).expect("is copied");
        assert_eq!(count_pins(&copy), 10);
        let stopped = copy_database(&config, &hold, &copy, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
    }
}
