//! One change at a time in a workspace, so that of two runs of an agent that edit one file neither loses what the other
//! wrote.
//!
//! It holds apart the file tools of this process, not programs in a sandbox. Agents share a bounded number of turns;
//! none is held longer than one change takes.
//!
//! A directory of the operator's may be the workspace of several agents, so there a program takes its turn too. There are
//! as many turns as calls that hold or want one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dromia_contracts::AgentId;
use tokio::sync::OwnedMutexGuard;

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

/// Whose turn it is in directories of the operator's.
#[derive(Debug, Default)]
pub(crate) struct DirectoryTurns(Mutex<HashMap<(u64, u64), Weak<DirectoryLock>>>);

/// What a call holds while it has its turn.
type DirectoryLock = tokio::sync::Mutex<()>;

impl DirectoryTurns {
    /// Returns the turn of a directory, to wait for.
    pub(crate) fn find_turn(&self, directory: (u64, u64)) -> Arc<DirectoryLock> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = known.get(&directory).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        known.insert(directory, Arc::downgrade(&turn));
        turn
    }
}

/// A turn in a directory of the operator's.
pub(crate) type DirectoryTurn = OwnedMutexGuard<()>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_turn_however_many_want_it() {
        let turns = DirectoryTurns::default();
        let held = turns.find_turn((1, 2)).try_lock_owned().expect("it is free");
        assert!(turns.find_turn((1, 2)).try_lock_owned().is_err(), "another agent waits");
        assert!(turns.find_turn((1, 3)).try_lock_owned().is_ok(), "another directory does not");
        drop(held);
        assert!(turns.find_turn((1, 2)).try_lock_owned().is_ok());
        assert!(turns.0.lock().expect("no one panicked").len() <= 1, "only turns that are wanted are kept");
    }
}
