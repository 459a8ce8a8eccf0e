//! Opening a workspace by reference: a directory of the operator's, beneath a held handle of one of the tenant's roots.
//!
//! Invariant: it is opened anew at each call, over no link below the root, and lies on the root's own file system: what is
//! mounted below a root is none of it, and is a root itself where agents shall work there. It is not the server's home, does
//! not hold it and does not lie in it. Nothing is made, removed or measured here.

use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::ReferencedDirectory;
use dromia_contracts::workspace::WorkspaceReference;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::file_error::FileError;
use crate::workspace::{PathResolver, open_below};

/// A handle that only leads somewhere.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory of the operator's, as one call found it.
#[derive(Debug)]
pub(crate) struct HeldReference {
    /// It itself.
    pub(crate) handle: OwnedFd,
    /// Its path, without links, for what starts a program there.
    pub(crate) path: PathBuf,
    /// What the kernel knows it by.
    pub(crate) identity: ReferencedDirectory,
}

/// Says why a call or an agent does not get a directory; it names the directory and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReferenceError {
    directory: String,
    kind: RefusalKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusalKind {
    NoRoots,
    OutsideRoots,
    RootGone,
    Gone,
    Link,
    NotDirectory,
    OtherDevice,
    Home,
    NotReadable,
    NotWritable,
    System(Errno),
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, next) = match self.kind {
            RefusalKind::NoRoots => (
                "this server lists no directory for workspaces of this tenant",
                "ask its operator to list one under workspaces.roots in dromia.yaml",
            ),
            RefusalKind::OutsideRoots => (
                "it does not lie below a directory that this server lists for workspaces of this tenant",
                "name one that does, or ask the operator to list it under workspaces.roots in dromia.yaml",
            ),
            RefusalKind::RootGone => (
                "its root, which workspaces.roots lists, is not there",
                "bring the root back (is its disk mounted?), or set another workspace",
            ),
            RefusalKind::Gone => (
                "it is not there (any more)",
                "bring it back, or set another workspace with `dromia agent set`",
            ),
            RefusalKind::Link => (
                "a symbolic link is on its way below the root",
                "name the directory itself, as `realpath` prints it",
            ),
            RefusalKind::NotDirectory => ("it is not a directory", "name a directory"),
            RefusalKind::OtherDevice => (
                "it lies on another file system than its root",
                "unmount what covers it, or list the mounted directory itself under workspaces.roots",
            ),
            RefusalKind::Home => (
                "it is the server's own home, or holds it, or lies in it",
                "name a directory that has nothing to do with the server",
            ),
            RefusalKind::NotReadable => (
                "the server may not read it",
                "give the server's user read access to it, or name another one",
            ),
            RefusalKind::NotWritable => (
                "the server may not write to it",
                "write :ro behind it, or give the server's user write access to it",
            ),
            RefusalKind::System(errno) => {
                let problem = std::io::Error::from_raw_os_error(errno.raw_os_error());
                return write!(f, "workspace {}: {problem}; set another workspace", self.directory);
            }
        };
        write!(f, "workspace {}: {why}; {next}", self.directory)
    }
}

impl HeldReference {
    /// Opens a directory beneath the first root that it lies below.
    pub(crate) fn open(
        reference: &WorkspaceReference,
        roots: &[PathBuf],
        home: &Path,
        resolver: PathResolver,
    ) -> Result<Self, ReferenceError> {
        let refused = |kind| ReferenceError { directory: reference.directory().display().to_string(), kind };
        if roots.is_empty() {
            return Err(refused(RefusalKind::NoRoots));
        }
        let below =
            roots.iter().find_map(|root| Some((root, reference.directory().strip_prefix(root).ok()?)));
        let Some((root, below)) = below else { return Err(refused(RefusalKind::OutsideRoots)) };
        // The root is the operator's: it may well be reached through links.
        let root =
            rustix::fs::open(root, PLACE, Mode::empty()).map_err(|_| refused(RefusalKind::RootGone))?;
        let below = below.to_str().unwrap_or_default();
        let handle = open_below(root.as_fd(), if below.is_empty() { "." } else { below }, resolver);
        let handle = handle.map_err(|error| refused(RefusalKind::of_opening(error)))?;
        let system = |errno| refused(RefusalKind::System(errno));
        let (found, top) =
            (rustix::fs::fstat(&handle).map_err(system)?, rustix::fs::fstat(&root).map_err(system)?);
        if found.st_dev != top.st_dev {
            return Err(refused(RefusalKind::OtherDevice));
        }
        let path = real_path(&handle).map_err(system)?;
        let home = rustix::fs::openat(CWD, home, PLACE, Mode::empty()).and_then(|home| real_path(&home));
        let home = home.map_err(system)?;
        if path.starts_with(&home) || home.starts_with(&path) {
            return Err(refused(RefusalKind::Home));
        }
        let read_only = reference.is_read_only();
        let identity = ReferencedDirectory { device: found.st_dev, inode: found.st_ino, read_only };
        Ok(Self { handle, path, identity })
    }

    /// Returns whether the server may do there what the reference says.
    pub(crate) fn check_access(&self, reference: &WorkspaceReference) -> Result<(), ReferenceError> {
        let wanted =
            if self.identity.read_only { Access::READ_OK } else { Access::WRITE_OK } | Access::EXEC_OK;
        let allowed = rustix::fs::accessat(&self.handle, ".", wanted, AtFlags::empty());
        let kind = if self.identity.read_only { RefusalKind::NotReadable } else { RefusalKind::NotWritable };
        let directory = reference.directory().display().to_string();
        allowed.map_err(|_| ReferenceError { directory, kind })
    }

    /// What the kernel knows it by, whatever may be done there.
    pub(crate) fn directory_key(&self) -> (u64, u64) {
        (self.identity.device, self.identity.inode)
    }
}

impl RefusalKind {
    fn of_opening(error: FileError) -> Self {
        match error {
            FileError::Missing => Self::Gone,
            FileError::Symlink => Self::Link,
            FileError::NotADirectory => Self::NotDirectory,
            FileError::System(Errno::ACCESS | Errno::PERM) => Self::NotReadable,
            FileError::System(errno) => Self::System(errno),
            _ => Self::OutsideRoots,
        }
    }
}

fn real_path(handle: &OwnedFd) -> Result<PathBuf, Errno> {
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    std::fs::read_link(link).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests;
