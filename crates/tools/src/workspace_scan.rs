//! What a workspace holds: every file with the BLAKE3 of its content, by one bounded walk.
//!
//! Invariant: every name is opened beneath the held handle of its directory, once, and no link is followed. A walk that
//! passes one of its bounds says that it is not whole; a file that is there and was not read is named without a
//! content, so that it is not taken for one that is known. It refuses to label anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};

use dromia_contracts::Digest;
use rustix::fs::Dir;

use crate::file_error::FileError;
use crate::path::WorkspacePath;
use crate::workspace::{MissingDirectory, Workspace, WorkspaceEntry};

/// The largest file whose content is compared with what is known of it; a larger one is always of unknown origin.
pub(crate) const COMPARED_BYTES_MAX: u64 = 4 << 20;
/// The most names of one walk.
const NAMES_MAX: usize = 4_096;
/// The most bytes of one walk, beyond its last file.
const BYTES_MAX: u64 = 32 << 20;
/// The deepest directory; a handle is held for each.
const DEPTH_MAX: usize = 32;

/// What a walk saw.
#[derive(Debug, Default)]
pub(crate) struct WorkspaceDigests {
    /// Files and what they hold; without a content where that was not read.
    pub(crate) files: BTreeMap<String, Option<Digest>>,
    /// Whether there is more than was seen.
    pub(crate) is_cut: bool,
}

/// Looks at every file of a workspace.
pub(crate) fn digest_workspace(workspace: &Workspace) -> Result<WorkspaceDigests, FileError> {
    let mut walk = WorkspaceWalk { workspace, seen: WorkspaceDigests::default(), names: 0, bytes: 0 };
    if let Some(root) = workspace.open_directory(&WorkspacePath::default(), MissingDirectory::Leave)? {
        walk.walk_directory(&root, "", 0);
    }
    Ok(walk.seen)
}

/// Takes the digest of a content.
pub(crate) fn content_digest(content: &[u8]) -> Digest {
    Digest::from_bytes(*blake3::hash(content).as_bytes())
}

/// Reads a whole file, if it is not too large to be compared.
pub(crate) fn read_comparable(file: &File) -> std::io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    file.take(COMPARED_BYTES_MAX + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= COMPARED_BYTES_MAX).then_some(content))
}

struct WorkspaceWalk<'a> {
    workspace: &'a Workspace,
    seen: WorkspaceDigests,
    names: usize,
    bytes: u64,
}

impl WorkspaceWalk<'_> {
    fn walk_directory(&mut self, directory: &OwnedFd, path: &str, depth: usize) {
        let Some(entries) = (depth <= DEPTH_MAX).then(|| Dir::read_from(directory).ok()).flatten() else {
            self.seen.is_cut = true;
            return;
        };
        for entry in entries {
            let Ok(entry) = entry else {
                self.seen.is_cut = true;
                return;
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.seen.is_cut |= self.names >= NAMES_MAX || self.bytes >= BYTES_MAX;
            if self.seen.is_cut {
                return;
            }
            self.names += 1;
            let below = name.to_string_lossy();
            let below = if path.is_empty() { below.into_owned() } else { format!("{path}/{below}") };
            // What no tool can ask for may still be read by programs: it is there, and its content is unknown.
            let Some(name) = name.to_str().ok().filter(|_| WorkspacePath::parse(&below).is_ok()) else {
                self.note_unread(below);
                continue;
            };
            match self.workspace.open_entry(directory.as_fd(), name) {
                Ok(WorkspaceEntry::File(file)) => self.digest_file(&file, below),
                Ok(WorkspaceEntry::Directory(child)) => self.walk_directory(&child, &below, depth + 1),
                Err(FileError::Missing) => {}
                Err(_) => self.note_unread(below),
            }
        }
    }

    fn digest_file(&mut self, file: &File, path: String) {
        if let Ok(Some(content)) = read_comparable(file) {
            self.bytes += content.len() as u64;
            self.seen.files.insert(path, Some(content_digest(&content)));
        } else {
            self.bytes += COMPARED_BYTES_MAX;
            self.note_unread(path);
        }
    }

    fn note_unread(&mut self, path: String) {
        self.seen.files.insert(path, None);
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::AgentId;

    use super::*;
    use crate::workspace::{PathResolver, workspace_path};

    const AGENT: AgentId = AgentId::from_bytes([3; 16]);

    #[test]
    fn a_scan_sees_every_file_and_unreadable_ones_without_content() {
        let home = tempfile::tempdir().expect("a directory");
        let made = Workspace::open(home.path(), AGENT, PathResolver::probe(), MissingDirectory::Make);
        let workspace = made.expect("made").expect("there");
        let root = workspace_path(home.path(), AGENT);
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        std::fs::write(root.join("a/b/one"), "1").expect("written");
        std::fs::write(root.join("two"), "").expect("written");
        std::fs::write(root.join("line\nbreak"), "x").expect("written");
        std::os::unix::fs::symlink("/etc/hostname", root.join("link")).expect("linked");
        std::fs::File::create(root.join("large"))
            .and_then(|file| file.set_len(COMPARED_BYTES_MAX + 1))
            .expect("sparse");
        let seen = digest_workspace(&workspace).expect("seen");
        let files = [
            ("a/b/one", Some(content_digest(b"1"))),
            ("large", None),
            ("line\nbreak", None),
            ("link", None),
            ("two", Some(content_digest(b""))),
        ];
        let files: BTreeMap<_, _> = files.map(|(path, content)| (path.to_owned(), content)).into();
        assert_eq!((seen.files, seen.is_cut), (files, false));
    }

    #[test]
    fn a_walk_beyond_its_bounds_says_so() {
        let home = tempfile::tempdir().expect("a directory");
        let made = Workspace::open(home.path(), AGENT, PathResolver::probe(), MissingDirectory::Make);
        let workspace = made.expect("made").expect("there");
        let root = workspace_path(home.path(), AGENT);
        for number in 0..NAMES_MAX {
            std::fs::write(root.join(number.to_string()), "").expect("written");
        }
        assert!(!digest_workspace(&workspace).expect("seen").is_cut);
        std::fs::write(root.join("further"), "").expect("written");
        let seen = digest_workspace(&workspace).expect("seen");
        assert_eq!((seen.files.len(), seen.is_cut), (NAMES_MAX, true));
        let deep = home.path().join("deep");
        std::fs::create_dir_all(&deep).expect("made");
        let made = Workspace::open(&deep, AGENT, PathResolver::probe(), MissingDirectory::Make);
        let workspace = made.expect("made").expect("there");
        std::fs::create_dir_all(workspace_path(&deep, AGENT).join(["d"; DEPTH_MAX + 1].join("/")))
            .expect("made");
        assert!(digest_workspace(&workspace).expect("seen").is_cut);
    }
}
