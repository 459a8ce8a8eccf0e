//! Why a store cannot be opened.

use std::io::ErrorKind;

use rusqlite::ErrorCode;

/// Says why a store cannot be opened; the variants are what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory: stop it first.
    #[error("the store is in use{}", pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    HomeLocked {
        /// The process that has it, if it said so.
        pid: Option<u32>,
    },
    /// The directory cannot be written: change its owner or mode.
    #[error("the store's directory cannot be written")]
    ReadOnlyHome(#[source] std::io::Error),
    /// A newer program wrote the store: use that one.
    #[error("the store has schema {found}, but this program supports {known}")]
    NewerSchema {
        /// The version found.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The file belongs to another program: choose another directory.
    #[error("the file is a database of another program")]
    NotOurs,
    /// The file is damaged: restore a backup.
    #[error("the store is damaged: {problem}")]
    Damaged {
        /// What does not fit.
        problem: String,
    },
    /// Another process is in the database, so what lies in the log could not be copied in time: end it first.
    #[error("another process reads the database, and its log could not be copied")]
    LogHeld,
    /// The file system failed.
    #[error("the file system failed")]
    Io(#[from] std::io::Error),
    /// SQLite failed.
    #[error("the database failed")]
    Database(#[source] rusqlite::Error),
}

impl OpenError {
    pub(crate) fn of_home(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::ReadOnlyHome(error),
            _ => Self::Io(error),
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { problem: error.to_string() }
            }
            _ => Self::Database(error),
        }
    }
}
