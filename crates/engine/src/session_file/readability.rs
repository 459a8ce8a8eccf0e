//! Reads a session's file as the transcript does, so that no import ends in a session without a readable transcript.
//!
//! Nothing is written, and the transcript is thrown away.

use std::collections::HashMap;

use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::NewEntry;
use dromia_contracts::{ErrorCode, Fault, RunId};

use super::format::{FileItem, ParsedFile, SessionFile, TextOrHex, parse_file};
use crate::context::transcript::{ConversationTranscript, StoryError};

/// Reads a file and checks all of it, its transcript included.
pub(super) fn read_file(bytes: &[u8]) -> Result<ParsedFile, Fault> {
    let (file, runs) = parse_file(bytes)?;
    check_readable(&file, &runs)?;
    Ok((file, runs))
}

/// Adds all runs of a file to a transcript in their order, each with the items that it took; fails at the first
/// unreadable body.
fn check_readable(file: &SessionFile, runs: &[(RunId, Vec<NewEntry>)]) -> Result<(), Fault> {
    let mut taken: HashMap<RunId, Vec<&FileItem>> = HashMap::new();
    for item in &file.items {
        taken.entry(item.taken_by).or_default().push(item);
    }
    let mut story = ConversationTranscript::new(1);
    let mut position = 0;
    for (run, entries) in runs {
        for item in taken.remove(run).into_iter().flatten() {
            position += 1;
            story.add_item(&as_taken(item, position)?).map_err(unreadable_fault)?;
        }
        for new in entries {
            story.add_entry(&new.entry, new.body.as_deref()).map_err(unreadable_fault)?;
        }
        story.end_run(*run);
    }
    Ok(())
}

/// An item as it would be read from its inbox.
fn as_taken(item: &FileItem, position: u64) -> Result<InboxItem, Fault> {
    let kinds = [ItemKind::Input, ItemKind::Resume, ItemKind::Approved, ItemKind::Conclusion];
    if !kinds.contains(&item.kind) {
        let text = format!("the session file: {} is not an item of a session", item.id);
        return Err(Fault::new(ErrorCode::InvalidRequest, text));
    }
    Ok(InboxItem {
        id: item.id,
        position,
        at: item.at,
        kind: item.kind,
        author: item.author.clone(),
        body: item.body.as_ref().map(TextOrHex::to_bytes).transpose()?,
        taken_by: Some(item.taken_by),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unreadable_fault(error: StoryError) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, format!("the session file: {error}"))
}
