//! Where a spawned task comes from. It decides nothing.

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, CallId, RunId, SessionId};

/// Which call of which run spawned a task, and what bounds the task by that.
///
/// It is stored with the task's session and repeated by `run_started`, so a run has it without another read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrigin {
    /// The parent: the run that spawned it.
    pub run: RunId,
    /// The parent's call.
    pub call: CallId,
    /// The parent's session, which hears of the task's end.
    pub session: SessionId,
    /// The parent's agent.
    pub agent: AgentId,
    /// The first run of the tree.
    pub root: RunId,
    /// How many spawns led to it, this one included.
    pub depth: u32,
    /// What the parent was granted when it spawned the task. Runs of the task may do nothing that these do not cover.
    pub grants: Vec<String>,
}
