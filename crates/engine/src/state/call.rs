//! How one call of a unit stands: how far it has come, and what a second model says of it.
//!
//! What may happen to it next is not said here; deciding asks for that.

use dromia_contracts::content::CallStatus;
use dromia_contracts::opinion::Opinion;
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{ApprovalId, Digest};
use jiff::Timestamp;
use serde::Serialize;

/// How one call of an open unit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallState {
    /// The tool as the model named it.
    pub tool: String,
    /// How far it has come.
    pub progress: Progress,
    /// What a second model says of it, if one was asked.
    #[serde(skip_serializing_if = "Opined::is_unasked")]
    pub opined: Opined,
}

impl CallState {
    /// A call that nobody has looked at.
    pub(super) fn waiting(tool: String) -> Self {
        Self { tool, progress: Progress::Waiting, opined: Opined::Unasked }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Progress {
    /// The gate has not seen it.
    Waiting,
    /// A person must allow it, and the run rests until then or until a time.
    Held {
        /// The approval.
        approval: ApprovalId,
        /// The digest of its action.
        action: Digest,
        /// What the approval is bound to.
        binding: Digest,
        /// Until when the run waits.
        until: Timestamp,
        /// From when on it is allowed by itself, where it is delayed.
        #[serde(skip_serializing_if = "Option::is_none")]
        cools_until: Option<Timestamp>,
        /// What was answered: whether it may begin.
        answer: Option<bool>,
        /// Whether it was asked for before its turn, and was not judged since.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ahead: bool,
    },
    /// It began and has no result.
    Started {
        /// What repeating it may do.
        effect: EffectClass,
        /// The attempt.
        attempt: u32,
        /// The digest of its action.
        action: Digest,
    },
    /// It has its one result.
    Done(CallStatus),
    /// It was handed to the client whose tool it is. Its result comes with an input, to a later run.
    Handed,
}

impl Progress {
    /// Tells whether this run has nothing more to do with the call.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Waiting | Self::Held { .. } | Self::Started { .. } => false,
            Self::Done(_) | Self::Handed => true,
        }
    }
}

/// How the second opinion about a call stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Opined {
    /// Nobody was asked.
    Unasked,
    /// A model was asked and has not answered.
    Open {
        /// The digest of the action that it was asked about.
        action: Digest,
        /// What is reserved for its answers.
        reserved_micros: u64,
        /// How many times in a row before this one it was cut off.
        lost: u32,
    },
    /// It was cut off, and must be asked again.
    Lost {
        /// How many times in a row.
        lost: u32,
    },
    /// It said this of an action.
    Given {
        /// The digest of the action.
        action: Digest,
        /// What it said.
        opinion: Opinion,
    },
}

impl Opined {
    fn is_unasked(&self) -> bool {
        *self == Self::Unasked
    }

    /// How many times in a row it was cut off.
    pub(super) fn lost(&self) -> u32 {
        match self {
            Self::Unasked | Self::Given { .. } => 0,
            Self::Open { lost, .. } | Self::Lost { lost } => *lost,
        }
    }
}
