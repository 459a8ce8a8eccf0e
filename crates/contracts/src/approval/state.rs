//! The states of an approval, in words.
//!
//! Nothing moves it here, and no time is known: [`ApprovalRequest::state_at`](super::ApprovalRequest::state_at) says
//! whether one has expired.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It is unanswered, and the run that asked waits for it.
    Holding,
    /// It is unanswered, and the run that asked went on without it.
    Waiting,
    /// It was allowed, and the call has not begun.
    Approved,
    /// It was refused: by a person, or by the server for an unattended session.
    Denied,
    /// The call that it allows has begun.
    Used,
    /// The call that it was for will not begin.
    Withdrawn,
    /// It was not answered in time.
    Expired,
}

impl ApprovalState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Holding,
        Self::Waiting,
        Self::Approved,
        Self::Denied,
        Self::Used,
        Self::Withdrawn,
        Self::Expired,
    ];

    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }

    /// Returns whether it may still be answered.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Holding | Self::Waiting)
    }
}

impl fmt::Display for ApprovalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
