//! Where the items of an inbox are in a transcript.

/// The positions of the items in a transcript. Those of a branch follow those of its parent's session, so that a position names one
/// item.
#[derive(Debug, Clone, Default)]
pub(super) struct InboxPositions {
    /// The last position of the parent's session that a branch begins with; 0 in a session of its own.
    base: u64,
    /// That of the newest item.
    pub(super) newest: u64,
    /// Where each item begins: the index of its first turn, and its position.
    first_turns: Vec<(usize, u64)>,
    /// Those of what actors said, without conclusions.
    inputs: Vec<u64>,
}

impl InboxPositions {
    /// Goes on as a branch that begins after a position.
    pub(super) fn begin_branch(&mut self, position: u64) {
        self.base += position;
        self.inputs.clear();
    }

    /// Returns the position in the transcript of an item of the session.
    pub(super) fn of_item(&self, position: u64) -> u64 {
        self.base + position
    }

    /// Adds what an actor said.
    pub(super) fn add_input(&mut self, position: u64) {
        self.inputs.push(position);
    }

    /// Says with which turn an item begins.
    pub(super) fn begin_item(&mut self, turn: usize, position: u64) {
        self.first_turns.push((turn, position));
    }

    /// Counts what actors said after a position of the session.
    pub(super) fn count_inputs_after(&self, position: u64) -> usize {
        self.inputs.iter().filter(|input| **input > self.base + position).count()
    }

    /// Returns the position of the item whose first turn this is.
    pub(super) fn at_turn(&self, turn: usize) -> Option<u64> {
        let after = self.first_turns.partition_point(|(at, _)| *at <= turn);
        let (at, position) = self.first_turns.get(after.checked_sub(1)?)?;
        (*at == turn).then_some(*position)
    }
}
