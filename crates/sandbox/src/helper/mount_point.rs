//! Directories and files that mounts lie on, and where the old root is while the new one is built.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where the old root lies while the new one is built.
pub(super) const OLD: &str = "/old";

/// Returns where a path of the old root lies.
pub(super) fn old_path(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes what a mount needs to lie on.
pub(super) fn make_mount_point(target: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return make_directory(target);
    }
    parent_of(target)?;
    File::create(target).map(drop)
}

/// Makes the directories above a mount point.
pub(super) fn parent_of(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), make_directory)
}

/// Makes a directory and those above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}
