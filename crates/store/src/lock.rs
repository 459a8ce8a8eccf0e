//! The home lock: one process owns a store's directory.
//!
//! The lock is the operating system's and ends with the process, however it ends; the file's content, the
//! owner's process id, only helps a person to find the owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::open_error::OpenError;

/// Held while the store is open.
#[derive(Debug)]
pub(crate) struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Takes the lock of a directory, or says who has it.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, OpenError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("dromia.lock"))
            .map_err(OpenError::of_home)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The name of the owner is a courtesy: an unreadable file is a lock all the same.
                let read = file.read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::HomeLocked { pid });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::of_home(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(OpenError::of_home)?;
        writeln!(file, "{}", std::process::id()).map_err(OpenError::of_home)?;
        Ok(Self { _file: file })
    }
}
