//! Guards below the top of a directory of the operator's: its nested repositories, and the configuration of tools in its
//! packages.
//!
//! Every directory on the way to a guarded name stays where it is, by a mount of its own: a program could put a changed
//! copy in its place otherwise. One walk over no link finds them. Where they are mounted each must be the file that was
//! found; if another process exchanged it meanwhile, the program is not started. Nor is it where the directory is too large
//! to be looked through: what was not seen would not be guarded.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dromia_contracts::guarded_paths;
use dromia_contracts::sandbox::ProcessSpec;
use rustix::fs::{Dir, FileType};

use super::guards::attach_guards;
use super::tree::{self, READ_ONLY, WRITABLE};

/// The most entries that are looked at.
const ENTRIES_MAX: usize = 200_000;
/// The deepest directory that is looked into.
const DEPTH_MAX: usize = 64;
/// The most directories with guarded names; each is some twenty mounts.
const GUARDED_MAX: usize = 64;

/// A problem with where it is.
type PlacedProblem = (PathBuf, io::Error);

/// Guards the workspace of a spec by the handle of the mount that the program sees: its top, and of a directory of the
/// operator's that the program may change all that is below.
pub(super) fn guard_workspace(spec: &ProcessSpec, top: &OwnedFd) -> Result<(), PlacedProblem> {
    attach_guards(top)?;
    if spec.reference.is_none_or(|meant| meant.read_only) {
        return Ok(());
    }
    let mut walk = GuardedWalk { entries: 0, guarded: 0 };
    let found = walk.walk_directory(top, Path::new(""), 0)?;
    pin_directories(top, Path::new(""), &found.inner)
}

/// A directory with something guarded in it, or below it.
struct GuardedDirectory {
    name: OsString,
    /// Its device and its number.
    identity: (u64, u64),
    /// Whether guarded names are in it.
    has_names: bool,
    /// Whether its owner closed it to this process, so that nothing in it can be looked at.
    is_closed: bool,
    inner: Vec<Self>,
}

struct GuardedWalk {
    entries: usize,
    guarded: usize,
}

impl GuardedWalk {
    /// Looks through a directory; what it returns has no name yet.
    fn walk_directory(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<GuardedDirectory, PlacedProblem> {
        let at = |problem: io::Error| (path.to_owned(), problem);
        let identity = tree::device_and_inode(directory).map_err(at)?;
        let mut found = GuardedDirectory {
            name: OsString::new(),
            identity,
            has_names: false,
            is_closed: false,
            inner: Vec::new(),
        };
        let readable = match tree::open_readable(directory) {
            Err(problem) if problem.kind() == io::ErrorKind::PermissionDenied => {
                found.is_closed = true;
                return Ok(found);
            }
            readable => readable.map_err(at)?,
        };
        let mut directories = Vec::new();
        for entry in Dir::read_from(readable).map_err(|problem| at(problem.into()))? {
            let entry = entry.map_err(|problem| at(problem.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(at(too_large(&format!("more than {ENTRIES_MAX} files"))));
            }
            // The names at the top have their guards.
            found.has_names |= depth > 0 && guarded_paths::is_guarded(Path::new(name));
            let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if may_be_directory && !guarded_paths::is_guarded_whole(name) {
                directories.push(name.to_owned());
            }
        }
        self.guarded += usize::from(found.has_names);
        if self.guarded > GUARDED_MAX {
            return Err(at(too_large(&format!("more than {GUARDED_MAX} directories with guarded names"))));
        }
        for name in directories {
            let path = path.join(&name);
            let at = |problem: io::Error| (path.clone(), problem);
            let Some(child) = tree::open_child(directory, &name).map_err(at)? else { continue };
            if tree::file_type(&child).map_err(at)? != FileType::Directory {
                continue;
            }
            if depth == DEPTH_MAX {
                return Err(at(too_large(&format!("more than {DEPTH_MAX} levels"))));
            }
            let inner = self.walk_directory(&child, &path, depth + 1)?;
            if inner.has_names || inner.is_closed || !inner.inner.is_empty() {
                found.inner.push(GuardedDirectory { name, ..inner });
            }
        }
        Ok(found)
    }
}

/// Makes directories stay where they are, and guards what is in them.
fn pin_directories(parent: &OwnedFd, path: &Path, found: &[GuardedDirectory]) -> Result<(), PlacedProblem> {
    for GuardedDirectory { name, identity, has_names, is_closed, inner } in found {
        let path = path.join(name);
        let at = |problem: io::Error| (path.clone(), problem);
        let there = tree::open_child(parent, name).map_err(at)?;
        let same = |there: &OwnedFd| tree::device_and_inode(there).is_ok_and(|there| there == *identity);
        let Some(there) = there.filter(same) else {
            return Err(at(io::Error::other(
                "it was replaced while the program started; nothing ran, try again",
            )));
        };
        let tree = tree::clone_tree(&there, if *is_closed { READ_ONLY } else { WRITABLE }).map_err(at)?;
        tree::attach_tree(&tree, &there).map_err(at)?;
        if *has_names {
            attach_guards(&tree).map_err(|(name, problem)| (path.join(name), problem))?;
        }
        pin_directories(&tree, &path, inner)?;
    }
    Ok(())
}

fn too_large(what: &str) -> io::Error {
    io::Error::other(format!(
        "the directory has {what}, so nested repositories cannot all be found and guarded; nothing ran: give the agent a \
         smaller directory, or this one for reading only (`workspace=DIR:ro`)"
    ))
}
