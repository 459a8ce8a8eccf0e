//! The file of a session: its form, and what is checked of it before anything is written.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use dromia_contracts::entry::Entry;
use dromia_contracts::session::{ItemKind, SessionKey};
use dromia_contracts::store::{NewEntry, StatePut};
use dromia_contracts::{Actor, ErrorCode, Fault, ItemId, RunId, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::CHUNK_ENTRIES;
use crate::config::INPUT_BYTES_MAX;
use crate::decide::BODY_BYTES_MAX;
use crate::state::{RunState, apply_entry};

pub(super) const FORMAT: &str = "dromia.session";
pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionFile {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) session: SessionId,
    pub(super) key: SessionKey,
    pub(super) opened_at: Timestamp,
    pub(super) items: Vec<FileItem>,
    pub(super) runs: Vec<FileRun>,
    pub(super) state: Vec<FileState>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileItem {
    pub(super) id: ItemId,
    pub(super) at: Timestamp,
    pub(super) kind: ItemKind,
    pub(super) author: Actor,
    pub(super) body: Option<TextOrHex>,
    pub(super) taken_by: RunId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRun {
    pub(super) id: RunId,
    pub(super) entries: Vec<FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileEntry {
    pub(super) at: Timestamp,
    pub(super) kind: String,
    pub(super) version: u16,
    pub(super) fields: serde_json::Value,
    pub(super) body: Option<TextOrHex>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileState {
    pub(super) name: String,
    pub(super) value: TextOrHex,
}

/// Bytes as text where they are text, as hex where they are not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TextOrHex {
    Utf8(String),
    Hex(String),
}

/// A file whose every entry is known, and its runs in order.
pub(super) type ParsedFile = (SessionFile, Vec<(RunId, Vec<NewEntry>)>);

/// Reads a file and checks all of it, because an import is more than one commit.
pub(super) fn parse_file(bytes: &[u8]) -> Result<ParsedFile, Fault> {
    let bad = |text: String| Fault::new(ErrorCode::InvalidRequest, text);
    let mut file: SessionFile =
        serde_json::from_slice(bytes).map_err(|error| bad(format!("the session file: {error}")))?;
    if file.format != FORMAT || file.version != VERSION {
        return Err(bad(format!(
            "the session file is {:?} version {}, and this program reads {FORMAT:?} version {VERSION}",
            file.format, file.version
        )));
    }
    if file.state.len() > StatePut::ENTRIES_MAX {
        return Err(bad(format!(
            "there are {} state entries, more than {}",
            file.state.len(),
            StatePut::ENTRIES_MAX
        )));
    }
    let mut names = HashSet::new();
    for state in &file.state {
        if !names.insert(&state.name) {
            return Err(bad(format!("the state entry {:?} is in the file twice", state.name)));
        }
        let fits =
            state.name.len() <= StatePut::NAME_BYTES_MAX && state.value.len() <= StatePut::VALUE_BYTES_MAX;
        if !fits {
            return Err(bad(format!("the state entry {:?} is too long", state.name)));
        }
    }
    let bodies = file.items.iter().filter_map(|item| item.body.as_ref());
    if !file.state.iter().map(|state| &state.value).chain(bodies).all(TextOrHex::is_sound) {
        return Err(not_hex());
    }
    let mut taken: HashMap<RunId, (usize, usize)> = HashMap::new();
    for item in &file.items {
        let (items, bytes) = taken.entry(item.taken_by).or_default();
        *items += 1;
        *bytes += item.body.as_ref().map_or(0, TextOrHex::len);
        if *items > CHUNK_ENTRIES || *bytes > INPUT_BYTES_MAX {
            return Err(bad(format!("{} took more items than a run can take", item.taken_by)));
        }
    }
    let mut runs = Vec::new();
    let mut known = HashSet::new();
    for run in std::mem::take(&mut file.runs) {
        if !known.insert(run.id) {
            return Err(bad(format!("{} is in the file twice", run.id)));
        }
        let (mut entries, mut state) = (Vec::new(), RunState::default());
        for (index, entry) in run.entries.into_iter().enumerate() {
            let decoded = Entry::decode(&entry.kind, entry.version, &entry.fields.to_string());
            let decoded = decoded.map_err(|error| bad(format!("{} entry {}: {error}", run.id, index + 1)))?;
            let body = entry.body.map(TextOrHex::into_bytes).transpose()?;
            if body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
                return Err(bad(format!("{} entry {}: its body is too long", run.id, index + 1)));
            }
            // What an ended run takes no more would leave the rest of the import unwritten.
            if state.is_ended() {
                return Err(bad(format!("{} entry {}: the run has ended before it", run.id, index + 1)));
            }
            apply_entry(&mut state, &decoded);
            entries.push(NewEntry { at: entry.at, entry: decoded, body });
        }
        if !state.is_ended() || !matches!(entries.first().map(|new| &new.entry), Some(Entry::RunStarted(_))) {
            return Err(bad(format!("{} is not a complete run", run.id)));
        }
        let Some((items, _)) = taken.get(&run.id) else {
            return Err(bad(format!("{} took no item", run.id)));
        };
        if count_joined(entries.iter().map(|new| &new.entry)) >= *items {
            return Err(bad(format!("{} has fewer items in the file than its entries took", run.id)));
        }
        runs.push((run.id, entries));
    }
    if let Some(item) = file.items.iter().find(|item| !known.contains(&item.taken_by)) {
        return Err(bad(format!(
            "{} was taken by {}, which the file does not contain",
            item.id, item.taken_by
        )));
    }
    Ok((file, runs))
}

/// Counts the items that joined a run after it began, as its entries say.
pub(super) fn count_joined<'e>(entries: impl Iterator<Item = &'e Entry>) -> usize {
    entries
        .map(|entry| match entry {
            Entry::InputsTaken(taken) => taken.items.len(),
            _ => 0,
        })
        .sum()
}

fn not_hex() -> Fault {
    Fault::new(ErrorCode::InvalidRequest, "the session file: a hex value is not hex")
}

impl From<&Bytes> for TextOrHex {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Hex(encode_hex(bytes)),
        }
    }
}

fn encode_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl TextOrHex {
    /// The number of decoded bytes.
    fn len(&self) -> usize {
        match self {
            Self::Utf8(text) => text.len(),
            Self::Hex(hex) => hex.len() / 2,
        }
    }

    /// Whether it decodes to bytes.
    fn is_sound(&self) -> bool {
        match self {
            Self::Utf8(_) => true,
            Self::Hex(hex) => {
                hex.len().is_multiple_of(2) && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
            }
        }
    }

    pub(super) fn into_bytes(self) -> Result<Bytes, Fault> {
        match self {
            Self::Utf8(text) => Ok(Bytes::from(text)),
            Self::Hex(_) => self.to_bytes(),
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Bytes, Fault> {
        match self {
            Self::Utf8(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::Hex(hex) => (0..hex.len())
                .step_by(2)
                .map(|at| {
                    hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(not_hex)
                })
                .collect::<Result<Vec<u8>, Fault>>()
                .map(Bytes::from),
        }
    }
}
