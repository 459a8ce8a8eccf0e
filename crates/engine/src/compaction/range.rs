//! Which part of a session is summarized: whole turns from the oldest on, never the newest one.

use std::collections::{BTreeMap, BTreeSet};

use dromia_contracts::store::{SessionTail, StoredEntry};
use dromia_contracts::{Digest, RunId};

use crate::window_use::WindowUse;

/// The most bytes of a conversation that one compaction reads.
const MATERIAL_BYTES_MAX: usize = 256 << 10;

/// The least bytes that are worth a compaction.
const RANGE_BYTES_MIN: usize = 1 << 10;

/// Counts the bytes of a conversation that one request can hold which has it summarized: seven tenths of what the window has
/// beside the answer, a token for three bytes.
pub(super) fn material_bytes(used: WindowUse) -> usize {
    let room = used.window.saturating_sub(used.output_tokens_max.min(used.window / 2)) as usize;
    (room.saturating_mul(21) / 10).min(MATERIAL_BYTES_MAX)
}

/// The part that is summarized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChosenRange {
    /// The position of its first item.
    pub(super) from: u64,
    /// The position of its last item.
    pub(super) upto: u64,
    /// The last run in it.
    pub(super) last_run: RunId,
    /// The digest of that run's last entry.
    pub(super) chain: Digest,
    /// The bytes of its bodies.
    pub(super) bytes: usize,
}

/// Chooses the oldest turns that have a share of the bytes of the past, and fit into `room`; at least one, if there is one
/// before the newest.
pub(super) fn choose_range(
    tail: &SessionTail,
    (part, of): (usize, usize),
    room: usize,
) -> Option<ChosenRange> {
    let turns: Vec<ChosenRange> = turns_of_tail(tail);
    let (_newest, older) = turns.split_last()?;
    let whole: usize = turns.iter().map(|turn| turn.bytes).sum();
    let wanted = (whole.saturating_mul(part) / of).min(room);
    let mut chosen: Option<ChosenRange> = None;
    for turn in older {
        let before = chosen.map_or(0, |chosen| chosen.bytes);
        if chosen.is_some() && before + turn.bytes > wanted {
            break;
        }
        let from = chosen.map_or(turn.from, |chosen| chosen.from);
        chosen = Some(ChosenRange { from, bytes: before + turn.bytes, ..*turn });
    }
    chosen.filter(|chosen| chosen.bytes >= RANGE_BYTES_MIN)
}

/// Lists the turns of a session that have ended or at least began: what each took, and how much was said.
fn turns_of_tail(tail: &SessionTail) -> Vec<ChosenRange> {
    let journals: BTreeMap<RunId, &[StoredEntry]> =
        tail.runs.iter().map(|(run, entries)| (*run, &**entries)).collect();
    let taken: Vec<_> = tail.items.iter().filter(|item| item.taken_by.is_some()).collect();
    let turns = taken.chunk_by(|a, b| a.taken_by == b.taken_by).filter_map(|items| {
        let (first, last) = (items.first()?, items.last()?);
        let run = first.taken_by?;
        let journal = journals.get(&run).copied().unwrap_or_default();
        let said = items.iter().filter_map(|item| item.body.as_ref()).map(bytes::Bytes::len);
        let done = journal.iter().filter_map(|entry| entry.body.as_ref()).map(bytes::Bytes::len);
        Some(ChosenRange {
            from: first.position,
            upto: last.position,
            last_run: run,
            chain: journal.last()?.chain,
            bytes: said.chain(done).sum(),
        })
    });
    turns.collect()
}

/// Cuts a tail behind a position.
pub(super) fn cut_tail(tail: &SessionTail, upto: u64) -> SessionTail {
    let mut part = tail.clone();
    part.items.retain(|item| item.position <= upto);
    let takers: BTreeSet<RunId> = part.items.iter().filter_map(|item| item.taken_by).collect();
    part.runs.retain(|(run, _)| takers.contains(run));
    part
}

#[cfg(test)]
mod tests;
