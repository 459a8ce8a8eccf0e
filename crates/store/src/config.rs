//! The configuration of a store and the bounds it keeps.

use std::path::PathBuf;
use std::time::Duration;

/// Where the store lives and how it reads.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The directory of the store; it is made if it is not there.
    pub dir: PathBuf,
    /// Reader threads, each with a connection of its own; kept within 1 to 4.
    pub readers: usize,
    /// The SQLite VFS under every connection; the default one if it is not set.
    pub vfs: Option<String>,
    /// How long the log may get while a copy of the database is made; tests give less.
    pub held_log_max: u64,
}

impl StoreConfig {
    /// Puts a store into a directory, with the default readers and VFS.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), readers: 3, vfs: None, held_log_max: HELD_LOG_BYTES }
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    pub(crate) fn wal_path(&self) -> PathBuf {
        self.dir.join("dromia.db-wal")
    }

    /// The index of the log, which every process that has the database open shares.
    pub(crate) fn index_path(&self) -> PathBuf {
        self.dir.join("dromia.db-shm")
    }

    /// How far the log was acknowledged.
    pub(crate) fn acknowledged_path(&self) -> PathBuf {
        self.dir.join("dromia.db-acknowledged")
    }

    pub(crate) fn blobs_path(&self) -> PathBuf {
        self.dir.join("blobs")
    }
}

/// The main file.
pub(crate) const DATABASE: &str = "dromia.db";
/// `Drom`, which marks a file as ours.
pub(crate) const APPLICATION_ID: i32 = 0x4472_6f6d;

/// A body up to this many bytes lies in its row.
pub(crate) const INLINE_MAX: usize = 1024;
/// A body above this many bytes is a file.
pub(crate) const TABLE_MAX: usize = 256 * 1024;

/// The most batches of one transaction.
pub(crate) const GROUP_BATCHES_MAX: usize = 256;
/// The most bytes of one transaction; a batch has at most as many.
pub(crate) const GROUP_BYTES_MAX: usize = 1 << 20;
/// The most rows of one transaction, which bounds by how much one commit may lengthen the log.
pub(crate) const GROUP_ROWS_MAX: usize = 1024;

/// After so many groups of turns, one job of the bulk lane is served though turns wait: a sixteenth of the writer's groups
/// is enough for erasures to come to an end, and little enough that no turn notices.
pub(crate) const BULK_AFTER_GROUPS: usize = 16;

/// The most batches that wait in a lane, and those of one tenant.
pub(crate) const LANE_BATCHES_MAX: usize = 16_384;
pub(crate) const TENANT_BATCHES_MAX: usize = 4_096;
/// The most bytes that wait in a lane, and those of one tenant.
pub(crate) const LANE_BYTES_MAX: usize = 64 << 20;
pub(crate) const TENANT_BYTES_MAX: usize = 16 << 20;

/// The most reads that wait for a reader.
pub(crate) const READS_MAX: usize = 4_096;
/// How many of them are of one tenant.
pub(crate) const TENANT_READS_MAX: usize = 3_584;
/// The most bytes of what sessions said lately that is kept in memory.
pub(crate) const RECENT_BYTES_MAX: usize = 8 << 20;
/// How long one read may take.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(5);

/// The log is copied into the main file each time it has grown by this much.
pub(crate) const WAL_COPY_BYTES: u64 = 4 << 20;
/// Past this, readers are interrupted so that SQLite can restart the log.
pub(crate) const WAL_PRESS_BYTES: u64 = 32 << 20;
/// So far past the press, no batch is taken until SQLite has restarted the log; one more transaction stays below 64 MiB.
pub(crate) const WAL_FULL_BYTES: u64 = 24 << 20;
/// Past this, readers are interrupted though a copy holds the log; what may still come stays below 1 GiB.
const HELD_LOG_BYTES: u64 = 992 << 20;
/// While a copy holds it, the log is at most this part of the room that its volume has left.
pub(crate) const HELD_LOG_PART: u64 = 4;

/// How long the writer waits between two attempts to reopen: at first, and at most.
pub(crate) const REOPEN_WAIT_MIN: Duration = Duration::from_millis(100);
pub(crate) const REOPEN_WAIT_MAX: Duration = Duration::from_secs(5);
