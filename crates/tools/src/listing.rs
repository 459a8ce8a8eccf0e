//! Listing a directory of the workspace: names in order, a bounded page of them, and an honest count of the rest.
//!
//! Invariant: memory is bounded by the page, whatever the directory holds. Half-written files are not shown.

use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::workspace_files::{FileKind, WorkspaceName};
use rustix::fs::{AtFlags, Dir, FileType};

use crate::arguments::FileList;
use crate::file_error::FileError;
use crate::files::{Told, fact_part};
use crate::path::{TEMPORARY_PREFIX, WorkspacePath};
use crate::workspace::{MissingDirectory, Workspace};

/// The most names of one page.
const ENTRIES_MAX: usize = 1000;
/// The most bytes of one page.
const PAGE_BYTES_MAX: usize = 64 << 10;
/// The most names looked at; a directory with more is not worth one call's time.
const SCAN_MAX: u64 = 200_000;

/// Lists a directory.
pub(crate) fn list_directory(workspace: Option<&Workspace>, arguments: &FileList) -> Told {
    let at_root = arguments.path.components().next().is_none();
    let directory = match workspace {
        Some(workspace) => workspace.open_directory(&arguments.path, MissingDirectory::Leave)?,
        None => None,
    };
    let Some(directory) = directory else {
        // A workspace that was never written to is empty; that it does not exist yet is no matter of the agent's.
        return if at_root { Ok(vec![fact_part("[empty]")]) } else { Err(FileError::Missing) };
    };
    let page = scan_names(&directory, &arguments.after)?;
    let mut parts = Vec::new();
    if page.lines.is_empty() {
        parts.push(fact_part("[empty]"));
    } else {
        parts.push(ContentPart::new_text(page.lines, Label::UNKNOWN_FILE));
    }
    if page.more > 0 {
        let count = if page.cut_short { "at least " } else { "" };
        parts.push(fact_part(format!("[{count}{} more; list on with the last name as after]", page.more)));
    }
    Ok(parts)
}

struct DirectoryListing {
    lines: String,
    more: u64,
    cut_short: bool,
}

/// Lists the first names of a directory after one, and what they are.
pub(crate) fn list_names(
    workspace: Option<&Workspace>,
    path: &WorkspacePath,
    after: &str,
    limit: usize,
) -> Result<Vec<WorkspaceName>, FileError> {
    let directory = match workspace {
        Some(workspace) => workspace.open_directory(path, MissingDirectory::Leave)?,
        None => None,
    };
    let Some(directory) = directory else {
        return if path.components().next().is_none() { Ok(Vec::new()) } else { Err(FileError::Missing) };
    };
    let named = |name: String| {
        let stat = rustix::fs::statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Link,
            _ => FileKind::Special,
        };
        let bytes = if kind == FileKind::File { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        Some(WorkspaceName { name, kind, bytes })
    };
    let first = first_names(&directory, after, limit)?.first.into_sorted_vec();
    // What went away meanwhile is not there.
    Ok(first.into_iter().filter_map(named).collect())
}

/// The first names of a directory after one, how many there are, and whether that is all.
struct FirstNames {
    first: BinaryHeap<String>,
    seen: u64,
    cut_short: bool,
}

fn first_names(directory: &OwnedFd, after: &str, limit: usize) -> Result<FirstNames, FileError> {
    // Of all names after the last page, the heap keeps the first in order; its top is the one to drop.
    let mut first = BinaryHeap::with_capacity(limit + 1);
    let (mut seen, mut looked_at) = (0_u64, 0_u64);
    let mut cut_short = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        looked_at += 1;
        if looked_at > SCAN_MAX {
            cut_short = true;
            break;
        }
        // A name that is not UTF-8 cannot be asked for, so it is shown but never complete.
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." || name.starts_with(TEMPORARY_PREFIX) || name.as_str() <= after {
            continue;
        }
        seen += 1;
        first.push(name);
        if first.len() > limit {
            first.pop();
        }
    }
    Ok(FirstNames { first, seen, cut_short })
}

fn scan_names(directory: &OwnedFd, after: &str) -> Result<DirectoryListing, FileError> {
    let FirstNames { first, seen, cut_short } = first_names(directory, after, ENTRIES_MAX)?;
    let mut lines = String::new();
    let mut shown = 0;
    for name in first.into_sorted_vec() {
        let before = lines.len();
        write_line(&mut lines, directory, &name);
        if lines.len() > PAGE_BYTES_MAX {
            lines.truncate(before);
            break;
        }
        shown += 1;
    }
    lines.truncate(lines.trim_end_matches('\n').len());
    Ok(DirectoryListing { lines, more: seen - shown, cut_short })
}

/// Writes `name/` for a directory, `name SIZE` for a file, and the kind of anything else.
fn write_line(lines: &mut String, directory: &OwnedFd, name: &str) {
    // A line break in a name must not look like another entry.
    let shown: String = name
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let written = match stat.map(|stat| (FileType::from_raw_mode(stat.st_mode), stat.st_size)) {
        Ok((FileType::RegularFile, size)) => writeln!(lines, "{shown} {size}"),
        Ok((FileType::Directory, _)) => writeln!(lines, "{shown}/"),
        Ok((FileType::Symlink, _)) => writeln!(lines, "{shown} (link)"),
        Ok(_) => writeln!(lines, "{shown} (special)"),
        Err(_) => writeln!(lines, "{shown} (gone)"),
    };
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}
