//! Counters for metrics: how often tasks came into each state, and how many tokens models took and gave. No decision
//! depends on them, and a restart resets them.

use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::NewEntry;
use dromia_contracts::task::{TaskCounts, TaskState};

/// The counts of one life of the engine.
#[derive(Debug, Default)]
pub(crate) struct EngineCounters([AtomicU64; TaskState::ALL.len()], StopCounters, TokenCounters);

/// How many tokens models took and gave.
#[derive(Debug, Default)]
struct TokenCounters {
    input: AtomicU64,
    output: AtomicU64,
}

/// How often a run was stopped, and by what.
#[derive(Debug, Default)]
struct StopCounters {
    budgets: AtomicU64,
    loops: AtomicU64,
}

impl EngineCounters {
    /// Counts a task that came into a state.
    pub(crate) fn count_task(&self, state: TaskState) {
        for (known, count) in TaskState::ALL.iter().zip(&self.0) {
            if *known == state {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a run that rests or has ended as it became durable; one that goes on came into no state.
    pub(crate) fn count_rest(&self, status: RunStatus) {
        if status != RunStatus::Running {
            self.count_task(TaskState::of_run(status));
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

    /// Counts what the answers used that these entries are about, once they are durable.
    pub(crate) fn count_usage(&self, entries: &[NewEntry]) {
        for new in entries {
            let usage = match &new.entry {
                Entry::ModelReplied(replied) => replied.usage,
                Entry::OpinionGiven(given) => given.usage,
                _ => continue,
            };
            self.2.input.fetch_add(usage.input_tokens.into(), Ordering::Relaxed);
            self.2.output.fetch_add(usage.output_tokens.into(), Ordering::Relaxed);
        }
    }

    /// Returns how many tokens models took and gave.
    pub(crate) fn token_totals(&self) -> (u64, u64) {
        (self.2.input.load(Ordering::Relaxed), self.2.output.load(Ordering::Relaxed))
    }

    /// Returns how many runs budgets stopped, and how many went in a circle.
    pub(crate) fn stop_totals(&self) -> (u64, u64) {
        (self.1.budgets.load(Ordering::Relaxed), self.1.loops.load(Ordering::Relaxed))
    }

    /// Returns what was counted.
    pub(crate) fn task_counts(&self) -> TaskCounts {
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
        let counts = EngineCounters::default();
        for (times, state) in (1..).zip(TaskState::ALL) {
            for _ in 0..times {
                counts.count_task(state);
            }
        }
        assert_eq!(
            counts.task_counts(),
            TaskCounts { pending: 1, running: 2, paused: 3, completed: 4, failed: 5 }
        );
        counts.count_rest(RunStatus::Running);
        counts.count_rest(RunStatus::Yielded);
        assert_eq!(TaskState::ALL.map(|state| counts.task_counts().count_of(state)), [1, 2, 4, 4, 5]);
    }
}
