//! What of the machine keeps a store from being opened, for whoever tells a person what to do about it.
//!
//! It tells what the operating system and SQLite said and looks at nothing itself. SQLite has one code for many failures of
//! files, so [`Obstacle::Failed`] and [`Obstacle::Unopened`] may be a full disk as well.

use std::io;

use rusqlite::ErrorCode;
use rustix::io::Errno;

use crate::open::OpenError;

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no room, or files may not grow.
    Full,
    /// Nothing may be written there.
    ReadOnly,
    /// The process, or the machine, has too many files open.
    Files,
    /// A file cannot be opened; it is not told why.
    Unopened,
    /// Reading or writing failed; it is not told why.
    Failed,
}

impl OpenError {
    /// Says what of the machine stands in the way; nothing where it is the store itself, or another program.
    pub fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::HomeLocked { .. }
            | Self::LogHeld
            | Self::NewerSchema { .. }
            | Self::NotOurs
            | Self::Damaged { .. } => None,
            Self::ReadOnlyHome(_) => Some(Obstacle::ReadOnly),
            Self::Io(error) => Some(of_file(error)),
            Self::Database(error) => of_database(error),
        }
    }
}

/// Says what a file that cannot be opened, read or written meets.
pub(crate) fn of_file(error: &io::Error) -> Obstacle {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::MFILE) || is(Errno::NFILE) {
        return Obstacle::Files;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Obstacle::Full
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Obstacle::ReadOnly,
        _ => Obstacle::Failed,
    }
}

fn of_database(error: &rusqlite::Error) -> Option<Obstacle> {
    match error.sqlite_error_code()? {
        ErrorCode::DiskFull => Some(Obstacle::Full),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Some(Obstacle::ReadOnly),
        ErrorCode::CannotOpen => Some(Obstacle::Unopened),
        ErrorCode::SystemIoFailure => Some(Obstacle::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_stands_in_the_way_is_told_by_its_code() {
        for (errno, obstacle) in [
            (Errno::NOSPC, Obstacle::Full),
            (Errno::DQUOT, Obstacle::Full),
            (Errno::FBIG, Obstacle::Full),
            (Errno::ROFS, Obstacle::ReadOnly),
            (Errno::ACCESS, Obstacle::ReadOnly),
            (Errno::MFILE, Obstacle::Files),
            (Errno::NFILE, Obstacle::Files),
            (Errno::IO, Obstacle::Failed),
        ] {
            let error = OpenError::Io(io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!(error.obstacle(), Some(obstacle), "{errno}");
        }
        for (code, obstacle) in [
            (ffi::SQLITE_FULL, Some(Obstacle::Full)),
            (ffi::SQLITE_READONLY, Some(Obstacle::ReadOnly)),
            (ffi::SQLITE_CANTOPEN, Some(Obstacle::Unopened)),
            (ffi::SQLITE_IOERR_SHMSIZE, Some(Obstacle::Failed)),
            (ffi::SQLITE_MISUSE, None),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(OpenError::Database(error).obstacle(), obstacle, "{code}");
        }
        assert_eq!(OpenError::NotOurs.obstacle(), None);
    }
}
