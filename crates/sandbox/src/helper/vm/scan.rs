//! What lies in a tree, and sending it: all of it, or what changed since another look.
//!
//! Nothing is followed: a link is sent as a link, and a name that is replaced meanwhile leads nowhere else, because
//! each file is opened below the handle of its tree without links. Devices, pipes and sockets are left out. Files,
//! directories and links are counted, and a tree with too many is refused as a whole.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::frame::{DATA_BYTES_MAX, GuestFrame, TreeEntry, TreeNode, is_below};
use crate::helper::tree;

/// The most that is looked at in a tree.
pub(super) const NODES_MAX: usize = 200_000;

/// The most bytes of all their paths together.
const PATHS_BYTES_MAX: usize = 64 << 20;

/// How much of a disk a file takes at least, and in what steps.
const BLOCK_BYTES: u64 = 4096;

/// Where a file lies until all of it came; it is nobody's.
pub(super) const INCOMING: &str = ".dromia-incoming";

const NOFOLLOW: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(NOFOLLOW);

/// Below a handle, over no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Over no link at all.
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// What a look found, by path. Parents come before what is in them.
pub(super) type Found = BTreeMap<Vec<u8>, FileStamp>;

/// What one look shows of a file, a directory or a link: where two are equal nothing was changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    kind: NodeKind,
    mode: u16,
    bytes: u64,
    modified: (i64, i64),
    /// No program sets it as it likes.
    changed: (i64, i64),
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    Directory,
    File,
    Link,
}

impl FileStamp {
    /// Nothing for what is not sent.
    fn from_metadata(about: &Metadata) -> Option<Self> {
        let kind = match about.file_type() {
            kind if kind.is_dir() => NodeKind::Directory,
            kind if kind.is_file() => NodeKind::File,
            kind if kind.is_symlink() => NodeKind::Link,
            _ => return None,
        };
        Some(Self {
            kind,
            mode: u16::try_from(about.mode() & 0o777).unwrap_or_default(),
            bytes: if kind == NodeKind::File { about.size() } else { 0 },
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
            number: about.ino(),
        })
    }

    /// Whether something else lies there now. A directory is the same whatever came into it.
    fn is_other_than(&self, before: &Self) -> bool {
        match self.kind {
            NodeKind::Directory => self.kind != before.kind || self.mode != before.mode,
            NodeKind::File | NodeKind::Link => self != before,
        }
    }
}

/// Bytes that a tree takes on a disk with ordinary blocks.
pub(super) fn tree_bytes(found: &Found) -> u64 {
    let of = |mark: &FileStamp| mark.bytes.div_ceil(BLOCK_BYTES).max(1) * BLOCK_BYTES;
    found.values().map(of).fold(0, u64::saturating_add)
}

/// Opens the root of a tree, over no link: a directory, or a file that is a tree by itself.
pub(super) fn open_root(root: &Path) -> io::Result<OwnedFd> {
    tree::open_no_links(root)
}

/// Returns whether what a look found at a path is a directory; nothing if it found nothing there.
pub(super) fn is_directory(found: &Found, path: &str) -> Option<bool> {
    found.get(path.as_bytes()).map(|mark| mark.kind == NodeKind::Directory)
}

/// Opens what lies below a handle, over no link.
pub(super) fn open_below(root: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let flags = flags | NOFOLLOW;
    Ok(rustix::fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), BENEATH)?)
}

/// Looks at all of a tree.
pub(super) fn scan_tree(root: &Path) -> io::Result<Found> {
    let mut found = Found::new();
    let top = open_root(root)?;
    let about = File::from(top.try_clone()?).metadata()?;
    if !about.is_dir() {
        let mark = FileStamp::from_metadata(&about).filter(|mark| mark.kind == NodeKind::File);
        let mark = mark.ok_or_else(|| io::Error::other("it is neither a directory nor a file"))?;
        found.insert(Vec::new(), mark);
        return Ok(found);
    }
    let mut paths_bytes = 0;
    let mut open = vec![Vec::new()];
    while let Some(directory) = open.pop() {
        let Some(handle) = open_directory(&top, &directory)? else { continue };
        for entry in Dir::read_from(&handle)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_own = directory.is_empty() && name == INCOMING.as_bytes();
            if matches!(name, b"." | b"..") || is_own {
                continue;
            }
            let handle = rustix::fs::openat(&handle, name, OFlags::PATH | NOFOLLOW, Mode::empty());
            let about = match handle {
                Ok(handle) => File::from(handle).metadata()?,
                // It was removed meanwhile.
                Err(Errno::NOENT) => continue,
                Err(problem) => return Err(problem.into()),
            };
            let Some(mark) = FileStamp::from_metadata(&about) else { continue };
            let path =
                if directory.is_empty() { name.to_vec() } else { [&directory[..], b"/", name].concat() };
            paths_bytes += path.len();
            if found.len() >= NODES_MAX || paths_bytes > PATHS_BYTES_MAX || !is_below(&path) {
                return Err(io::Error::other("it has too many files, or directories nested too deeply"));
            }
            if mark.kind == NodeKind::Directory {
                open.push(path.clone());
            }
            found.insert(path, mark);
        }
    }
    Ok(found)
}

/// Opens a directory to be read; one that its owner closed to everybody is opened for this moment. Nothing if it is gone.
fn open_directory(top: &OwnedFd, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let again = |problem: io::Error| match Errno::from_io_error(&problem) {
        Some(Errno::ACCESS) => allow_owner(top, path).and_then(|()| open_below(top, path, DIRECTORY)),
        _ => Err(problem),
    };
    match open_below(top, path, DIRECTORY).or_else(again) {
        Ok(handle) => Ok(Some(handle)),
        Err(problem) if Errno::from_io_error(&problem) == Some(Errno::NOENT) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Lets its owner read something; what it was before is known from the look.
fn allow_owner(top: &OwnedFd, path: &[u8]) -> io::Result<()> {
    // What was opened for its path only has no mode of its own to change, but a name here.
    let handle = open_below(top, path, OFlags::PATH)?;
    let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mut permissions = std::fs::metadata(&name)?.permissions();
    permissions.set_mode(permissions.mode() | 0o700);
    std::fs::set_permissions(&name, permissions)
}

/// Sends a whole tree.
pub(super) fn send_all(
    tree: u8,
    root: &Path,
    found: &Found,
    tell: &mut dyn FnMut(&GuestFrame) -> io::Result<()>,
) -> io::Result<()> {
    let top = open_root(root)?;
    found.iter().try_for_each(|(path, mark)| send_node(tree, &top, root, (path, mark), tell))
}

/// Sends what is other than before, what is gone first.
pub(super) fn send_changes(
    tree: u8,
    root: &Path,
    (before, now): (&Found, &Found),
    tell: &mut dyn FnMut(&GuestFrame) -> io::Result<()>,
) -> io::Result<()> {
    let top = open_root(root)?;
    let is_kept = |path: &[u8], mark: &FileStamp| now.get(path).is_some_and(|found| found.kind == mark.kind);
    // What lies in a directory comes after it, so backwards it goes first.
    for path in before.iter().rev().filter(|(path, mark)| !is_kept(path, mark)).map(|(path, _)| path) {
        let entry = TreeEntry { tree, path: path.clone(), node: TreeNode::Gone, mode: 0, changed: (0, 0) };
        tell(&GuestFrame::Entry(entry))?;
    }
    for (path, mark) in now {
        if before.get(path).is_none_or(|before| mark.is_other_than(before)) {
            send_node(tree, &top, root, (path, mark), tell)?;
        }
    }
    Ok(())
}

/// Sends one thing. A file that shrinks meanwhile is filled up, of one that grows the beginning is sent.
fn send_node(
    tree: u8,
    top: &OwnedFd,
    root: &Path,
    (path, mark): (&Vec<u8>, &FileStamp),
    tell: &mut dyn FnMut(&GuestFrame) -> io::Result<()>,
) -> io::Result<()> {
    let nanos = u32::try_from(mark.modified.1).unwrap_or_default().min(999_999_999);
    let entry = |node| {
        let changed = (mark.modified.0, nanos);
        GuestFrame::Entry(TreeEntry { tree, path: path.clone(), node, mode: mark.mode, changed })
    };
    match mark.kind {
        NodeKind::Directory => tell(&entry(TreeNode::Directory)),
        NodeKind::Link => {
            let to = read_link(top, path)?;
            tell(&entry(TreeNode::Link { to }))
        }
        NodeKind::File => {
            let file = open_content(top, root, path)?;
            tell(&entry(TreeNode::File { bytes: mark.bytes }))?;
            let mut left = mark.bytes;
            let mut from = file.take(left);
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(DATA_BYTES_MAX);
                let mut piece = Vec::with_capacity(most);
                from.by_ref().take(most as u64).read_to_end(&mut piece)?;
                piece.resize(most, 0);
                left -= most as u64;
                tell(&GuestFrame::Data(piece))?;
            }
            Ok(())
        }
    }
}

/// Opens a file to be read, also one that its owner closed to everybody.
fn open_content(top: &OwnedFd, root: &Path, path: &[u8]) -> io::Result<File> {
    if path.is_empty() {
        let file = rustix::fs::openat2(CWD, root, OFlags::RDONLY | NOFOLLOW, Mode::empty(), NO_LINKS)?;
        return Ok(File::from(file));
    }
    // A pipe that took its place meanwhile must not make this wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let opened = open_below(top, path, flags).or_else(|problem| {
        if Errno::from_io_error(&problem) != Some(Errno::ACCESS) {
            return Err(problem);
        }
        allow_owner(top, path)?;
        open_below(top, path, flags)
    });
    opened.map(File::from)
}

/// Reads where a link leads.
fn read_link(top: &OwnedFd, path: &[u8]) -> io::Result<Vec<u8>> {
    let (parent, name) = split_path(path);
    let parent = open_below(top, parent, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok(rustix::fs::readlinkat(&parent, OsStr::from_bytes(name), Vec::new())?.into_bytes())
}

/// The directory of a path, and the name in it.
pub(super) fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
