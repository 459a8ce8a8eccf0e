//! Putting a tree down as it is heard: for the guest what the helper sends, for the helper what a guest says that changed.
//!
//! A guest is believed nothing. Every name is opened below the handle of its tree and over no link; what a program outside
//! would execute stays as it is; a tree that is only shown takes no change; and all of it has a bound in bytes and in
//! number. A file appears under its name when all of it came. What is refused here ends the whole conversation.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dromia_contracts::guarded_paths;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::frame::{TreeEntry, TreeNode};
use super::scan::{INCOMING, NODES_MAX, open_below, open_root, split_path};

/// Where a tree is put down.
#[derive(Debug)]
pub(super) struct UnpackTarget {
    /// A directory, or the place of a file that is a tree by itself.
    pub(super) root: PathBuf,
    /// Whether anything of it may change.
    pub(super) is_writable: bool,
    /// What stays where it is, and what the program cannot change, below the root.
    pub(super) fixed: Vec<PathBuf>,
    pub(super) frozen: Vec<PathBuf>,
}

/// Puts trees down.
#[derive(Debug)]
pub(super) struct TreeUnpacker {
    grounds: Vec<UnpackTarget>,
    /// The owner of everything unpacked; without it, the user of this process.
    owner: Option<u32>,
    bytes_left: u64,
    nodes_left: usize,
    open: Option<IncomingFile>,
}

/// A file of which not all came yet.
#[derive(Debug)]
struct IncomingFile {
    entry: TreeEntry,
    file: File,
    bytes_left: u64,
}

impl TreeUnpacker {
    /// Takes where trees go, by number, and how many bytes all of their files may have.
    pub(super) fn new(grounds: Vec<UnpackTarget>, bytes_max: u64, owner: Option<u32>) -> Self {
        Self { grounds, owner, bytes_left: bytes_max, nodes_left: NODES_MAX, open: None }
    }

    /// Whether nothing is begun that did not come to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.open.is_none()
    }

    /// Puts the next thing down, or begins it, if it is a file.
    pub(super) fn unpack_entry(&mut self, entry: TreeEntry) -> io::Result<()> {
        if self.open.is_some() {
            return Err(refused_error("a file has fewer bytes than announced"));
        }
        self.nodes_left =
            self.nodes_left.checked_sub(1).ok_or_else(|| refused_error("there are too many files"))?;
        let ground = self.grounds.get(usize::from(entry.tree));
        let ground = ground.ok_or_else(|| refused_error("there is no such tree"))?;
        ground.check_allowed(&entry)?;
        match entry.node {
            TreeNode::File { bytes } => {
                self.bytes_left = self
                    .bytes_left
                    .checked_sub(bytes)
                    .ok_or_else(|| refused_error("there are too many bytes"))?;
                let file = ground.open_incoming(&entry)?;
                self.open = Some(IncomingFile { entry, file, bytes_left: bytes });
                if bytes == 0 { self.finish_file() } else { Ok(()) }
            }
            TreeNode::Directory => self.make_node(&entry, UnpackTarget::make_directory),
            TreeNode::Link { .. } => self.make_node(&entry, UnpackTarget::make_link),
            TreeNode::Gone => ground.remove_entry(&entry),
        }
    }

    /// Puts the next bytes of the file down that was begun.
    pub(super) fn write_data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let open = self.open.as_mut().ok_or_else(|| refused_error("bytes belong to no file"))?;
        let left = open.bytes_left.checked_sub(bytes.len() as u64);
        open.bytes_left = left.ok_or_else(|| refused_error("a file has more bytes than announced"))?;
        open.file.write_all(bytes)?;
        if open.bytes_left == 0 { self.finish_file() } else { Ok(()) }
    }

    /// Gives a file its place.
    fn finish_file(&mut self) -> io::Result<()> {
        let Some(IncomingFile { entry, file, .. }) = self.open.take() else { return Ok(()) };
        rustix::fs::fchmod(&file, entry_mode(&entry))?;
        if let Some(owner) = self.owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        }
        rustix::fs::futimens(&file, &entry_times(&entry))?;
        let ground = &self.grounds[usize::from(entry.tree)];
        if entry.path.is_empty() { Ok(()) } else { ground.move_into_place(&entry) }
    }

    /// Makes something at once, and gives it its owner.
    fn make_node(
        &self,
        entry: &TreeEntry,
        make: fn(&UnpackTarget, &TreeEntry) -> io::Result<()>,
    ) -> io::Result<()> {
        let ground = &self.grounds[usize::from(entry.tree)];
        make(ground, entry)?;
        let Some(owner) = self.owner else { return Ok(()) };
        let (parent, name) = ground.open_parent(&entry.path)?;
        let (user, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
        Ok(rustix::fs::chownat(&parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl UnpackTarget {
    /// Says what must not change.
    fn check_allowed(&self, entry: &TreeEntry) -> io::Result<()> {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        if !self.is_writable {
            return Err(refused_error("a read-only tree changed"));
        }
        let has_repository = self.fixed.iter().any(|fixed| fixed == guarded_paths::REPOSITORY);
        let is_in_repository = has_repository
            && path.parent().is_some_and(|parent| parent.starts_with(guarded_paths::REPOSITORY));
        let is_of_repository = is_in_repository && guarded_paths::is_guarded(path);
        if is_of_repository || self.frozen.iter().any(|frozen| path.starts_with(frozen)) {
            return Err(refused_error("a file changed that programs outside would execute"));
        }
        let stays = self.fixed.iter().any(|fixed| fixed == path);
        if stays && entry.node != TreeNode::Directory {
            return Err(refused_error(
                "a directory was removed whose content programs outside would execute",
            ));
        }
        let is_own = entry.path.split(|byte| *byte == b'/').next() == Some(INCOMING.as_bytes());
        if is_own { Err(refused_error("a name is in use by another file")) } else { Ok(()) }
    }

    fn open_parent<'path>(&self, path: &'path [u8]) -> io::Result<(OwnedFd, &'path OsStr)> {
        let (parent, name) = split_path(path);
        let top = open_root(&self.root)?;
        let parent = open_below(&top, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((parent, OsStr::from_bytes(name)))
    }

    /// Opens what the bytes of a file go to: the file itself, if it is the tree, else one that is nobody's yet.
    fn open_incoming(&self, entry: &TreeEntry) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let user = Mode::RUSR | Mode::WUSR;
        if entry.path.is_empty() {
            return Ok(File::from(rustix::fs::openat(CWD, self.root.as_path(), flags, user)?));
        }
        let top = open_root(&self.root)?;
        // What an earlier one left that was ended in the middle.
        match rustix::fs::unlinkat(&top, INCOMING, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(problem) => return Err(problem.into()),
        }
        Ok(File::from(rustix::fs::openat(&top, INCOMING, flags | OFlags::EXCL, user)?))
    }

    /// Moves what came to its name.
    fn move_into_place(&self, entry: &TreeEntry) -> io::Result<()> {
        let top = open_root(&self.root)?;
        let (parent, name) = self.open_parent(&entry.path)?;
        if is_directory(&parent, name)? {
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
        }
        Ok(rustix::fs::renameat(&top, INCOMING, &parent, name)?)
    }

    fn make_directory(&self, entry: &TreeEntry) -> io::Result<()> {
        let (parent, name) = self.open_parent(&entry.path)?;
        if !is_directory(&parent, name)? {
            ignore_missing(rustix::fs::unlinkat(&parent, name, AtFlags::empty()))?;
            rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Ok(made) => Ok(rustix::fs::fchmod(&made, entry_mode(entry))?),
            // It is there, and closed to everybody already.
            Err(Errno::ACCESS) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }

    fn make_link(&self, entry: &TreeEntry) -> io::Result<()> {
        let TreeNode::Link { to } = &entry.node else { return Ok(()) };
        let (parent, name) = self.open_parent(&entry.path)?;
        let flags = if is_directory(&parent, name)? { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        ignore_missing(rustix::fs::unlinkat(&parent, name, flags))?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(to), &parent, name)?)
    }

    fn remove_entry(&self, entry: &TreeEntry) -> io::Result<()> {
        let (parent, name) = match self.open_parent(&entry.path) {
            Ok(found) => found,
            // Its directory went with it.
            Err(problem) if Errno::from_io_error(&problem) == Some(Errno::NOENT) => return Ok(()),
            Err(problem) => return Err(problem),
        };
        if !is_directory(&parent, name)? {
            return ignore_missing(rustix::fs::unlinkat(&parent, name, AtFlags::empty()));
        }
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            // Another process put something there meanwhile, which stays.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            removed => ignore_missing(removed),
        }
    }
}

/// What is gone already is as good as removed.
fn ignore_missing(removed: rustix::io::Result<()>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

fn is_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(found) => Ok(File::from(found).metadata()?.is_dir()),
        Err(Errno::NOENT) => Ok(false),
        Err(problem) => Err(problem.into()),
    }
}

fn entry_mode(entry: &TreeEntry) -> Mode {
    Mode::from_raw_mode(u32::from(entry.mode))
}

fn entry_times(entry: &TreeEntry) -> Timestamps {
    let time = Timespec { tv_sec: entry.changed.0, tv_nsec: entry.changed.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn refused_error(why: &'static str) -> io::Error {
    io::Error::other(why)
}

#[cfg(test)]
mod tests;
