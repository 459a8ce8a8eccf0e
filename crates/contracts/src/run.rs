//! Runs: one durable execution each, and what their rows say about them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{AgentId, RunId, SessionId};
use crate::model::TokenUsage;

pub use crate::run_kind::RunKind;

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It has something to do.
    Running,
    /// It rests until a time or until its agent goes on; no task and no memory belong to it.
    Parked,
    /// It was taken over too often without progress, or cannot be read; a person must look.
    Held,
    /// It answered.
    Completed,
    /// It reached its iteration limit; `resume` starts a run that goes on from it.
    Yielded,
    /// It ended with an error.
    Failed,
    /// An actor ended it.
    Cancelled,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Parked,
        Self::Held,
        Self::Completed,
        Self::Yielded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns whether the run has ended; an ended run never changes.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Running | Self::Parked | Self::Held => false,
            Self::Completed | Self::Yielded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Returns the status as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Held => "held",
            Self::Completed => "completed",
            Self::Yielded => "yielded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What the engine knows of a run after folding its journal; the store keeps it beside the run, in the commit
/// of the entries that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHead {
    /// Its status.
    pub status: RunStatus,
    /// When a parked run must be woken, if by time.
    pub wake_at: Option<Timestamp>,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: TokenUsage,
    /// What it cost, lost attempts included, in millionths of the currency unit; calls without a known price count as nothing.
    pub cost_micros: u64,
    /// Model calls of which no price is known.
    pub unpriced_calls: u32,
}

/// A run and its current status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// What it is for.
    pub kind: RunKind,
    /// Its agent.
    pub agent: AgentId,
    /// Its session.
    pub session: SessionId,
    /// When it was claimed first.
    pub started_at: Timestamp,
    /// When its last entry was appended.
    pub updated_at: Timestamp,
    /// The number of its last entry.
    pub last_seq: u64,
    /// The number of its ownership; raised by every claim.
    pub epoch: u64,
    /// The epoch in which its last entry was appended.
    pub entry_epoch: u64,
    /// What the engine knows of it.
    pub head: RunHead,
    /// The position of the last signal in its inbox; 0 when there is none.
    pub signals_last: u64,
    /// The position of the last signal that one of its entries took; 0 when there is none.
    pub signals_taken: u64,
    /// The life of a process that works on it; none once it rests or has ended.
    pub holder: Option<Digest>,
}

impl RunRecord {
    /// How many claims came and went since the last entry.
    pub fn claims_without_entry(&self) -> u64 {
        self.epoch - self.entry_epoch
    }

    /// Returns whether its inbox has a signal that no entry took.
    pub fn has_open_signal(&self) -> bool {
        self.signals_last > self.signals_taken
    }
}
