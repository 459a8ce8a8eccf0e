//! What the first process of a virtual machine does for one program: it makes the directories for the trees, and becomes the
//! user of the program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::ProcessLimits;
use rustix::mount::{MountFlags, mount};
use rustix::process::{DumpableBehavior, Gid, Uid};

use super::scan::NODES_MAX;
use crate::helper::namespaces::INSIDE_ID;

/// Directories any of which can carry the trees until the program's root is built; that takes `/tmp`.
const CARRIERS: [&str; 5] = ["/mnt", "/media", "/srv", "/opt", "/home"];

/// What a workspace may have more than its quota, so that exceeding it is seen.
const SLACK_BYTES: u64 = 1 << 20;

/// Makes the directories that trees are put into, in memory, and returns where: the workspace has its quota, and both
/// belong to the program's user.
pub(super) fn make_tree_directory(limits: &ProcessLimits) -> io::Result<PathBuf> {
    let top = CARRIERS.map(Path::new).into_iter().find(|path| path.is_dir());
    let top = top.ok_or_else(|| io::Error::other("the root image has none of /mnt, /media, /srv"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", top, "tmpfs", flags, c"mode=0755")
        .map_err(io::Error::from)
        .map_err(with_place("trees"))?;
    let workspace = top.join("workspace");
    fs::create_dir(&workspace)?;
    let bytes = limits.disk_bytes.saturating_add(SLACK_BYTES);
    let options = format!("mode=0755,uid={INSIDE_ID},gid={INSIDE_ID},size={bytes},nr_inodes={NODES_MAX}");
    let options = std::ffi::CString::new(options)?;
    mount("dromia", &workspace, "tmpfs", flags, options.as_c_str())?;
    Ok(top.to_owned())
}

/// Becomes the program's user, for ever. What this process holds is not for the eyes of what it starts.
pub(super) fn become_user() -> io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(Gid::from_raw(INSIDE_ID))?;
    rustix::thread::set_thread_uid(Uid::from_raw(INSIDE_ID))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Says where an error occurred.
pub(super) fn with_place(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |problem| io::Error::other(format!("{what}: {problem}"))
}
