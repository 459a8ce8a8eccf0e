//! What of a workspace a program cannot change, because programs outside would execute it: mounts on the names of the one
//! list ([`dromia_contracts::guarded`]).
//!
//! A mount cannot be moved, replaced or removed by the program that sees it. Each is made of the handle that it is attached
//! to: its name is looked up once, beneath the workspace, and a name that is exchanged meanwhile leads nowhere else.
//! Where a guard cannot be made the program is not started.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use dromia_contracts::guarded_paths::{self, MissingGuard};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::tree::{self, READ_ONLY, WRITABLE};
use crate::sys;

/// The most names of a repository that are guarded beside those of the list: each is a mount. More of them stay as they are.
const OTHERS_MAX: usize = 64;

/// Guards a workspace by the handle of the mount that the program sees. What went wrong is said with its name.
pub(super) fn attach_guards(top: &OwnedFd) -> Result<(), (PathBuf, io::Error)> {
    for (directory, names) in guarded_paths::DIRECTORIES {
        let at = |problem| (PathBuf::from(directory), problem);
        if let Some(inner) = fix_directory(top, directory).map_err(at)? {
            let guarded = names.iter().try_for_each(|name| {
                let at = |problem| (OsString::from(*name), problem);
                freeze_entry(&inner, OsStr::new(name)).map_err(at)
            });
            or_closed(&inner, guarded)
                .map_err(|(name, problem)| (PathBuf::from(directory).join(name), problem))?;
        }
    }
    let at = |problem| (PathBuf::from(guarded_paths::REPOSITORY), problem);
    if let Some(repository) = fix_directory(top, guarded_paths::REPOSITORY).map_err(at)? {
        or_closed(&repository, repository_in(&repository))
            .map_err(|(name, problem)| (PathBuf::from(guarded_paths::REPOSITORY).join(name), problem))?;
    }
    for name in guarded_paths::FILES {
        freeze_entry(top, OsStr::new(name)).map_err(|problem| (PathBuf::from(name), problem))?;
    }
    Ok(())
}

/// Makes a directory unchangeable as a whole that its owner closed to everybody, so that its names cannot be looked up.
fn or_closed(
    directory: &OwnedFd,
    guarded: Result<(), (OsString, io::Error)>,
) -> Result<(), (OsString, io::Error)> {
    match guarded {
        Err((name, problem)) if problem.kind() == io::ErrorKind::PermissionDenied => {
            sys::set_tree(directory, READ_ONLY).map_err(|problem| (name, problem))
        }
        guarded => guarded,
    }
}

/// Lists what of a workspace is there to be guarded, of the names at its top and in its directories for tools.
pub(crate) fn present_paths(top: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let mut present = Vec::new();
    for name in guarded_paths::FILES.into_iter().chain([guarded_paths::REPOSITORY]) {
        if tree::open_child(top, OsStr::new(name))?.is_some() {
            present.push(PathBuf::from(name));
        }
    }
    for (directory, names) in guarded_paths::DIRECTORIES {
        let Some(found) = tree::open_child(top, OsStr::new(directory))? else { continue };
        present.push(PathBuf::from(directory));
        if tree::file_type(&found)? == FileType::Directory {
            for name in names {
                if tree::open_child(&found, OsStr::new(name))?.is_some() {
                    present.push(PathBuf::from(directory).join(name));
                }
            }
        }
    }
    Ok(present)
}

/// Makes a directory stay where it is; returns its handle. What is there and no directory is frozen as a whole.
fn fix_directory(top: &OwnedFd, name: &str) -> io::Result<Option<OwnedFd>> {
    let Some(found) = tree::open_child(top, OsStr::new(name))? else { return Ok(None) };
    let is_directory = tree::file_type(&found)? == FileType::Directory;
    let tree = tree::clone_tree(&found, if is_directory { WRITABLE } else { READ_ONLY })?;
    tree::attach_tree(&tree, &found)?;
    Ok(is_directory.then_some(tree))
}

/// Makes something unchangeable where it is there, all that is below it included. A link stays the link that it is.
fn freeze_entry(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let Some(found) = tree::open_child(parent, name)? else { return Ok(()) };
    let tree = tree::clone_tree(&found, READ_ONLY)?;
    tree::attach_tree(&tree, &found)
}

/// Puts what a repository lacks of the list into that of a workspace, if there is one.
pub(super) fn fill_repository(top: &OwnedFd) -> Result<(), (PathBuf, io::Error)> {
    let named = |name: &str| PathBuf::from(guarded_paths::REPOSITORY).join(name);
    let found = tree::open_child(top, OsStr::new(guarded_paths::REPOSITORY))
        .map_err(|problem| (named(""), problem))?;
    let Some(repository) = found else { return Ok(()) };
    if tree::file_type(&repository).map_err(|problem| (named(""), problem))? != FileType::Directory {
        return Ok(());
    }
    for (name, filler) in guarded_paths::REPOSITORY_GUARDED {
        fill_missing(&repository, name, filler).map_err(|problem| (named(name), problem))?;
    }
    Ok(())
}

/// Guards what is in a repository: first what the list names, which is put there where it is missing, then all else that
/// `git` does not change in its daily work.
fn repository_in(repository: &OwnedFd) -> Result<(), (OsString, io::Error)> {
    for (name, filler) in guarded_paths::REPOSITORY_GUARDED {
        let at = |problem| (OsString::from(name), problem);
        fill_missing(repository, name, filler).map_err(at)?;
        freeze_entry(repository, OsStr::new(name)).map_err(at)?;
    }
    let others = other_entries(repository).map_err(|problem| (OsString::new(), problem))?;
    for name in others {
        freeze_entry(repository, &name).map_err(|problem| (name, problem))?;
    }
    Ok(())
}

fn other_entries(repository: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(tree::open_readable(repository)?)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        let is_listed = guarded_paths::REPOSITORY_GUARDED.iter().any(|(listed, _)| name == *listed);
        if name != "." && name != ".." && !is_listed && !guarded_paths::is_repository_work(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.truncate(OTHERS_MAX);
    Ok(names)
}

/// Puts something of no effect where nothing is: what is not there cannot be kept from being made.
fn fill_missing(repository: &OwnedFd, name: &str, filler: MissingGuard) -> io::Result<()> {
    if tree::open_child(repository, OsStr::new(name))?.is_some() {
        return Ok(());
    }
    let made = match filler {
        MissingGuard::Directory => rustix::fs::mkdirat(repository, name, Mode::RWXU).map_err(io::Error::from),
        MissingGuard::File(content) => write_whole_file(repository, name, content),
    };
    match made {
        // Another process was quicker; and nothing at all comes into a directory on a disk that is only read.
        Err(problem) if matches!(Errno::from_io_error(&problem), Some(Errno::EXIST | Errno::ROFS)) => Ok(()),
        made => made,
    }
}

/// Makes a file that has its content from its first moment, where the file system can; no process sees it half-written.
fn write_whole_file(repository: &OwnedFd, name: &str, content: &str) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(unnamed) = rustix::fs::openat(repository, ".", flags | OFlags::TMPFILE, mode) {
        let mut file = std::fs::File::from(unnamed);
        file.write_all(content.as_bytes())?;
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, own, repository, name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(Errno::EXIST.into()),
            // There is no `/proc`, or not that way.
            Err(_) => {}
        }
    }
    let named = rustix::fs::openat(repository, name, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    std::fs::File::from(named).write_all(content.as_bytes())
}
