//! An agent's workspace as a held directory handle, and opening things beneath it.
//!
//! Invariant: everything is opened relative to a handle, one resolution per open, and no symbolic link is ever
//! followed below the instance's home. The kernel keeps the promise (`openat2` with `RESOLVE_BENEATH`,
//! `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`); on a kernel without it, a walk opens name after name with
//! `O_NOFOLLOW`. Names never hold a slash or `..` here, which [`crate::path`] guarantees.
//!
//! A workspace is `HOME/agents/AGENT/workspace`, made by the first write, never by a read; or a directory of the operator's
//! ([`crate::reference`]), which is never made.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use dromia_contracts::id::AgentId;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::file_error::FileError;
use crate::path::{FilePath, WorkspacePath};

/// The directory of an instance's home that holds one directory per agent.
pub(crate) const AGENTS: &str = "agents";
const WORKSPACE: &str = "workspace";
const DIRECTORY_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Flags of every open: a pipe must not block, a terminal must not become ours, a child process inherits nothing.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// `openat2` asks to be called again when a rename elsewhere disturbed it; a hostile renamer must not hold us.
const AGAIN_MAX: usize = 16;

/// Who keeps a resolution inside the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathResolver {
    /// `openat2`.
    Kernel,
    /// One `openat` with `O_NOFOLLOW` per name.
    Walk,
}

impl PathResolver {
    /// Asks the kernel whether it has `openat2`; a filter that forbids the call counts as not having it.
    pub(crate) fn probe() -> Self {
        match open_beneath(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Self::Walk,
            Ok(_) | Err(_) => Self::Kernel,
        }
    }
}

/// Where the workspace of an agent lies, for those who need a path: what starts a program there.
pub(crate) fn workspace_path(home: &Path, agent: AgentId) -> PathBuf {
    home.join(AGENTS).join(agent.to_string()).join(WORKSPACE)
}

/// What to do about a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingDirectory {
    /// Make it.
    Make,
    /// Leave it.
    Leave,
}

/// What a name led to.
#[derive(Debug)]
pub(crate) enum WorkspaceEntry {
    /// A regular file.
    File(File),
    /// A directory.
    Directory(OwnedFd),
}

/// A name as the kernel takes it. Programs may leave some that are no text.
pub(crate) trait PathName: rustix::path::Arg + Copy {}

impl<T: rustix::path::Arg + Copy> PathName for T {}

/// A held workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    handle: OwnedFd,
    resolver: PathResolver,
    /// Whether it is a directory of the operator's, whose files keep their rights.
    is_referenced: bool,
}

impl Workspace {
    /// Opens the workspace of an agent; `None` if it is not there and should be left so.
    pub(crate) fn open(
        home: &Path,
        agent: AgentId,
        resolver: PathResolver,
        missing: MissingDirectory,
    ) -> Result<Option<Self>, FileError> {
        // The home itself is the operator's: it may well be reached through links.
        let mut handle = rustix::fs::open(home, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for name in [AGENTS, &agent.to_string(), WORKSPACE] {
            match child_directory(handle.as_fd(), name, resolver, missing)? {
                Some(child) => handle = child,
                None => return Ok(None),
            }
        }
        Ok(Some(Self { handle, resolver, is_referenced: false }))
    }

    /// Holds a directory of the operator's as a workspace.
    pub(crate) fn of_reference(held: BorrowedFd<'_>, resolver: PathResolver) -> Result<Self, FileError> {
        let handle = rustix::io::fcntl_dupfd_cloexec(held, 0)?;
        Ok(Self { handle, resolver, is_referenced: true })
    }

    /// Returns whether it is a directory of the operator's.
    pub(crate) fn is_referenced(&self) -> bool {
        self.is_referenced
    }

    /// Opens a directory of the workspace; `None` if it is not there and should be left so.
    pub(crate) fn open_directory(
        &self,
        path: &WorkspacePath,
        missing: MissingDirectory,
    ) -> Result<Option<OwnedFd>, FileError> {
        let one_resolution = match (self.resolver, missing) {
            (PathResolver::Kernel, MissingDirectory::Leave) => true,
            // What must be made is made name by name, beneath a handle each.
            (PathResolver::Kernel, MissingDirectory::Make) | (PathResolver::Walk, _) => false,
        };
        if one_resolution {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | ALWAYS;
            return match open_beneath(self.handle.as_fd(), path.as_str(), flags, Mode::empty()) {
                Ok(directory) => Ok(Some(directory)),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(errno.into()),
            };
        }
        let mut handle = rustix::io::fcntl_dupfd_cloexec(&self.handle, 0)?;
        for name in path.components() {
            match child_directory(handle.as_fd(), name, self.resolver, missing)? {
                Some(child) => handle = child,
                None => return Ok(None),
            }
        }
        Ok(Some(handle))
    }

    /// Opens a regular file of the workspace for reading.
    pub(crate) fn open_for_reading(&self, path: &FilePath) -> Result<File, FileError> {
        let (parent, name) = path.split_file_name();
        let parent = self.open_directory(&parent, MissingDirectory::Leave)?.ok_or(FileError::Missing)?;
        self.open_file(parent.as_fd(), name, OFlags::RDONLY)
    }

    /// Opens a regular file in a held directory for appending; makes it if it is not there.
    pub(crate) fn open_for_appending(&self, parent: BorrowedFd<'_>, name: &str) -> Result<File, FileError> {
        self.open_file(parent, name, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    /// Opens whatever a name in a held directory is, a file for reading or a directory.
    pub(crate) fn open_entry(
        &self,
        parent: BorrowedFd<'_>,
        name: impl PathName,
    ) -> Result<WorkspaceEntry, FileError> {
        let handle = open_child(parent, name, OFlags::RDONLY, Mode::empty(), self.resolver)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) {
            FileType::RegularFile => Ok(WorkspaceEntry::File(File::from(handle))),
            FileType::Directory => Ok(WorkspaceEntry::Directory(handle)),
            _ => Err(FileError::Special),
        }
    }

    fn open_file(&self, parent: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<File, FileError> {
        let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
        let handle = open_child(parent, name, flags, mode, self.resolver)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) {
            FileType::RegularFile => Ok(File::from(handle)),
            FileType::Directory => Err(FileError::Directory),
            FileType::Symlink => Err(FileError::Symlink),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(FileError::Special),
        }
    }
}

/// Opens a directory below a held one, over no link.
pub(crate) fn open_below(
    root: BorrowedFd<'_>,
    path: &str,
    resolver: PathResolver,
) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    if resolver == PathResolver::Kernel {
        return match open_beneath(root, path, flags | ALWAYS, Mode::empty()) {
            // What is no directory may be a link: only the kernel saw which.
            Err(Errno::NOTDIR) if is_link(root, path) => Err(FileError::Symlink),
            opened => Ok(opened?),
        };
    }
    let mut handle = open_child(root, ".", flags, Mode::empty(), resolver)?;
    for name in path.split('/').filter(|name| *name != ".") {
        handle = open_child(handle.as_fd(), name, flags, Mode::empty(), resolver)?;
    }
    Ok(handle)
}

fn is_link(root: BorrowedFd<'_>, path: &str) -> bool {
    entry_kind(root, path).is_ok_and(|kind| kind == Some(FileType::Symlink))
}

/// Returns what a name in a held directory is, without following it; `None` if there is nothing.
pub(crate) fn entry_kind(parent: BorrowedFd<'_>, name: impl PathName) -> Result<Option<FileType>, FileError> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a new regular file in a held directory.
pub(crate) fn create_new(parent: BorrowedFd<'_>, name: &str) -> Result<File, FileError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | ALWAYS;
    Ok(File::from(rustix::fs::openat(parent, name, flags, FILE_MODE)?))
}

fn child_directory(
    parent: BorrowedFd<'_>,
    name: &str,
    resolver: PathResolver,
    missing: MissingDirectory,
) -> Result<Option<OwnedFd>, FileError> {
    let open = || open_child(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), resolver);
    match (open(), missing) {
        (Ok(child), _) => Ok(Some(child)),
        (Err(FileError::Missing), MissingDirectory::Leave) => Ok(None),
        (Err(FileError::Missing), MissingDirectory::Make) => {
            match rustix::fs::mkdirat(parent, name, DIRECTORY_MODE) {
                // The name must be durable before a file beneath it is said to be.
                Ok(()) => rustix::fs::fsync(parent)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            open().map(Some)
        }
        (Err(error), _) => Err(error),
    }
}

fn open_child(
    parent: BorrowedFd<'_>,
    name: impl PathName,
    flags: OFlags,
    mode: Mode,
    resolver: PathResolver,
) -> Result<OwnedFd, FileError> {
    let opened = match resolver {
        PathResolver::Kernel => open_beneath(parent, name, flags | ALWAYS, mode),
        PathResolver::Walk => rustix::fs::openat(parent, name, flags | ALWAYS | OFlags::NOFOLLOW, mode),
    };
    match opened {
        Ok(handle) => Ok(handle),
        // O_DIRECTORY with O_NOFOLLOW says of a link only that it is no directory.
        Err(Errno::NOTDIR) if entry_kind(parent, name)? == Some(FileType::Symlink) => Err(FileError::Symlink),
        Err(errno) => Err(errno.into()),
    }
}

fn open_beneath(
    directory: BorrowedFd<'_>,
    path: impl PathName,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..AGAIN_MAX {
        match rustix::fs::openat2(directory, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    rustix::fs::openat2(directory, path, flags, mode, resolve)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    const AGENT: AgentId = AgentId::from_bytes([3; 16]);

    fn path(text: &str) -> FilePath {
        serde_json::from_value(text.into()).expect("a clean path")
    }

    // A kernel without openat2 is not at hand, so the walk is held to the kernel's answers.
    #[test]
    fn the_walk_answers_like_the_kernel() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let outside = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(outside.path().join("secret"), "secret").expect("written");
        let kernel = Workspace::open(home.path(), AGENT, PathResolver::Kernel, MissingDirectory::Make)
            .expect("made")
            .expect("there");
        let walk = Workspace::open(home.path(), AGENT, PathResolver::Walk, MissingDirectory::Leave)
            .expect("opened")
            .expect("there");
        let inside = home.path().join(AGENTS).join(AGENT.to_string()).join(WORKSPACE);
        symlink(outside.path(), inside.join("dirlink")).expect("linked");
        symlink(outside.path().join("secret"), inside.join("link")).expect("linked");
        std::fs::create_dir(inside.join("dir")).expect("made");
        std::fs::write(inside.join("dir/file"), "x").expect("written");
        for (text, expected) in [
            ("dir/file", None),
            ("dir", Some(FileError::Directory)),
            ("dir/none", Some(FileError::Missing)),
            ("none/file", Some(FileError::Missing)),
            ("dir/file/x", Some(FileError::NotADirectory)),
            ("link", Some(FileError::Symlink)),
            ("dirlink", Some(FileError::Symlink)),
            ("dirlink/secret", Some(FileError::Symlink)),
        ] {
            for workspace in [&kernel, &walk] {
                assert_eq!(
                    workspace.open_for_reading(&path(text)).err(),
                    expected,
                    "{text} by {:?}",
                    workspace.resolver
                );
            }
        }
        for (workspace, name) in [(&kernel, "by/kernel/x"), (&walk, "by/walk/x")] {
            let (parent, name) = (path(name).split_file_name().0, path(name).split_file_name().1.to_owned());
            let parent =
                workspace.open_directory(&parent, MissingDirectory::Make).expect("made").expect("there");
            let mut file = workspace.open_for_appending(parent.as_fd(), &name).expect("made");
            file.write_all(b"x").expect("written");
        }
        assert!(inside.join("by/walk/x").is_file() && inside.join("by/kernel/x").is_file());
    }
}
