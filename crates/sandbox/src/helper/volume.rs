//! The volume of a workspace, and how little of it may be left while a program runs.
//!
//! The workspace's own limit is counted; this is for what cannot be: whatever fills the volume, programs that may write to
//! it are ended before the server has nothing left to write its own log to.
//!
//! What it refuses to do: say who filled it. Every program on the volume ends.

use std::path::{Path, PathBuf};

/// The part of a volume that is kept free of programs, and how much of it at most.
const RESERVE_PART: u64 = 20;
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// A volume on which a program runs.
#[derive(Debug)]
pub(super) struct WorkspaceVolume {
    at: PathBuf,
    /// How much must stay free; nothing where the volume does not report its size.
    floor: Option<u64>,
}

impl WorkspaceVolume {
    /// Looks at the volume before a program begins. Where less is free already than is kept, half of what is left is.
    pub(super) fn measure_before(workspace: &Path) -> Self {
        let floor = free_and_size(workspace).map(|(free, size)| free_floor(free, size));
        Self { at: workspace.to_owned(), floor }
    }

    /// Returns whether less is free than must be.
    pub(super) fn is_filling(&self) -> bool {
        let Some(floor) = self.floor else { return false };
        free_and_size(&self.at).is_some_and(|(free, _)| free < floor)
    }
}

fn free_floor(free: u64, size: u64) -> u64 {
    (size / RESERVE_PART).min(RESERVE_BYTES_MAX).min(free / 2)
}

/// Bytes that a user may still write, and the size of the volume.
fn free_and_size(path: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_part_of_the_volume() {
        const GIB: u64 = 1 << 30;
        assert_eq!(free_floor(400 * GIB, 500 * GIB), GIB);
        assert_eq!(free_floor(GIB, 2 * GIB), 2 * GIB / 20);
        assert_eq!(free_floor(1000, 2 * GIB), 500);
        assert_eq!(free_floor(0, 2 * GIB), 0);
    }

    #[test]
    fn a_volume_with_less_than_its_reserve_is_filling() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut volume = WorkspaceVolume::measure_before(dir.path());
        assert!(!volume.is_filling());
        volume.floor = Some(u64::MAX);
        assert!(volume.is_filling());
        volume.at = dir.path().join("nothing");
        assert!(!volume.is_filling(), "a volume that is gone fills nothing");
    }
}
