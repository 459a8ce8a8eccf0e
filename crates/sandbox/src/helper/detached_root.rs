//! A root directory whose mounts no list shows.
//!
//! `/proc/PID/mountinfo`, `mounts` and `mountstats` list the mounts of a process's mount namespace that can be reached from
//! its root directory, and name for each the path that it has in the file system it came from: of a workspace, the path of
//! an agent's home on this machine. So the root directory of a program is the same tree of mounts outside of its mount
//! namespace, and the lists are empty. No path leads from there to the mounts of the namespace.
//!
//! What it refuses to do: hide the mounts from processes that do not enter the copy; the first process of the namespace does.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{OpenTreeFlags, open_tree};

use super::tree;

/// Enters a copy of this process's root that belongs to no mount namespace. The copy is there for as long as what is
/// returned is held by any process.
pub(super) fn enter_copy() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let copy = open_tree(tree::open_no_links(Path::new("/"))?, "", flags)?;
    rustix::process::fchdir(&copy)?;
    rustix::process::chroot(".")?;
    Ok(copy)
}
