//! What a workspace holds that a program could execute, as one digest, so that an approval is bound to it.
//!
//! Invariant: whatever is written, moved, linked, removed, or given other rights makes another digest. The scan goes
//! through names in their order, so the same files give the same digest; no link is followed: a link is what it points
//! to. A file that cannot be read as a whole is an error, never part of a digest.
//!
//! What Dromia itself keeps of long results lies in the workspace too, and comes with every run of the agent. Such a file counts
//! only where a word of the call names it or its directory: it is data, as an answer from elsewhere is, unless the program
//! itself says that it executes it.
//!
//! It refuses to judge: the caller compares. Another program of the same agent may write a file after the scan.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use dromia_contracts::Digest;
use dromia_contracts::approval::{BoundFiles, ExecutableFiles};
use dromia_contracts::runtime::Clock;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use crate::file_error::FileError;
use crate::path::{TEMPORARY_PREFIX, WorkspacePath};
use crate::spilled_output;
use crate::workspace::{MissingDirectory, Workspace, WorkspaceEntry};

/// The most names of one look.
const NAMES_MAX: usize = 262_144;
/// The most bytes that one look reads.
const BYTES_MAX: u64 = 512 << 20;
/// The deepest directory; a handle is held for each.
const DEPTH_MAX: usize = 64;
/// How long one look takes at most.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How often links that the words name may lead on to further names, and how many of those there may be.
const ROUNDS_MAX: usize = 8;
const LINKS_MAX: usize = 1_024;
const CHUNK_BYTES: usize = 64 << 10;
/// How many words are looked through between two looks at the clock.
const WORDS_AT_ONCE: usize = 256;

/// Why an approval cannot be bound to the files of a workspace. It names none of them. Names, depth and time are those
/// of the whole workspace, whichever of its files count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileBindingError {
    #[error("it has more than {NAMES_MAX} names")]
    Names,
    #[error("its directories are nested deeper than {DEPTH_MAX} levels")]
    DirectoryDepth,
    #[error("its files have more than {} MiB", BYTES_MAX >> 20)]
    Bytes,
    #[error("it has a pipe or a device, whose content cannot be compared")]
    Special,
    #[error("a file or directory in it cannot be read")]
    Unreadable,
    #[error("reading it takes more than {} seconds", TIME_MAX.as_secs())]
    Time,
    #[error("its links lead on too often, or to too many names")]
    Links,
}

/// Looks at the files of a workspace: at all of them, or at those that these words name.
pub(crate) fn scan_contents(
    workspace: Option<&Workspace>,
    words: &[String],
    extent: BoundFiles,
    clock: &dyn Clock,
) -> Result<ExecutableFiles, FileBindingError> {
    let mut words = words.to_vec();
    let until = clock.now().checked_add(TIME_MAX).unwrap_or(Timestamp::MAX);
    for _ in 0..ROUNDS_MAX {
        let mut look = ContentsScan { words, extent, clock, until, ..ContentsScan::new(clock) };
        if let Some(workspace) = workspace {
            let root = workspace.open_directory(&WorkspacePath::default(), MissingDirectory::Leave);
            if let Some(root) = root.map_err(|_| FileBindingError::Unreadable)? {
                look.scan_directory(
                    workspace,
                    &root,
                    &mut Vec::new(),
                    DirectoryDepth { below: 0, is_said: false },
                )?;
            }
        }
        if look.links.is_empty() {
            let digest = Digest::from_bytes(*look.hasher.finalize().as_bytes());
            return Ok(ExecutableFiles { digest, files: look.files, extent });
        }
        // What a named link leads to is named as well.
        words = look.words;
        words.extend(look.links);
    }
    Err(FileBindingError::Links)
}

struct ContentsScan<'a> {
    words: Vec<String>,
    extent: BoundFiles,
    clock: &'a dyn Clock,
    until: Timestamp,
    hasher: blake3::Hasher,
    /// Where named links lead, as far as no word says it.
    links: Vec<String>,
    files: u32,
    names: usize,
    bytes: u64,
}

/// Where in the workspace a directory lies.
#[derive(Debug, Clone, Copy)]
struct DirectoryDepth {
    below: usize,
    /// Whether a word names a directory on the way: then all that lies in it counts.
    is_said: bool,
}

impl<'a> ContentsScan<'a> {
    fn new(clock: &'a dyn Clock) -> Self {
        Self {
            words: Vec::new(),
            extent: BoundFiles::All,
            clock,
            until: Timestamp::MAX,
            hasher: blake3::Hasher::new(),
            links: Vec::new(),
            files: 0,
            names: 0,
            bytes: 0,
        }
    }

    fn scan_directory(
        &mut self,
        workspace: &Workspace,
        directory: &OwnedFd,
        path: &mut Vec<u8>,
        depth: DirectoryDepth,
    ) -> Result<(), FileBindingError> {
        for name in self.list_names(directory, depth.below)? {
            self.check_time()?;
            let stat = match rustix::fs::statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(_) => return Err(FileBindingError::Unreadable),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let counts_anyway = self.extent == BoundFiles::All && !is_kept(path, &name, kind, &stat);
            let is_output = kind == FileType::Directory && path.is_empty();
            // What counts anyway need not be named, but for a directory that may hold what does not.
            let is_said = depth.is_said || (!counts_anyway || is_output) && self.is_said(&name)?;
            let counts = is_said || counts_anyway;
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            if kind == FileType::Directory {
                match workspace.open_entry(directory.as_fd(), &*name) {
                    Ok(WorkspaceEntry::Directory(child)) => {
                        if counts {
                            self.hash_entry_header(path, &stat);
                        }
                        let below = DirectoryDepth { below: depth.below + 1, is_said };
                        self.scan_directory(workspace, &child, path, below)?;
                    }
                    Err(FileError::Missing) => {}
                    Ok(WorkspaceEntry::File(_)) | Err(_) => return Err(FileBindingError::Unreadable),
                }
            } else if counts {
                self.hash_file(workspace, directory, &name, kind, &stat, path)?;
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Lists a directory in the order of its names.
    fn list_names(&mut self, directory: &OwnedFd, depth: usize) -> Result<Vec<CString>, FileBindingError> {
        if depth > DEPTH_MAX {
            return Err(FileBindingError::DirectoryDepth);
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(|_| FileBindingError::Unreadable)? {
            let entry = entry.map_err(|_| FileBindingError::Unreadable)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.names += 1;
            if self.names > NAMES_MAX {
                return Err(FileBindingError::Names);
            }
            names.push(name.to_owned());
        }
        self.check_time()?;
        names.sort_unstable();
        Ok(names)
    }

    /// Returns whether a word names it. A name that is no text counts as named: a word may spell it in any way.
    fn is_said(&self, name: &CStr) -> Result<bool, FileBindingError> {
        name.to_str().map_or(Ok(true), |name| self.is_word(name))
    }

    /// Returns whether a word contains a text.
    fn is_word(&self, text: &str) -> Result<bool, FileBindingError> {
        for words in self.words.chunks(WORDS_AT_ONCE) {
            self.check_time()?;
            if words.iter().any(|word| word.contains(text)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hash_file(
        &mut self,
        workspace: &Workspace,
        directory: &OwnedFd,
        name: &CStr,
        kind: FileType,
        stat: &Stat,
        path: &[u8],
    ) -> Result<(), FileBindingError> {
        let held = match kind {
            FileType::RegularFile => match workspace.open_entry(directory.as_fd(), name) {
                Ok(WorkspaceEntry::File(file)) => self.hash_content(file)?,
                Err(FileError::Missing) => return Ok(()),
                Ok(WorkspaceEntry::Directory(_)) | Err(_) => return Err(FileBindingError::Unreadable),
            },
            FileType::Symlink => self.hash_link(directory, name)?,
            // Nothing reads a socket by its name.
            FileType::Socket => [0; 32],
            _ => return Err(FileBindingError::Special),
        };
        self.files = self.files.saturating_add(1);
        self.hash_entry_header(path, stat);
        self.hasher.update(&held);
        Ok(())
    }

    /// Says what it is called, what kind it is, and who may do what with it.
    fn hash_entry_header(&mut self, path: &[u8], stat: &Stat) {
        self.hasher.update(&(path.len() as u64).to_le_bytes()).update(path);
        self.hasher.update(&stat.st_mode.to_le_bytes());
    }

    /// The digest of where a link leads. Where only named files count, those that it leads to are named with it.
    fn hash_link(&mut self, directory: &OwnedFd, name: &CStr) -> Result<[u8; 32], FileBindingError> {
        let Ok(to) = rustix::fs::readlinkat(directory, name, Vec::new()) else {
            return Err(FileBindingError::Unreadable);
        };
        if self.extent == BoundFiles::Named {
            let to = to.to_str().map_err(|_| FileBindingError::Links)?;
            if !self.is_word(to)? {
                if self.links.len() >= LINKS_MAX {
                    return Err(FileBindingError::Links);
                }
                self.links.push(to.to_owned());
            }
        }
        Ok(*blake3::hash(to.as_bytes()).as_bytes())
    }

    /// The digest of what a file holds. What is read counts, whatever comes of it.
    fn hash_content(&mut self, mut file: File) -> Result<[u8; 32], FileBindingError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            self.check_time()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(count) => {
                    self.bytes += count as u64;
                    hasher.update(&buffer[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(FileBindingError::Unreadable),
            }
            if self.bytes > BYTES_MAX {
                return Err(FileBindingError::Bytes);
            }
        }
    }

    fn check_time(&self) -> Result<(), FileBindingError> {
        if self.clock.now() > self.until { Err(FileBindingError::Time) } else { Ok(()) }
    }
}

/// Returns whether this is a long result that Dromia keeps, or the directory of those: not what a program is executed
/// from, as long as it has no right to be executed.
fn is_kept(path: &[u8], name: &CStr, kind: FileType, stat: &Stat) -> bool {
    let Ok(name) = name.to_str() else { return false };
    match kind {
        FileType::Directory => path.is_empty() && name == spilled_output::DIRECTORY,
        FileType::RegularFile => {
            path.strip_prefix(b"/") == Some(spilled_output::DIRECTORY.as_bytes())
                && (spilled_output::is_result(name) || name.starts_with(TEMPORARY_PREFIX))
                && stat.st_mode & 0o111 == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
