//! The planted fault of the race tests: guards that are bound by their paths, as they once were.
//!
//! Between two look-ups of a name another program of the same agent exchanges it with a link, and what is bound is where
//! that leads. Only a program whose `main` plants it does this ([`plant`]): a helper of the tests, never the shipped one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dromia_contracts::guarded_paths;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, mount_bind_recursive, move_mount, open_tree};

use super::mount_point::{make_mount_point, old_path};
use super::tree::{READ_ONLY, WRITABLE};
use crate::spec::WORKSPACE;
use crate::sys;

/// How long after the first look-up of a name the second one comes.
const BETWEEN_LOOK_UPS: Duration = Duration::from_millis(1);

static IS_PLANTED: AtomicBool = AtomicBool::new(false);

/// Plants the fault in this process.
pub(crate) fn plant_fault() {
    IS_PLANTED.store(true, Ordering::Relaxed);
}

/// Returns whether it is planted.
pub(super) fn is_planted() -> bool {
    IS_PLANTED.load(Ordering::Relaxed)
}

/// Lists what of a workspace is there to be guarded: directories that stay where they are, and what is frozen.
pub(crate) fn guarded_paths(workspace: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_there = |path: &Path| path.symlink_metadata().is_ok_and(|found| !found.is_symlink());
    let (mut fixed, mut frozen) = (Vec::new(), Vec::new());
    let repository = guarded_paths::REPOSITORY_GUARDED.map(|(name, _)| name);
    let directories =
        guarded_paths::DIRECTORIES.into_iter().chain([(guarded_paths::REPOSITORY, repository.as_slice())]);
    for (directory, names) in directories {
        if is_there(&workspace.join(directory)) {
            fixed.push(PathBuf::from(directory));
            frozen.extend(names.iter().map(|name| Path::new(directory).join(name)));
        }
    }
    frozen.extend(guarded_paths::FILES.map(PathBuf::from));
    frozen.retain(|path| is_there(&workspace.join(path)));
    (fixed, frozen)
}

/// Shows a workspace with its guards, while the old root is there.
pub(super) fn guarded_workspace(source: &Path) -> io::Result<()> {
    let top = Path::new(WORKSPACE);
    make_mount_point(top, true)?;
    mount_bind_recursive(old_path(source), top)?;
    sys::set_mount(top, WRITABLE)?;
    let (fixed, frozen) = guarded_paths(top);
    for directory in fixed {
        let path = top.join(directory);
        bind_onto_itself(&path)?;
    }
    for name in frozen {
        let path = top.join(name);
        bind_onto_itself(&path)?;
        sys::set_mount(&path, READ_ONLY)?;
    }
    Ok(())
}

/// Binds a path onto itself by two look-ups with a pause between them, so that a busy machine loses the race soon too.
fn bind_onto_itself(path: &Path) -> io::Result<()> {
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, clone)?;
    std::thread::sleep(BETWEEN_LOOK_UPS);
    Ok(move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
