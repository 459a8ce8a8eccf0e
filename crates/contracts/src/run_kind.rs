//! The kinds of runs, and what follows from a kind alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Answers a session.
    Turn,
    /// Makes one call beside the turns of a session, in a session of its own: a call that was approved when the run that
    /// asked for it had gone on.
    ApprovedCall,
    /// Does a task for another run, in a session of its own, and tells the session of that run how it ended.
    Worker,
    /// Summarizes the oldest part of another session for that session's later requests.
    Compaction,
}

impl RunKind {
    /// Tells whether inputs may join such a run before its next model call: not where it is a single call.
    pub const fn takes_more_inputs(self) -> bool {
        match self {
            Self::Turn | Self::Worker => true,
            Self::ApprovedCall | Self::Compaction => false,
        }
    }
}
