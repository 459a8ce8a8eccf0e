//! Mount trees by handle: a path is resolved once, over no link, and what was found is what is mounted.
//!
//! A process that writes to a workspace can replace any name below it with a link, at any moment. So nothing here takes
//! a path below one: a name is opened beneath a handle, its tree is cloned by that handle, and attached to a handle.
//! What cannot be done so is not done at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use dromia_contracts::sandbox::ProcessSpec;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::sys::{self, MountAttributes};

/// A handle that leads nowhere by itself, and to a link where the name is one.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Over no link at all.
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// How often the kernel is asked again where a rename elsewhere disturbed it.
const AGAIN_MAX: usize = 64;

pub(crate) const WRITABLE: MountAttributes = MountAttributes { read_only: false, no_devices: true };
pub(crate) const READ_ONLY: MountAttributes = MountAttributes { read_only: true, no_devices: true };

/// Opens what lies at a path of this machine; a link in it, or at its end, is refused.
pub(crate) fn open_no_links(path: &Path) -> io::Result<OwnedFd> {
    let found = open_resolved(CWD, path.as_os_str(), NO_LINKS)?;
    match file_type(&found)? {
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Ok(found),
    }
}

/// Opens the workspace of a spec, which must be the directory that the spec means.
pub(crate) fn open_workspace(spec: &ProcessSpec) -> io::Result<OwnedFd> {
    let found = open_no_links(&spec.workspace)?;
    match spec.reference {
        Some(meant) if device_and_inode(&found)? != (meant.device, meant.inode) => {
            Err(io::Error::other("the workspace was replaced by another directory; nothing ran, try again"))
        }
        _ => Ok(found),
    }
}

/// Returns how a spec's workspace is shown.
pub(super) fn workspace_attributes(spec: &ProcessSpec) -> MountAttributes {
    if spec.reference.is_some_and(|meant| meant.read_only) { READ_ONLY } else { WRITABLE }
}

/// Opens a name in a held directory, which may be that of a link; nothing if there is none.
pub(super) fn open_child(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    match open_resolved(parent.as_fd(), name, NO_LINKS | ResolveFlags::BENEATH) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}

fn open_resolved(parent: impl AsFd, path: &OsStr, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    for _ in 1..AGAIN_MAX {
        match rustix::fs::openat2(&parent, path, HANDLE, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    rustix::fs::openat2(&parent, path, HANDLE, Mode::empty(), resolve)
}

/// Returns what a handle is of.
pub(super) fn file_type(handle: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(handle)?.st_mode))
}

/// Returns which file a handle is of: its device and its number.
pub(crate) fn device_and_inode(handle: &OwnedFd) -> io::Result<(u64, u64)> {
    let found = rustix::fs::fstat(handle)?;
    Ok((found.st_dev, found.st_ino))
}

/// Clones the tree of a handle, with all that is mounted in it. What is mounted in the clone shows up nowhere else.
pub(super) fn clone_tree(of: &OwnedFd, attributes: MountAttributes) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(of, "", flags)?;
    sys::set_tree(&tree, attributes)?;
    Ok(tree)
}

/// Puts a cloned tree where a handle is. From then on the tree's own handle is that of what lies there.
pub(super) fn attach_tree(tree: &OwnedFd, onto: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", onto, "", flags)?)
}

/// Makes the place of a tree below a held root, directory by directory and over no link, and opens it.
pub(super) fn open_mount_point(root: &OwnedFd, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    let names: Vec<_> = target
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let Some((last, directories)) = names.split_last() else { return Err(Errno::INVAL.into()) };
    let mut at = root.try_clone()?;
    for name in directories {
        at = make_and_open(&at, name, true)?;
    }
    make_and_open(&at, last, is_directory)
}

fn make_and_open(parent: &OwnedFd, name: &OsStr, is_directory: bool) -> io::Result<OwnedFd> {
    let made = if is_directory {
        rustix::fs::mkdirat(parent, name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(problem) => return Err(problem.into()),
    }
    let found = open_child(parent, name)?.ok_or(Errno::NOENT)?;
    if (file_type(&found)? == FileType::Directory) == is_directory {
        Ok(found)
    } else {
        Err(Errno::NOTDIR.into())
    }
}

/// Opens a held directory so that its names can be read.
pub(super) fn open_readable(directory: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(directory, ".", flags, Mode::empty())?))
}
