//! Results that are longer than what a model is shown at once: kept whole in a file of the workspace, which is their
//! *handle*. `file.read` reads on there, and so do programs.
//!
//! Invariant: a result is reported as kept only once its file is durable, and nothing depends on the file: the journal
//! has what the model was shown, and a handle whose file is gone is a file that is not there. Its name is made of the
//! call's key, so a call that is repeated after a crash leaves one file.
//!
//! What is kept is bounded: [`KEPT_BYTES_MAX`] of a result, the newest [`KEPT_MAX`] results of an agent.

use std::cmp::Reverse;
use std::os::fd::OwnedFd;

use dromia_contracts::content::ContentPart;
use rustix::fs::{AtFlags, Dir, FileType};

use crate::file_error::FileError;
use crate::files::{fact_part, replace_file};
use crate::path::{FilePath, WorkspacePath};
use crate::workspace::{MissingDirectory, Workspace};

/// The most bytes of one result that are kept.
pub(crate) const KEPT_BYTES_MAX: usize = 1 << 20;

/// The most results of one agent that are kept; the oldest go first.
const KEPT_MAX: usize = 64;

/// The most names that are looked at for old results.
const SCAN_MAX: usize = 4096;

/// The most old results of which one call says that they are gone.
const GONE_SAID_MAX: usize = 16;

/// Where results lie in the workspace.
pub(crate) const DIRECTORY: &str = "output";
const SUFFIX: &str = ".txt";
/// The digits of a name before its suffix.
const DIGITS: usize = 16;

/// A result that is longer than what the model is shown of it.
#[derive(Debug)]
pub(crate) struct LongOutput {
    /// The bytes to keep.
    pub(crate) bytes: Vec<u8>,
    /// How many of its first bytes the model is shown.
    pub(crate) shown: usize,
    /// Whether there were more than may be kept.
    pub(crate) is_cut: bool,
}

impl LongOutput {
    /// Keeps the result of the call with this key, and returns where.
    pub(crate) fn spill_to_file(&self, workspace: &Workspace, key: &str) -> Result<SpilledOutput, FileError> {
        let handle = spill_path(key)?;
        replace_file(workspace, &handle, &self.bytes, key, None)?;
        let gone = match workspace.open_directory(&handle.split_file_name().0, MissingDirectory::Leave)? {
            Some(directory) => prune_oldest(&directory, handle.split_file_name().1)?,
            None => Vec::new(),
        };
        let (total, shown) = (self.bytes.len(), self.shown);
        let what = if self.is_cut { "the first" } else { "all" };
        let told = format!("[{what} {total} bytes are in {handle}; read on there from offset {shown}]");
        Ok(SpilledOutput { path: handle.to_string(), told: fact_part(told), gone })
    }
}

/// A result that is kept.
#[derive(Debug)]
pub(crate) struct SpilledOutput {
    /// Where.
    pub(crate) path: String,
    /// The note on it that the model gets.
    pub(crate) told: ContentPart,
    /// Where older ones were that gave way; of very many, some.
    pub(crate) gone: Vec<String>,
}

/// Returns whether an agent could read what is kept.
pub(crate) fn is_readable(grants: &[String]) -> bool {
    grants.iter().any(|grant| matches!(grant.as_str(), "file.read" | "file.*"))
}

/// Returns whether a path is that of a result that is kept, or was.
pub(crate) fn is_spilled(path: &FilePath) -> bool {
    let (parent, name) = path.split_file_name();
    parent.as_str() == DIRECTORY && is_result(name)
}

fn spill_path(key: &str) -> Result<FilePath, FileError> {
    let name = &blake3::hash(key.as_bytes()).to_hex()[..DIGITS];
    let path = WorkspacePath::parse(&format!("{DIRECTORY}/{name}{SUFFIX}"));
    // Hexadecimal digits make a clean path.
    path.and_then(FilePath::try_from).map_err(|_| FileError::Missing)
}

/// Removes the oldest results beyond the bound, but not the one that was just kept, and says where they were. What an agent
/// put beside them stays.
fn prune_oldest(directory: &OwnedFd, newest: &str) -> Result<Vec<String>, FileError> {
    let mut kept = Vec::new();
    for entry in Dir::read_from(directory)?.take(SCAN_MAX) {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !is_result(name) || name == newest {
            continue;
        }
        // What goes away meanwhile needs no look.
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            kept.push((Reverse((stat.st_mtime, stat.st_mtime_nsec)), name.to_owned()));
        }
    }
    kept.sort_unstable();
    // The result is kept whether or not an older one could be removed; the next one tries again.
    let removed = |name: &str| rustix::fs::unlinkat(directory, name, AtFlags::empty()).is_ok();
    let gone = kept.iter().skip(KEPT_MAX - 1).filter(|(_, name)| removed(name));
    let gone: Vec<_> = gone.map(|(_, name)| format!("{DIRECTORY}/{name}")).collect();
    Ok(gone.into_iter().take(GONE_SAID_MAX).collect())
}

/// Returns whether a file of that directory is named as a result is.
pub(crate) fn is_result(name: &str) -> bool {
    let digits = name.strip_suffix(SUFFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_file_is_named_by_its_key_only() {
        let (first, second) = (spill_path("a").expect("a path"), spill_path("b").expect("a path"));
        assert_ne!(first, second);
        assert_eq!(first, spill_path("a").expect("a path"));
        assert!(is_result(first.split_file_name().1));
        for name in
            ["", ".txt", "report.txt", "0123456789abcde.txt", "0123456789ABCDEF.txt", "0123456789abcdef"]
        {
            assert!(!is_result(name), "{name:?}");
        }
    }

    #[test]
    fn spilled_output_is_offered_only_to_agents_that_read_files() {
        let may =
            |grants: &[&str]| is_readable(&grants.iter().map(|&grant| grant.to_owned()).collect::<Vec<_>>());
        assert!(may(&["model", "file.read"]) && may(&["file.*"]));
        assert!(!may(&["model", "file.list", "http.request"]));
    }
}
