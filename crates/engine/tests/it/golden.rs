//! Golden journals (invariant J7): what a release wrote, as it is stored, and the state it folds to.
//!
//! From the first release on the files in `tests/golden` are never edited, only added to: a file of a release is what
//! journals in real homes look like, and a test that fails here means that this program reads them differently. The mend
//! is in the program, or it is a new version of an entry kind with a golden journal of its own. The first file,
//! `journals_1.json`, has version 1 of every kind.
//!
//! A new file is written by hand: the entries as the program stores them, in the order in which a run appends them, and
//! the state that the fold must come to. `todays_encoding_equals_that_of_released_journals` compares the bytes with those
//! that the program writes, so a slip of the pen is found at once.

use std::collections::BTreeSet;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::content::{AssistantMessage, ToolResult};
use dromia_contracts::entry::{DecodeError, Entry};
use dromia_contracts::store::StoredEntry;
use dromia_engine::RunState;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    written_by: String,
    journals: Vec<Journal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    name: String,
    entries: Vec<Kept>,
    state: Value,
}

/// An entry in its stored form; number, time, epoch and digest have no meaning for the fold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    kind: String,
    version: u16,
    fields: String,
    body: Option<String>,
}

/// Reads every golden file.
fn files() -> Vec<File> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read(path).expect("the file is readable");
        let file: File = serde_json::from_slice(&text).expect("the file is a golden one");
        assert_eq!(file.format, "dromia.golden", "{}", file.written_by);
        file
    };
    let files: Vec<File> = paths.iter().map(read).collect();
    assert!(!files.is_empty(), "there is at least the first release");
    files
}

impl Journal {
    fn stored(&self) -> Vec<StoredEntry> {
        let stored = |(seq, kept): (u64, &Kept)| StoredEntry {
            seq,
            at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            kind: kept.kind.clone(),
            version: kept.version,
            fields: kept.fields.clone(),
            body: kept.body.clone().map(Bytes::from),
            chain: Digest::default(),
        };
        (1..).zip(&self.entries).map(stored).collect()
    }

    fn fold(&self) -> Result<Value, DecodeError> {
        let entries: Vec<Entry> = self.stored().iter().map(StoredEntry::decode).collect::<Result<_, _>>()?;
        Ok(serde_json::to_value(RunState::fold(&entries)).expect("a state is data"))
    }
}

#[test]
fn golden_journals_fold_to_their_golden_states() {
    for journal in files().iter().flat_map(|file| &file.journals) {
        let state = journal.fold().expect("every released kind is read for ever");
        assert_eq!(state, journal.state, "{}: now it folds to {state:#}", journal.name);
    }
}

/// A checkpoint is a state that was written. A change of these bytes, or of a golden state, is another fold: it raises
/// `FOLD_VERSION` in `checkpoint.rs`.
#[test]
fn a_state_that_was_written_is_read_as_it_was() {
    let mut written = 0;
    for journal in files().iter().flat_map(|file| &file.journals) {
        let entries = journal.stored().iter().map(StoredEntry::decode).collect::<Result<Vec<_>, _>>();
        let entries = entries.expect("every released kind is read for ever");
        for upto in 0..=entries.len() {
            let state = RunState::fold(&entries[..upto]);
            let bytes = serde_json::to_vec(&state).expect("a state is data");
            let read: RunState = serde_json::from_slice(&bytes).expect("it is read again");
            assert_eq!(read, state, "{}, {upto} entries", journal.name);
            written += 1;
        }
    }
    assert!(written > 50, "{written}");
}

#[test]
fn every_kind_that_is_written_has_a_golden_entry() {
    let files = files();
    let entries = files.iter().flat_map(|file| &file.journals).flat_map(|journal| &journal.entries);
    let golden: BTreeSet<(&str, u16)> = entries.map(|kept| (kept.kind.as_str(), kept.version)).collect();
    let written: BTreeSet<(&str, u16)> = Entry::KINDS.iter().copied().collect();
    assert_eq!(written.difference(&golden).collect::<Vec<_>>(), Vec::<&(&str, u16)>::new());
}

#[test]
fn todays_encoding_equals_that_of_released_journals() {
    for journal in files().iter().flat_map(|file| &file.journals) {
        for stored in journal.stored() {
            let entry = stored.decode().expect("every released kind is read for ever");
            if Entry::KINDS.contains(&(stored.kind.as_str(), stored.version)) {
                assert_eq!(entry.encode(), stored.fields, "{}, entry {}", journal.name, stored.seq);
            }
            let Some(body) = stored.body else { continue };
            let again = if let Entry::ModelReplied(_) | Entry::CallAsked(_) = entry {
                let message: AssistantMessage = serde_json::from_slice(&body).expect("a message");
                serde_json::to_vec(&message)
            } else {
                let result: ToolResult = serde_json::from_slice(&body).expect("a result");
                serde_json::to_vec(&result)
            };
            assert_eq!(again.expect("it is data"), body, "{}, entry {}", journal.name, stored.seq);
        }
    }
}

#[test]
fn an_entry_with_another_meaning_is_caught() {
    let mut changed = 0;
    for journal in files().iter_mut().flat_map(|file| &mut file.journals) {
        for at in 0..journal.entries.len() {
            let kept = journal.entries[at].fields.clone();
            for (then, now) in [
                ("\"charged_micros\":7", "\"charged_micros\":0"),
                ("\"effect\":\"keyed\"", "\"effect\":\"pure\""),
                ("\"status\":\"unknown\"", "\"status\":\"ok\""),
                ("\"position\":2", "\"position\":1"),
            ] {
                if kept.contains(then) {
                    journal.entries[at].fields = kept.replace(then, now);
                    // The first of two starts is overwritten by the second.
                    let hidden =
                        at + 1 < journal.entries.len() && journal.entries[at + 1].kind == "tool_started";
                    assert!(
                        hidden || journal.fold().expect("it is read") != journal.state,
                        "{}, entry {}",
                        journal.name,
                        at + 1
                    );
                    changed += 1;
                }
            }
            journal.entries[at].fields = kept;
        }
    }
    assert!(changed >= 5, "only {changed} entries were changed");
}

#[test]
fn an_unknown_kind_or_version_is_distinguished_from_damage() {
    let mut journal = files().swap_remove(0).journals.swap_remove(0);
    journal.entries[1].version = 2;
    let kind = "model_called".to_owned();
    assert_eq!(journal.fold(), Err(DecodeError::Unknown { kind, version: 2 }));
    journal.entries[1].version = 1;
    "{}".clone_into(&mut journal.entries[1].fields);
    assert!(matches!(journal.fold(), Err(DecodeError::Fields { .. })));
}
