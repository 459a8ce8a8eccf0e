//! How much may lie in a workspace, for the file tools: as much as for the agent's programs.
//!
//! Every write adds at most its own bytes, so what lay there at the last look and what was written since bound what lies
//! there; only where that is more than may be is it measured again. A program may write anything, so after one nothing is
//! known.
//!
//! What it refuses to do: keep anything from being deleted or read, and count files without a name, which no file tool leaves.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::AgentId;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::file_error::FileError;
use crate::path::WorkspacePath;
use crate::workspace::{MissingDirectory, Workspace};

/// The most names that are counted, and the deepest directory; a workspace with more is over its limit.
const NAMES_MAX: usize = 200_000;
const DEPTH_MAX: usize = 256;

/// The most agents of which something is remembered.
const AGENTS_MAX: usize = 4_096;

/// What a file takes beside its bytes: the rest of its last block, and its name.
const BESIDE_BYTES: u64 = 8 << 10;

/// What lies in workspaces at most.
#[derive(Debug, Default)]
pub(crate) struct WorkspaceQuotas {
    known: Mutex<HashMap<AgentId, u64>>,
    /// What was added to directories of the operator's.
    grown: Mutex<HashMap<(u64, u64), u64>>,
}

impl WorkspaceQuotas {
    /// Admits so many bytes more to a workspace that may hold `limit`, or refuses.
    pub(crate) fn admit_bytes(
        &self,
        agent: AgentId,
        workspace: &Workspace,
        more: u64,
        limit: u64,
    ) -> Result<(), FileError> {
        let more = more.saturating_add(BESIDE_BYTES);
        let known = self.lock_usage().get(&agent).copied();
        let mut after = known.map_or(u64::MAX, |known| known.saturating_add(more));
        if after > limit {
            after = measure_usage(workspace)?.saturating_add(more);
        }
        if after > limit {
            return Err(FileError::OverQuota { limit });
        }
        let mut known = self.lock_usage();
        if known.len() >= AGENTS_MAX {
            known.clear();
        }
        known.insert(agent, after);
        Ok(())
    }

    /// Admits so many bytes more to a directory of the operator's: what lies there is not the agents', so only what they add
    /// is counted.
    pub(crate) fn admit_growth(&self, directory: (u64, u64), more: u64, limit: u64) -> Result<(), FileError> {
        let mut grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        if grown.len() >= AGENTS_MAX {
            grown.clear();
        }
        let before = grown.get(&directory).copied().unwrap_or_default();
        let after = before.saturating_add(more).saturating_add(BESIDE_BYTES);
        if after > limit {
            return Err(FileError::GrownTooMuch { limit });
        }
        grown.insert(directory, after);
        Ok(())
    }

    /// Forgets what is known of a workspace: a program may write there.
    pub(crate) fn forget_usage(&self, agent: AgentId) {
        self.lock_usage().remove(&agent);
    }

    fn lock_usage(&self) -> MutexGuard<'_, HashMap<AgentId, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a workspace as they lie on the disk.
fn measure_usage(workspace: &Workspace) -> Result<u64, FileError> {
    const DIRECTORY: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let Some(top) = workspace.open_directory(&WorkspacePath::default(), MissingDirectory::Leave)? else {
        return Ok(0);
    };
    let (mut bytes, mut names) = (0_u64, 0);
    let dir = Dir::read_from(&top)?;
    // Held handles, deepest last: a directory that is moved meanwhile is still the one that was meant.
    let mut open: Vec<(OwnedFd, Dir)> = vec![(top, dir)];
    while let Some((handle, dir)) = open.last_mut() {
        let Some(Ok(entry)) = dir.read() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        names += 1;
        let Ok(found) = rustix::fs::statat(&*handle, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        bytes = bytes.saturating_add(u64::try_from(found.st_blocks).unwrap_or_default().saturating_mul(512));
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let below = is_directory.then(|| rustix::fs::openat(&*handle, name, DIRECTORY, Mode::empty()));
        if names > NAMES_MAX || open.len() > DEPTH_MAX {
            return Ok(u64::MAX);
        }
        if let Some(Ok(below)) = below
            && let Ok(dir) = Dir::read_from(&below)
        {
            open.push((below, dir));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{PathResolver, workspace_path};

    const AGENT: AgentId = AgentId::from_bytes([5; 16]);
    const LIMIT: u64 = 1 << 20;

    #[test]
    fn the_quota_counts_outside_writes_and_deletions_near_its_limit() {
        let home = tempfile::tempdir().expect("a directory");
        let workspace = Workspace::open(home.path(), AGENT, PathResolver::probe(), MissingDirectory::Make);
        let workspace = workspace.expect("made").expect("there");
        let place = workspace_path(home.path(), AGENT).join("sub");
        std::fs::create_dir(&place).expect("a directory");
        let quotas = WorkspaceQuotas::default();
        let admit = |more| quotas.admit_bytes(AGENT, &workspace, more, LIMIT);
        admit(LIMIT / 2).expect("there is room");
        admit(LIMIT / 2).expect("nothing was written after all");
        std::fs::write(place.join("program"), vec![1; 900 << 10]).expect("written");
        quotas.forget_usage(AGENT);
        let refused = admit(LIMIT / 4).expect_err("it would be too much");
        assert_eq!(refused, FileError::OverQuota { limit: LIMIT });
        admit(LIMIT / 64).expect("a little is not");
        std::fs::remove_file(place.join("program")).expect("removed");
        admit(LIMIT / 2).expect("there is room again");
    }
}
