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
    /// Thinks about a question of another run, with the transcript of that run before it, and tells the session of that run what
    /// it came to.
    Branch,
}

impl RunKind {
    /// Tells whether inputs may join such a run before its next model call: not where it is a single call.
    pub const fn takes_more_inputs(self) -> bool {
        match self {
            Self::Turn | Self::Worker => true,
            Self::ApprovedCall | Self::Compaction | Self::Branch => false,
        }
    }

    /// Returns whether such a run is the child of another one.
    pub const fn is_child(self) -> bool {
        match self {
            Self::Worker | Self::Branch => true,
            Self::Turn | Self::ApprovedCall | Self::Compaction => false,
        }
    }

    /// The most children of this kind that conclude in one session and have not ended.
    pub const fn open_max(self) -> usize {
        match self {
            Self::Branch => 5,
            Self::Worker | Self::Turn | Self::ApprovedCall | Self::Compaction => 8,
        }
    }

    /// Returns the kind as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::ApprovedCall => "approved_call",
            Self::Worker => "worker",
            Self::Compaction => "compaction",
            Self::Branch => "branch",
        }
    }
}
