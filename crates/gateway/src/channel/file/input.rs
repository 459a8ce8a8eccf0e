//! The input file: one line for each message, followed behind a durable cursor.
//!
//! The cursor names the file, the offset of the next line, and the digest of what is before it: a file system gives the
//! number of a removed file to the next one. Each other file gets a name that no file had before. A line is read once it has
//! its end, so a torn one waits for the rest. Its key is its `id`, or its place, so a line that is read again because a crash
//! came before the cursor moved is one input.
//!
//! One look reads a bounded part of the file, whatever it holds, so no file keeps the others waiting.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dromia_contracts::Digest;
use dromia_contracts::channel::{ReceiveError, ReceivedMessage};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::super::webhook::is_actor_name;
use super::LINE_BYTES_MAX;
use super::directory::{open_directory, open_file, replace_file};

/// The name of the input file.
const INPUT: &str = "in.jsonl";
/// The name of the cursor's file.
const CURSOR: &str = "cursor.json";
/// The longest cursor, in bytes.
const CURSOR_BYTES_MAX: u64 = 4 << 10;
/// The most messages that are read at once.
const MESSAGES_MAX: usize = 16;
/// The longest id of a line, in bytes.
const ID_BYTES_MAX: usize = 128;
/// What is read at once.
const BLOCK: usize = 8 << 10;
/// The most bytes that one look reads.
const LOOK_BYTES_MAX: u64 = 4 << 20;
/// The most lines without a message that one look passes over.
const SKIPPED_MAX: usize = 4_096;
/// How many bytes before the next line tell one file from another.
const TAIL_BYTES: u64 = 1 << 10;

/// How far the input was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InputCursor {
    /// The name of the file, which no other file in its place has.
    generation: String,
    /// The number of the file; 0 where it was missing.
    inode: u64,
    /// Where the next line begins.
    offset: u64,
    /// The digest of what is before that.
    tail: Digest,
}

impl InputCursor {
    /// The beginning of a file.
    fn of_beginning(generation: String, inode: u64) -> Self {
        Self { generation, inode, offset: 0, tail: digest_of(&[]) }
    }

    /// The same file, behind a line.
    fn behind_line(&self, file: &File, end: u64) -> io::Result<Self> {
        Ok(Self { offset: end, tail: tail_digest(file, end)?, ..self.clone() })
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// Computes the digest of the bytes before an offset.
fn tail_digest(file: &File, offset: u64) -> io::Result<Digest> {
    let length = offset.min(TAIL_BYTES);
    let mut tail = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut tail, offset - length)?;
    Ok(digest_of(&tail))
}

/// What the last look found out about a line without an end, so that a long one is not read again from its beginning.
#[derive(Debug, Default)]
pub(super) struct InputScan {
    place: Option<InputCursor>,
    scanned: u64,
}

/// A line of the input.
#[derive(Debug, Deserialize)]
struct InputLine {
    id: Option<String>,
    actor: Option<String>,
    text: String,
}

/// A line, where it is not too long, and where the next one begins.
struct FoundLine {
    content: Option<Vec<u8>>,
    end: u64,
}

/// Reads the messages behind the cursor, at most so many. What is no message is logged and passed over for good. Another file
/// in the place of the input gets the name `fresh`.
pub(super) fn read_messages(
    directory: &Path,
    scan: &Mutex<InputScan>,
    fresh: String,
) -> Result<Vec<ReceivedMessage>, ReceiveError> {
    let failed = |error: io::Error| {
        ReceiveError::Unavailable(format!("failed to read {INPUT} in {}: {error}", directory.display()))
    };
    let handle = open_directory(directory).map_err(failed)?;
    let Some(mut file) = open_file(&handle, INPUT, OFlags::RDONLY).map_err(failed)? else {
        note_missing(&handle, fresh).map_err(failed)?;
        return Ok(Vec::new());
    };
    let mut cursor = find_cursor(&handle, &file, fresh).map_err(failed)?;
    let (mut found, mut skipped) = (Vec::new(), SkippedLines::default());
    let mut left = LOOK_BYTES_MAX;
    // No code panics while it holds the lock.
    let mut scan = scan.lock().unwrap_or_else(PoisonError::into_inner);
    while found.len() < MESSAGES_MAX && skipped.count < SKIPPED_MAX {
        let Some(line) = read_line(&mut file, &cursor, &mut scan, &mut left).map_err(failed)? else { break };
        let next = cursor.behind_line(&file, line.end).map_err(failed)?;
        match parse_line(&cursor, &next, line.content.as_deref()) {
            Ok(message) => found.push(message),
            // It is passed over once everything before it is durable.
            Err(_) if !found.is_empty() => break,
            Err(problem) => skipped.note(cursor.offset, problem),
        }
        cursor = next;
    }
    if skipped.count > 0 {
        skipped.warn(directory);
        if found.is_empty() {
            write_at(&handle, &cursor).map_err(failed)?;
        }
    }
    Ok(found)
}

/// Lines that one look passed over.
#[derive(Debug, Default)]
struct SkippedLines {
    count: usize,
    /// Where the first one that is not empty begins, and what is wrong with it.
    first: Option<(u64, String)>,
    wrong: usize,
}

impl SkippedLines {
    /// Counts a line; an empty one has no problem.
    fn note(&mut self, at: u64, problem: Option<String>) {
        self.count += 1;
        if let Some(problem) = problem {
            self.wrong += 1;
            self.first.get_or_insert((at, problem));
        }
    }

    fn warn(&self, directory: &Path) {
        if let Some((at, problem)) = &self.first {
            let (place, lines) = (directory.display(), self.wrong);
            tracing::warn!(%place, at, lines, problem, "lines of the input file are no messages; append correct ones");
        }
    }
}

/// Makes a cursor durable.
pub(super) fn write_cursor(directory: &Path, cursor: &str) -> Result<(), ReceiveError> {
    let written =
        open_directory(directory).and_then(|handle| replace_file(&handle, CURSOR, cursor.as_bytes()));
    written.map_err(|error| {
        ReceiveError::Unavailable(format!("failed to write {CURSOR} in {}: {error}", directory.display()))
    })
}

fn write_at(handle: &File, cursor: &InputCursor) -> io::Result<()> {
    replace_file(handle, CURSOR, &serde_json::to_vec(cursor)?)
}

/// Reads the kept cursor; nothing where there is none.
fn read_cursor(handle: &File) -> io::Result<Option<InputCursor>> {
    let Some(kept) = open_file(handle, CURSOR, OFlags::RDONLY)? else { return Ok(None) };
    let mut text = Vec::new();
    kept.take(CURSOR_BYTES_MAX).read_to_end(&mut text)?;
    let kept = serde_json::from_slice(&text).map_err(|error| {
        io::Error::other(format!(
            "{CURSOR} is damaged: {error}; delete it to read {INPUT} from its beginning"
        ))
    })?;
    Ok(Some(kept))
}

/// Notes that the file is gone: the next one is another, whatever its number is.
fn note_missing(handle: &File, fresh: String) -> io::Result<()> {
    match read_cursor(handle)? {
        Some(kept) if kept.offset > 0 => write_at(handle, &InputCursor::of_beginning(fresh, 0)),
        _ => Ok(()),
    }
}

/// Reads the cursor; one of another file begins at the beginning of this one.
fn find_cursor(handle: &File, file: &File, fresh: String) -> io::Result<InputCursor> {
    let found = rustix::fs::fstat(file)?;
    let (inode, size) = (found.st_ino, u64::try_from(found.st_size).unwrap_or_default());
    let kept = read_cursor(handle)?;
    if let Some(kept) = &kept
        && kept.inode == inode
        && kept.offset <= size
        && kept.tail == tail_digest(file, kept.offset)?
    {
        return Ok(kept.clone());
    }
    let fresh = InputCursor::of_beginning(fresh, inode);
    // Durable before a line of the file is read: its places are its own.
    write_at(handle, &fresh)?;
    if kept.is_some() {
        tracing::info!(generation = fresh.generation, "another input file is followed from its beginning");
    }
    Ok(fresh)
}

/// Reads the line at a cursor; nothing while it has no end, or once so many bytes were read.
fn read_line(
    file: &mut File,
    cursor: &InputCursor,
    scan: &mut InputScan,
    left: &mut u64,
) -> io::Result<Option<FoundLine>> {
    let mut content = Some(Vec::new());
    let mut at = cursor.offset;
    if scan.place.as_ref() == Some(cursor) && scan.scanned - cursor.offset > LINE_BYTES_MAX as u64 {
        (content, at) = (None, scan.scanned);
    }
    file.seek(SeekFrom::Start(at))?;
    let mut block = vec![0; BLOCK];
    loop {
        let count = file.read(&mut block)?;
        let piece = &block[..count];
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(count);
        content = content.filter(|line| line.len() + taken <= LINE_BYTES_MAX);
        if let Some(line) = &mut content {
            line.extend_from_slice(&piece[..taken]);
        }
        at += taken as u64;
        *left = left.saturating_sub(taken as u64);
        if end.is_some() {
            return Ok(Some(FoundLine { content, end: at + 1 }));
        }
        if count == 0 || *left == 0 {
            *scan = InputScan { place: Some(cursor.clone()), scanned: at };
            return Ok(None);
        }
    }
}

/// Reads a line as a message, or says what is wrong with it: nothing where it is empty.
fn parse_line(
    at: &InputCursor,
    next: &InputCursor,
    line: Option<&[u8]>,
) -> Result<ReceivedMessage, Option<String>> {
    match line {
        None => Err(Some(format!("it has more than {LINE_BYTES_MAX} bytes"))),
        Some(line) if line.trim_ascii().is_empty() => Err(None),
        Some(line) => parse_message(at, next, line).map_err(Some),
    }
}

fn parse_message(at: &InputCursor, next: &InputCursor, line: &[u8]) -> Result<ReceivedMessage, String> {
    let InputLine { id, actor, text } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if actor.as_deref().is_some_and(|name| !is_actor_name(name)) {
        return Err("`actor` must be 1 to 128 bytes without control characters".to_owned());
    }
    if text.trim().is_empty() {
        return Err("`text` is empty".to_owned());
    }
    let key = match id {
        Some(id) if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) => {
            return Err(format!("`id` must be 1 to {ID_BYTES_MAX} bytes without control characters"));
        }
        Some(id) => format!("id:{id}"),
        None => format!("at:{}:{}", at.generation, at.offset),
    };
    let cursor = serde_json::to_string(next).map_err(|error| error.to_string())?;
    Ok(ReceivedMessage { key, digest: digest_of(line), actor, text, cursor })
}
