//! One change at a time in a workspace, so that of two runs of an agent that edit one file neither loses what the other
//! wrote.
//!
//! It holds apart the file tools of this process, not programs in a sandbox. Agents share a bounded number of turns;
//! none is held longer than one change takes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::AgentId;

/// How many changes go on at once at most.
const TURNS: usize = 64;

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct AgentLocks([Mutex<()>; TURNS]);

impl AgentLocks {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits for an agent's turn, in blocking code.
    pub(crate) fn lock_agent(&self, agent: AgentId) -> MutexGuard<'_, ()> {
        // The end of an id is drawn at random.
        let turn = usize::from(agent.as_bytes()[15]) % TURNS;
        // A change that broke down left a whole file, the old one or the new one.
        self.0[turn].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
