//! The state of one call of a unit: its stage, and the second opinion about it.
//!
//! `decide` determines what may happen to it next.

use dromia_contracts::content::CallStatus;
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{ApprovalId, Digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of one call of an open unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallState {
    /// The tool as the model named it.
    pub tool: String,
    /// How far it has come.
    pub progress: CallStage,
    /// The second opinion about it, if one was requested.
    #[serde(default, skip_serializing_if = "OpinionState::is_unasked")]
    pub opined: OpinionState,
}

impl CallState {
    /// Makes a call that is not judged yet.
    pub(super) fn new_waiting(tool: String) -> Self {
        Self { tool, progress: CallStage::Waiting, opined: OpinionState::Unasked }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallStage {
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
        /// The time from which it is allowed, if it is delayed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cools_until: Option<Timestamp>,
        /// The answer: whether it may begin.
        answer: Option<bool>,
        /// Whether its approval was requested before its turn, and it was not judged since.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
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
    /// The client got it, because the tool is the client's. Its result comes with an input, to a later run.
    Handed,
}

impl CallStage {
    /// Tells whether this run has nothing more to do with the call.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Waiting | Self::Held { .. } | Self::Started { .. } => false,
            Self::Done(_) | Self::Handed => true,
        }
    }
}

/// The state of the second opinion about a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OpinionState {
    /// No model was asked.
    #[default]
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
    /// The opinion about an action.
    Given {
        /// The digest of the action.
        action: Digest,
        /// The opinion.
        opinion: ModelOpinion,
    },
}

impl OpinionState {
    fn is_unasked(&self) -> bool {
        *self == Self::Unasked
    }

    /// How many times in a row it was cut off.
    pub(super) fn lost_in_row(&self) -> u32 {
        match self {
            Self::Unasked | Self::Given { .. } => 0,
            Self::Open { lost, .. } | Self::Lost { lost } => *lost,
        }
    }
}
