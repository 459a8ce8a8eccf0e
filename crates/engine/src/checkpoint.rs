//! Checkpoints: the folded state of a run beside its journal, so that a takeover folds only what came after it.
//!
//! An owner stores one with the first commit that comes [`ENTRIES_BETWEEN`] entries after the last. It says, too, which entries
//! have content for the transcript: the others, such as those of attempts that failed, are not read again.
//!
//! A checkpoint is only ever a copy. One of another fold, or one that does not match its digest, is left alone, and the journal is
//! folded from its first entry.

use bytes::Bytes;
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::entry::Entry;
use dromia_contracts::store::{FoldedState, RunCheckpoint};
use serde::{Deserialize, Serialize};

use crate::state::RunState;

/// The version of the fold. It is raised with every change of what a journal folds to, and of how the state is written.
pub(crate) const FOLD_VERSION: u32 = 1;
/// After how many entries there is another checkpoint.
pub(crate) const ENTRIES_BETWEEN: u64 = 512;
/// How many entries without content are read with those around them, so that there are few ranges.
const GAP_MAX: u64 = 8;

/// The entries of a journal that have content for a transcript, as ranges from the first to the last one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ContentRanges(Vec<(u64, u64)>);

impl ContentRanges {
    /// Adds an entry. Those with its number and with later ones were withdrawn.
    fn add_entry(&mut self, seq: u64) {
        while let Some((first, last)) = self.0.pop_if(|(_, last)| *last >= seq) {
            if first < seq {
                self.0.push((first, last.min(seq - 1)));
            }
        }
        match self.0.last_mut() {
            Some((_, last)) if seq - *last <= GAP_MAX => *last = seq,
            _ => self.0.push((seq, seq)),
        }
    }

    /// Lists the ranges in order.
    pub(crate) fn list_ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// What a checkpoint of a run needs beside the run's state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct CheckpointMarks {
    /// The number of the entry behind which the last checkpoint is.
    #[serde(skip)]
    pub(crate) last: u64,
    pub(crate) content: ContentRanges,
    /// How the run got the untrusted parts of earlier turns, if its model was called: this stays so to its end, even if the
    /// configuration changes.
    pub(crate) tainted_past: Option<TaintedPast>,
    /// The position of the first input in the requests of the run, if its model was called.
    pub(crate) history_from: Option<u64>,
}

impl CheckpointMarks {
    /// Notes an entry of the journal, durable or pending.
    pub(crate) fn note_entry(&mut self, seq: u64, entry: &Entry) {
        if has_content(entry) {
            self.content.add_entry(seq);
        }
        if let Entry::ModelCalled(called) = entry {
            self.tainted_past = Some(called.sent.wording.tainted_past);
            self.history_from = Some(called.history_from);
        }
    }

    /// Writes the state of a run whose pending entries are about to become durable, if it is time for a checkpoint. A run that
    /// has ended needs none.
    pub(crate) fn write_if_due(&self, state: &RunState) -> Option<FoldedState> {
        if state.seq < self.last.saturating_add(ENTRIES_BETWEEN) || state.is_ended() {
            return None;
        }
        let written = serde_json::to_vec(&WrittenState { state: state.clone(), marks: self.clone() }).ok()?;
        let folded = FoldedState { version: FOLD_VERSION, bytes: Bytes::from(written) };
        Some(folded).filter(|folded| folded.bytes.len() <= FoldedState::BYTES_MAX)
    }
}

/// What the bytes of a checkpoint say.
#[derive(Serialize, Deserialize)]
struct WrittenState {
    state: RunState,
    marks: CheckpointMarks,
}

/// Reads a checkpoint. Returns why it cannot be used, if it cannot.
pub(crate) fn read_checkpoint(checkpoint: &RunCheckpoint) -> Result<(RunState, CheckpointMarks), String> {
    let RunCheckpoint { seq, folded } = checkpoint;
    if folded.version != FOLD_VERSION {
        return Err(format!("it is of fold {}, and this program has fold {FOLD_VERSION}", folded.version));
    }
    let WrittenState { state, mut marks } =
        serde_json::from_slice(&folded.bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if state.seq != *seq {
        return Err(format!("it is behind entry {seq}, and its state behind {}", state.seq));
    }
    marks.last = *seq;
    Ok((state, marks))
}

/// Returns whether a transcript is made of an entry, or of what is said about it.
fn has_content(entry: &Entry) -> bool {
    match entry {
        Entry::RunStarted(_)
        | Entry::ModelReplied(_)
        | Entry::CallAsked(_)
        | Entry::ToolStarted(_)
        | Entry::ToolFinished(_)
        | Entry::ToolRefused(_)
        | Entry::ToolHanded(_)
        | Entry::InputsTaken(_)
        | Entry::RunCompleted(_) => true,
        Entry::ModelCalled(_)
        | Entry::ModelFailed(_)
        | Entry::OpinionCalled(_)
        | Entry::OpinionGiven(_)
        | Entry::SignalTaken(_)
        | Entry::RunParked(_)
        | Entry::RunHeld(_)
        | Entry::RunYielded(_)
        | Entry::RunFailed(_)
        | Entry::RunCancelled(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(entries: &[u64]) -> Vec<(u64, u64)> {
        let mut content = ContentRanges::default();
        for seq in entries {
            content.add_entry(*seq);
        }
        content.list_ranges().collect()
    }

    #[test]
    fn ranges_of_content_close_small_gaps_only() {
        assert_eq!(ranges(&[1, 2, 3]), [(1, 3)]);
        assert_eq!(ranges(&[1, 9, 18]), [(1, 9), (18, 18)]);
    }

    #[test]
    fn withdrawn_entries_leave_the_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 20, 21, 20]), [(1, 3), (20, 20)]);
        assert_eq!(ranges(&[1, 2, 3, 20, 21, 2]), [(1, 2)]);
        assert_eq!(ranges(&[1, 2, 3, 20, 21, 1]), [(1, 1)]);
        assert_eq!(ranges(&[5, 1]), [(1, 1)]);
    }
}
