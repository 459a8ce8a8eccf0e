//! How often tasks came into each state, for whoever reads the meters. Nothing is decided by it, and a restart forgets it.

use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::run::RunStatus;
use dromia_contracts::task::{TaskCounts, TaskState};

/// The counts of one life of the engine.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; TaskState::ALL.len()], Stops);

/// How often a run was stopped, and by what.
#[derive(Debug, Default)]
struct Stops {
    budgets: AtomicU64,
    loops: AtomicU64,
}

impl Counts {
    /// Counts a task that came into a state.
    pub(crate) fn count(&self, state: TaskState) {
        for (known, count) in TaskState::ALL.iter().zip(&self.0) {
            if *known == state {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a run that rests or has ended as it became durable; one that goes on came into no state.
    pub(crate) fn count_rest(&self, status: RunStatus) {
        if status != RunStatus::Running {
            self.count(TaskState::of_run(status));
        }
    }

    /// Counts a run that a budget stopped.
    pub(crate) fn count_budget_stop(&self) {
        self.1.budgets.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a run that went in a circle.
    pub(crate) fn count_loop(&self) {
        self.1.loops.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many runs budgets stopped, and how many went in a circle.
    pub(crate) fn stops(&self) -> (u64, u64) {
        (self.1.budgets.load(Ordering::Relaxed), self.1.loops.load(Ordering::Relaxed))
    }

    /// Returns what was counted.
    pub(crate) fn read(&self) -> TaskCounts {
        let [pending, running, paused, completed, failed] =
            [0, 1, 2, 3, 4].map(|at: usize| self.0[at].load(Ordering::Relaxed));
        TaskCounts { pending, running, paused, completed, failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_own_count() {
        let counts = Counts::default();
        for (times, state) in (1..).zip(TaskState::ALL) {
            for _ in 0..times {
                counts.count(state);
            }
        }
        assert_eq!(counts.read(), TaskCounts { pending: 1, running: 2, paused: 3, completed: 4, failed: 5 });
        counts.count_rest(RunStatus::Running);
        counts.count_rest(RunStatus::Yielded);
        assert_eq!(TaskState::ALL.map(|state| counts.read().of(state)), [1, 2, 4, 4, 5]);
    }
}
