//! Why the machine keeps a store from being opened, for programs that advise a person.
//!
//! It repeats what the operating system and SQLite said and looks at nothing itself. SQLite has one code for many
//! failures of files, so [`StorageObstacle::Failed`] and [`StorageObstacle::UnsealError`] may be a full disk as well.

use std::io;

use rusqlite::ErrorCode;
use rustix::io::Errno;

use crate::open_error::OpenError;

/// Why the machine does not let the store be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageObstacle {
    /// The disk is full, or files may not grow.
    Full,
    /// Nothing may be written there.
    ReadOnly,
    /// The process, or the machine, has too many files open.
    Files,
    /// A file cannot be opened; the cause is unknown.
    Unopened,
    /// Reading or writing failed; the cause is unknown.
    Failed,
}

impl OpenError {
    /// Returns the cause if it is the machine; `None` if it is the store itself, or another program.
    pub fn obstacle(&self) -> Option<StorageObstacle> {
        match self {
            Self::HomeLocked { .. }
            | Self::LogHeld
            | Self::NewerSchema { .. }
            | Self::NotOurs
            | Self::Damaged { .. } => None,
            Self::ReadOnlyHome(_) => Some(StorageObstacle::ReadOnly),
            Self::Io(error) => Some(of_file(error)),
            Self::Database(error) => of_database(error),
        }
    }
}

/// Says what a file that cannot be opened, read or written meets.
pub(crate) fn of_file(error: &io::Error) -> StorageObstacle {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::MFILE) || is(Errno::NFILE) {
        return StorageObstacle::Files;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StorageObstacle::Full
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StorageObstacle::ReadOnly,
        _ => StorageObstacle::Failed,
    }
}

/// Returns whether a read failed for a reason that says nothing of the file and may be gone at the next try: the process or the
/// machine is short of descriptors or memory, or the disk failed.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::INTR, Errno::AGAIN]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn of_database(error: &rusqlite::Error) -> Option<StorageObstacle> {
    match error.sqlite_error_code()? {
        ErrorCode::DiskFull => Some(StorageObstacle::Full),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Some(StorageObstacle::ReadOnly),
        ErrorCode::CannotOpen => Some(StorageObstacle::Unopened),
        ErrorCode::SystemIoFailure => Some(StorageObstacle::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_storage_obstacle_is_recognized_by_its_code() {
        for (errno, obstacle) in [
            (Errno::NOSPC, StorageObstacle::Full),
            (Errno::DQUOT, StorageObstacle::Full),
            (Errno::FBIG, StorageObstacle::Full),
            (Errno::ROFS, StorageObstacle::ReadOnly),
            (Errno::ACCESS, StorageObstacle::ReadOnly),
            (Errno::MFILE, StorageObstacle::Files),
            (Errno::NFILE, StorageObstacle::Files),
            (Errno::IO, StorageObstacle::Failed),
        ] {
            let error = OpenError::Io(io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!(error.obstacle(), Some(obstacle), "{errno}");
        }
        for (code, obstacle) in [
            (ffi::SQLITE_FULL, Some(StorageObstacle::Full)),
            (ffi::SQLITE_READONLY, Some(StorageObstacle::ReadOnly)),
            (ffi::SQLITE_CANTOPEN, Some(StorageObstacle::Unopened)),
            (ffi::SQLITE_IOERR_SHMSIZE, Some(StorageObstacle::Failed)),
            (ffi::SQLITE_MISUSE, None),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(OpenError::Database(error).obstacle(), obstacle, "{code}");
        }
        assert_eq!(OpenError::NotOurs.obstacle(), None);
    }
}
