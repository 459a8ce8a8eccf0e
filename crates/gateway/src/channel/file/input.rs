//! The input file: one line for each message, followed behind a durable cursor.
//!
//! The cursor names the file (its inode), a number that rises with each other file, and the offset of the next line. A line
//! is read once it has its end, so a torn one waits for the rest. Its key is its `id`, or its place, so a line that is read
//! again because a crash came before the cursor moved is one input.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
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
const BLOCK: usize = 64 << 10;

/// How far the input was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct InputCursor {
    /// Rises with each other file in the place of the input.
    generation: u64,
    /// The file that it means.
    inode: u64,
    /// Where the next line begins.
    offset: u64,
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

/// Reads the messages behind the cursor, at most so many. What is no message is logged and passed over for good.
pub(super) fn read_messages(
    directory: &Path,
    scan: &Mutex<InputScan>,
) -> Result<Vec<ReceivedMessage>, ReceiveError> {
    let failed = |error: io::Error| {
        ReceiveError::Unavailable(format!("failed to read {INPUT} in {}: {error}", directory.display()))
    };
    let handle = open_directory(directory).map_err(failed)?;
    let Some(mut file) = open_file(&handle, INPUT, OFlags::RDONLY).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut cursor = find_cursor(&handle, &file).map_err(failed)?;
    let mut found = Vec::new();
    // No code panics while it holds the lock.
    let mut scan = scan.lock().unwrap_or_else(PoisonError::into_inner);
    while found.len() < MESSAGES_MAX {
        let Some(line) = read_line(&mut file, cursor, &mut scan).map_err(failed)? else { break };
        let next = InputCursor { offset: line.end, ..cursor };
        match parse_line(cursor, next, line.content.as_deref()) {
            Ok(message) => found.push(message),
            // It is passed over once everything before it is durable.
            Err(_) if !found.is_empty() => break,
            Err(problem) => {
                let (place, at) = (directory.display(), cursor.offset);
                tracing::warn!(%place, at, problem, "a line of the input file is no message; append a correct one");
                write_at(&handle, next).map_err(failed)?;
            }
        }
        cursor = next;
    }
    Ok(found)
}

/// Makes a cursor durable.
pub(super) fn write_cursor(directory: &Path, cursor: &str) -> Result<(), ReceiveError> {
    let written =
        open_directory(directory).and_then(|handle| replace_file(&handle, CURSOR, cursor.as_bytes()));
    written.map_err(|error| {
        ReceiveError::Unavailable(format!("failed to write {CURSOR} in {}: {error}", directory.display()))
    })
}

fn write_at(handle: &File, cursor: InputCursor) -> io::Result<()> {
    replace_file(handle, CURSOR, &serde_json::to_vec(&cursor)?)
}

/// Reads the cursor; one of another file, or beyond the end of this one, begins at its beginning.
fn find_cursor(handle: &File, file: &File) -> io::Result<InputCursor> {
    let found = rustix::fs::fstat(file)?;
    let (inode, size) = (found.st_ino, u64::try_from(found.st_size).unwrap_or_default());
    let Some(kept) = open_file(handle, CURSOR, OFlags::RDONLY)? else {
        return Ok(InputCursor { generation: 1, inode, offset: 0 });
    };
    let mut text = Vec::new();
    kept.take(CURSOR_BYTES_MAX).read_to_end(&mut text)?;
    let kept: InputCursor = serde_json::from_slice(&text).map_err(|error| {
        io::Error::other(format!(
            "{CURSOR} is damaged: {error}; delete it to read {INPUT} from its beginning"
        ))
    })?;
    if kept.inode == inode && kept.offset <= size {
        return Ok(kept);
    }
    let fresh = InputCursor { generation: kept.generation.saturating_add(1), inode, offset: 0 };
    // Durable before a line of the other file is read: its places are its own.
    write_at(handle, fresh)?;
    tracing::info!(generation = fresh.generation, "another input file is followed from its beginning");
    Ok(fresh)
}

/// Reads the line at a cursor; nothing while it has no end.
fn read_line(file: &mut File, cursor: InputCursor, scan: &mut InputScan) -> io::Result<Option<FoundLine>> {
    let mut content = Some(Vec::new());
    let mut at = cursor.offset;
    if scan.place == Some(cursor) && scan.scanned - cursor.offset > LINE_BYTES_MAX as u64 {
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
        if end.is_some() {
            return Ok(Some(FoundLine { content, end: at + 1 }));
        }
        if count == 0 {
            *scan = InputScan { place: Some(cursor), scanned: at };
            return Ok(None);
        }
    }
}

fn parse_line(at: InputCursor, next: InputCursor, line: Option<&[u8]>) -> Result<ReceivedMessage, String> {
    let line = line.ok_or_else(|| format!("it has more than {LINE_BYTES_MAX} bytes"))?;
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
    let cursor = serde_json::to_string(&next).map_err(|error| error.to_string())?;
    Ok(ReceivedMessage {
        key,
        digest: Digest::from_bytes(*blake3::hash(line).as_bytes()),
        actor,
        text,
        cursor,
    })
}
