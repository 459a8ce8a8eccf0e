//! The inputs of a tail that joined a running turn: each has its place behind the entry that took it, and not before what
//! the run did.

use std::collections::BTreeSet;

use dromia_contracts::ItemId;
use dromia_contracts::entry::Entry;
use dromia_contracts::session::InboxItem;
use dromia_contracts::store::SessionTail;

use super::StoryError;

/// The inputs that runs of a tail took after they began.
pub(super) struct JoinedInputs(BTreeSet<ItemId>);

impl JoinedInputs {
    /// Finds them in the journals. Most runs have none, and only entries of this kind are read.
    pub(super) fn of_tail(tail: &SessionTail) -> Result<Self, StoryError> {
        let mut found = BTreeSet::new();
        let stored = tail.runs.iter().flat_map(|(_, entries)| entries.iter());
        for stored in stored.filter(|stored| stored.kind == "inputs_taken") {
            let entry = stored
                .decode()
                .map_err(|error| StoryError::Entry { seq: stored.seq, problem: error.to_string() })?;
            if let Entry::InputsTaken(taken) = entry {
                found.extend(taken.items);
            }
        }
        Ok(Self(found))
    }

    /// Returns whether an input joined a turn.
    pub(super) fn contains(&self, item: ItemId) -> bool {
        self.0.contains(&item)
    }
}

/// Lists the inputs of a tail that an entry took.
pub(super) fn inputs_of_entry<'t>(
    tail: &'t SessionTail,
    entry: &Entry,
) -> impl Iterator<Item = &'t InboxItem> + use<'t> {
    let taken = match entry {
        Entry::InputsTaken(taken) => taken.items.clone(),
        _ => Vec::new(),
    };
    let of_tail = move |id: &ItemId| tail.items.iter().find(|item| item.id == *id);
    taken.into_iter().filter_map(move |id| of_tail(&id))
}
