//! `file.search`: the lines of text files that match a pattern, in the order of their paths.
//!
//! Invariant: nothing outside the workspace is looked at. Every name is opened beneath the held handle of its directory,
//! once, and no link is followed; what a link would lead to is not searched.
//!
//! Bounds: matches and bytes of an answer; bytes looked at, names listed, depth and time of one call; names held at
//! once. A call with the last `PATH:LINE` goes on behind it and neither opens nor lists what is before it, so each call
//! gets further. A pattern's time is linear in the line, but a large pattern may be slow: the time is looked at
//! after every line, and of a line only its beginning is searched. What is not searched is counted: binary files, large
//! ones, ends of lines, and what cannot be opened or named. `.git` is left out unless it is where the search begins.

mod line;

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};

use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::runtime::Clock;
use jiff::{SignedDuration, Timestamp};
use regex::bytes::Regex;
use rustix::fs::Dir;

use crate::arguments::{FileSearch, MatchLocation};
use crate::file_error::FileError;
use crate::file_labels::WorkspaceLabels;
use crate::files::{Told, fact_part};
use crate::path::WorkspacePath;
use crate::search::line::excerpt_around;
use crate::workspace::{MissingDirectory, Workspace, WorkspaceEntry};
use crate::workspace_scan::content_digest;

/// The most matches of one answer.
const MATCHES_MAX: usize = 200;
/// The most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 32 << 10;
/// The largest file that is searched.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The most bytes that one call looks at, beyond its first file.
const LOOKED_BYTES_MAX: u64 = 32 << 20;
/// The most names that one call lists beside those on the way to where it goes on.
const NAMES_MAX: usize = 50_000;
/// The most bytes of names that are held at once.
const HELD_BYTES_MAX: usize = 4 << 20;
/// What a held name counts beside its bytes.
const NAME_COST: usize = 24;
/// The deepest directory below the first; a handle is held for each.
const DEPTH_MAX: usize = 32;
/// How much of a line is searched.
const LINE_LOOK: usize = 64 << 10;
/// How long one call looks.
const TIME_MAX: SignedDuration = SignedDuration::from_secs(10);
/// Where a NUL byte makes a file binary.
const BINARY_LOOK: usize = 8 << 10;
/// The directory that is left out.
const REPOSITORY: &str = ".git";

/// Searches a file, or the files below a directory.
pub(crate) fn search_files(
    workspace: Option<&Workspace>,
    arguments: &FileSearch,
    pattern: &Regex,
    clock: &dyn Clock,
    known: &WorkspaceLabels,
) -> Told {
    let is_root = arguments.path.components().next().is_none();
    let Some(workspace) = workspace else {
        // A workspace that was never written to holds nothing.
        return if is_root { Ok(vec![fact_part("[no match]")]) } else { Err(FileError::Missing) };
    };
    let first = match workspace.open_directory(&arguments.path, MissingDirectory::Leave) {
        Ok(Some(directory)) => WorkspaceEntry::Directory(directory),
        Ok(None) => return Err(FileError::Missing),
        Err(FileError::NotADirectory) if !is_root => {
            let (parent, name) = arguments.path.split_parent().ok_or(FileError::Missing)?;
            let parent =
                workspace.open_directory(&parent, MissingDirectory::Leave)?.ok_or(FileError::Missing)?;
            workspace.open_entry(parent.as_fd(), name)?
        }
        Err(error) => return Err(error),
    };
    let now = clock.now();
    let mut search = WorkspaceSearch {
        workspace,
        pattern,
        clock,
        known,
        until: now.checked_add(TIME_MAX).unwrap_or(now),
        after: arguments.after.as_ref(),
        lines: String::new(),
        label: Label::PUBLIC_FACT,
        matches: 0,
        names: 0,
        held: 0,
        looked: 0,
        skipped: SkippedFiles::default(),
    };
    let path = if is_root { "" } else { arguments.path.as_str() };
    let going = match first {
        WorkspaceEntry::File(file) => search.search_file(file, path)?,
        WorkspaceEntry::Directory(directory) => search.search_directory(&directory, path, 0)?,
    };
    Ok(search.into_parts(&going))
}

/// Whether a search goes on.
enum SearchProgress {
    On,
    /// The answer is full.
    Full,
    /// Enough was looked at; what comes after this line of this path was not.
    Enough {
        path: String,
        line: u64,
    },
}

struct WorkspaceSearch<'a> {
    workspace: &'a Workspace,
    pattern: &'a Regex,
    clock: &'a dyn Clock,
    known: &'a WorkspaceLabels,
    until: Timestamp,
    after: Option<&'a MatchLocation>,
    lines: String,
    /// The join of the labels of the files whose lines or names are returned.
    label: Label,
    matches: usize,
    names: usize,
    held: usize,
    looked: u64,
    skipped: SkippedFiles,
}

#[derive(Default)]
struct SkippedFiles {
    binary: u64,
    large: u64,
    /// Lines of which only the beginning was searched.
    ends: u64,
    /// What cannot be opened or named, and directories that are too deep or hold too many names.
    closed: u64,
}

impl WorkspaceSearch<'_> {
    fn search_directory(
        &mut self,
        directory: &OwnedFd,
        path: &str,
        depth: usize,
    ) -> Result<SearchProgress, FileError> {
        if depth > DEPTH_MAX {
            self.skipped.closed += 1;
            return Ok(SearchProgress::On);
        }
        let is_on_the_way = path.is_empty() || self.order_of_path(path) == LocationOrder::Around;
        if self.names >= NAMES_MAX && !is_on_the_way {
            return Ok(SearchProgress::Enough { path: path.to_owned(), line: 0 });
        }
        let Ok(Some((names, cost))) = self.list_names(directory, path) else {
            self.skipped.closed += 1;
            return Ok(SearchProgress::On);
        };
        if !is_on_the_way {
            self.names += names.len();
        }
        self.held += cost;
        for name in &names {
            match self.search_entry(directory, path, name, depth)? {
                SearchProgress::On => {}
                stop => return Ok(stop),
            }
        }
        self.held -= cost;
        Ok(SearchProgress::On)
    }

    /// Lists what comes after the place, in order, and what that costs; nothing if it is too much.
    fn list_names(
        &mut self,
        directory: &OwnedFd,
        path: &str,
    ) -> Result<Option<(Vec<String>, usize)>, FileError> {
        let (mut names, mut cost) = (Vec::new(), 0);
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // A name that no tool can ask for would be of no use; half-written files are among them.
            let Ok(name) = name.to_str() else {
                self.skipped.closed += 1;
                continue;
            };
            let below = join_path(path, name);
            if name == REPOSITORY || self.order_of_path(&below) == LocationOrder::Before {
                continue;
            }
            if WorkspacePath::parse(&below).is_err() {
                self.skipped.closed += u64::from(!name.starts_with(crate::path::TEMPORARY_PREFIX));
                continue;
            }
            cost += name.len() + NAME_COST;
            if self.held + cost > HELD_BYTES_MAX {
                return Ok(None);
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        Ok(Some((names, cost)))
    }

    fn search_entry(
        &mut self,
        directory: &OwnedFd,
        path: &str,
        name: &str,
        depth: usize,
    ) -> Result<SearchProgress, FileError> {
        let path = join_path(path, name);
        match self.workspace.open_entry(directory.as_fd(), name) {
            Ok(WorkspaceEntry::File(file)) => self.search_file(file, &path),
            Ok(WorkspaceEntry::Directory(below)) => self.search_directory(&below, &path, depth + 1),
            // A link is not ours to follow, a pipe holds no text, and what is gone is gone.
            Err(FileError::Symlink | FileError::Special | FileError::Missing) => Ok(SearchProgress::On),
            Err(_) => {
                self.skipped.closed += 1;
                Ok(SearchProgress::On)
            }
        }
    }

    fn search_file(&mut self, file: File, path: &str) -> Result<SearchProgress, FileError> {
        let from = match self.order_of_path(path) {
            LocationOrder::Before | LocationOrder::Around => return Ok(SearchProgress::On),
            LocationOrder::At(line) => line,
            LocationOrder::Behind => 0,
        };
        let size = file.metadata()?.len();
        if size > FILE_BYTES_MAX {
            self.skipped.large += 1;
            return Ok(SearchProgress::On);
        }
        if self.looked > 0 && self.looked + size > LOOKED_BYTES_MAX {
            return Ok(SearchProgress::Enough { path: path.to_owned(), line: 0 });
        }
        let mut text = Vec::new();
        if file.take(FILE_BYTES_MAX).read_to_end(&mut text).is_err() {
            self.skipped.closed += 1;
            return Ok(SearchProgress::On);
        }
        self.looked += text.len() as u64;
        if text[..text.len().min(BINARY_LOOK)].contains(&0) {
            self.skipped.binary += 1;
            return Ok(SearchProgress::On);
        }
        let before = self.matches;
        let going = self.search_text(&text, path, from);
        if self.matches > before {
            self.label = self.label.join(self.known.label_of(path, Some(content_digest(&text))));
        }
        Ok(going)
    }

    fn search_text(&mut self, text: &[u8], path: &str, from: u64) -> SearchProgress {
        if text.is_empty() {
            return SearchProgress::On;
        }
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if number <= from {
                continue;
            }
            self.skipped.ends += u64::from(line.len() > LINE_LOOK);
            if let Some(found) = self.pattern.find(&line[..line.len().min(LINE_LOOK)]) {
                let before = self.lines.len();
                // Writing to a string cannot fail.
                let _infallible =
                    writeln!(self.lines, "{path}:{number}: {}", excerpt_around(line, found.start()));
                if self.lines.len() > ANSWER_BYTES_MAX && self.matches > 0 {
                    self.lines.truncate(before);
                    return SearchProgress::Full;
                }
                self.matches += 1;
                if self.matches >= MATCHES_MAX {
                    return SearchProgress::Full;
                }
            }
            if self.clock.now() >= self.until {
                return SearchProgress::Enough { path: path.to_owned(), line: number };
            }
        }
        SearchProgress::On
    }

    /// Compares a path with the location at which the search goes on.
    fn order_of_path(&self, path: &str) -> LocationOrder {
        let Some(after) = self.after else { return LocationOrder::Behind };
        let mut names = path.split('/').filter(|name| !name.is_empty());
        for theirs in after.path.components() {
            match names.next().map(|ours| ours.cmp(theirs)) {
                None => return LocationOrder::Around,
                Some(Ordering::Equal) => {}
                Some(Ordering::Less) => return LocationOrder::Before,
                Some(Ordering::Greater) => return LocationOrder::Behind,
            }
        }
        if names.next().is_none() { LocationOrder::At(after.line) } else { LocationOrder::Behind }
    }

    fn into_parts(mut self, going: &SearchProgress) -> Vec<ContentPart> {
        if let SearchProgress::Enough { path, line } = going {
            let _infallible = writeln!(self.lines, "{path}:{line}: (go on here)");
            // The name of a file that was not looked at.
            self.label = self.label.join(self.known.label_of(path, None));
        }
        let mut parts = Vec::new();
        if self.lines.is_empty() {
            parts.push(fact_part("[no match]"));
        } else {
            self.lines.truncate(self.lines.trim_end_matches('\n').len());
            parts.push(ContentPart::new_text(self.lines, self.label));
        }
        match going {
            SearchProgress::On => {}
            SearchProgress::Full => {
                parts.push(fact_part("[there may be more; search on with the last PATH:LINE as after]"));
            }
            SearchProgress::Enough { .. } => {
                parts.push(fact_part("[not all was searched; search on with the last PATH:LINE as after]"));
            }
        }
        let SkippedFiles { binary, large, ends, closed } = self.skipped;
        if binary + large + ends + closed > 0 {
            parts.push(fact_part(format!(
                "[not searched: {binary} binary files, {large} of more than {FILE_BYTES_MAX} bytes, {ends} lines after \
                 {LINE_LOOK} bytes, {closed} that cannot be opened or named, or directories too deep or too full]"
            )));
        }
        parts
    }
}

/// How a path compares with a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LocationOrder {
    /// It and all below it come first.
    Before,
    /// It is a directory on the way there.
    Around,
    /// It is the place's own path.
    At(u64),
    /// It and all below it come later.
    Behind,
}

fn join_path(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}
