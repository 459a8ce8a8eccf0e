//! How long the log may get: a copy of the database says that it holds the log, so that the writer lets it grow.
//!
//! The copy shares a lock of the operating system on the record of the acknowledged end, which ends with its process, however
//! that ends. The writer only tries the lock where the log is long. A copy that never ends keeps the log growing up to the
//! second bound, never further: then the writer does what it does with any reader that stays.

use std::fs::{File, TryLockError};
use std::io;

use crate::config::{HELD_LOG_PART, StoreConfig, WAL_PRESS_BYTES};

/// Held by a copy while its snapshot is open.
#[derive(Debug)]
pub(crate) struct LogHold {
    _file: File,
}

impl LogHold {
    /// Joins the copies that hold the log.
    pub(crate) fn acquire(config: &StoreConfig) -> io::Result<Self> {
        let file = File::open(config.acknowledged_path())?;
        // The writer has it for a moment at most.
        file.lock_shared()?;
        Ok(Self { _file: file })
    }
}

/// Whether any copy holds the log. `record` is the writer's own file.
pub(crate) fn is_log_held(record: &File) -> bool {
    match record.try_lock() {
        Ok(()) => record.unlock().is_err(),
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}

/// The length at which a log that is held is pressed: bounded by what the volume can spare, for the log may be copied into
/// the main file as a whole. A volume that does not say how much it has left spares nothing.
pub(crate) fn held_log_max(config: &StoreConfig) -> u64 {
    let free =
        rustix::fs::statvfs(&config.dir).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize));
    bound_log(config.held_log_max, free)
}

fn bound_log(most: u64, free: u64) -> u64 {
    most.min(free / HELD_LOG_PART).max(WAL_PRESS_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_held_log_leaves_a_volume_three_quarters_of_its_room() {
        assert_eq!(bound_log(GIB, 100 * GIB), GIB);
        assert_eq!(bound_log(GIB, GIB), GIB / 4);
        assert_eq!(bound_log(GIB, 0), WAL_PRESS_BYTES, "and is never shorter than without a copy");
    }
}
