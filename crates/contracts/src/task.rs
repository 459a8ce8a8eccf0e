//! Tasks: what an agent is asked to do in a session of its own, without a person who talks with it there.
//!
//! A task is no record of its own. It is a session on the platform [`PLATFORM`] whose first input is the task, with the
//! runs that took its inputs; its state is derived from these, by the one table in this module.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, SessionId};
use crate::run::{RunRecord, RunStatus};

pub use crate::run_origin::RunOrigin;

/// How many runs may lead to a child, each the child of the one before: the first run is at depth 0.
pub const DEPTH_MAX: u32 = 3;

/// The most children of runs of one agent that have not ended.
pub const OPEN_MAX: usize = 64;

/// A child in a run tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSession {
    /// Its session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// Which call it is for.
    pub origin: RunOrigin,
    /// Its run, once it has begun.
    pub run: Option<RunRecord>,
}

/// The platform of the sessions that branches have. Only a branch opens a session on it.
pub const BRANCH_PLATFORM: &str = "branch";

/// The platform of the sessions that tasks have. Only a task opens a session on it.
pub const PLATFORM: &str = "task";

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It is durable and no run has taken it yet: every slot is taken, or its agent is paused.
    Pending,
    /// A run works on it.
    Running,
    /// Its run rests and can go on: its agent is paused, its model is asked again later, a person must look, or it
    /// reached its limit of model calls and may be resumed.
    Paused,
    /// It was done.
    Completed,
    /// It will not be done: its run failed, an actor ended it, or its agent ended before a run took it.
    Failed,
}

/// What lies in a task's inbox that no run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingInput {
    /// Nothing.
    Nothing,
    /// Something that the next run takes.
    Waits,
    /// Something that no run will take, because the agent has ended.
    InVain,
}

impl TaskState {
    /// Every state, in the order in which a task comes to them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Paused, Self::Completed, Self::Failed];

    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Returns the state of a task whose newest run has this status, and in whose inbox nothing else lies.
    pub const fn of_run(status: RunStatus) -> Self {
        match status {
            RunStatus::Running => Self::Running,
            RunStatus::Parked | RunStatus::Held | RunStatus::Yielded => Self::Paused,
            RunStatus::Completed => Self::Completed,
            RunStatus::Failed | RunStatus::Cancelled => Self::Failed,
        }
    }

    /// Returns the state of a task.
    pub const fn derive_state(newest: Option<RunStatus>, untaken: PendingInput) -> Self {
        match (newest, untaken) {
            (Some(status), PendingInput::Nothing) => Self::of_run(status),
            (Some(status), PendingInput::Waits | PendingInput::InVain) if !status.is_terminal() => {
                Self::of_run(status)
            }
            (_, PendingInput::InVain) => Self::Failed,
            (Some(_), PendingInput::Waits) | (None, PendingInput::Waits | PendingInput::Nothing) => {
                Self::Pending
            }
        }
    }
}

/// How often tasks, and the runs of every other session, came into each state since the program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// Inputs that became durable without a run that took them at once.
    pub pending: u64,
    /// Runs that began, or were taken over and went on.
    pub running: u64,
    /// Runs that came to rest.
    pub paused: u64,
    /// Runs that completed.
    pub completed: u64,
    /// Runs that failed or were ended.
    pub failed: u64,
}

impl TaskCounts {
    /// Returns the count of one state.
    pub const fn count_of(&self, state: TaskState) -> u64 {
        match state {
            TaskState::Pending => self.pending,
            TaskState::Running => self.running,
            TaskState::Paused => self.paused,
            TaskState::Completed => self.completed,
            TaskState::Failed => self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_status_maps_to_a_task_state() {
        let states = RunStatus::ALL.map(|status| (status.as_str(), TaskState::of_run(status).as_str()));
        assert_eq!(
            states,
            [
                ("running", "running"),
                ("parked", "paused"),
                ("held", "paused"),
                ("completed", "completed"),
                ("yielded", "paused"),
                ("failed", "failed"),
                ("cancelled", "failed"),
            ]
        );
    }

    #[test]
    fn waiting_input_is_pending_without_open_run_or_ended_agent() {
        for status in RunStatus::ALL {
            let open = !status.is_terminal();
            let of = |untaken| TaskState::derive_state(Some(status), untaken);
            assert_eq!(of(PendingInput::Nothing), TaskState::of_run(status));
            assert_eq!(
                of(PendingInput::Waits),
                if open { TaskState::of_run(status) } else { TaskState::Pending }
            );
            assert_eq!(
                of(PendingInput::InVain),
                if open { TaskState::of_run(status) } else { TaskState::Failed }
            );
        }
        assert_eq!(TaskState::derive_state(None, PendingInput::Waits), TaskState::Pending);
        assert_eq!(TaskState::derive_state(None, PendingInput::InVain), TaskState::Failed);
    }
}
