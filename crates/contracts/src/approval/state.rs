//! How an approval stands, in words.
//!
//! Nothing moves it here, and no time is known: whether one has expired,
//! [`Approval::state_at`](super::Approval::state_at) tells.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody answered, and the run that asked waits for it.
    Holding,
    /// Nobody answered, and the run that asked went on without it.
    Waiting,
    /// Somebody allowed it, and the call has not begun.
    Approved,
    /// Somebody, or the server in nobody's presence, refused it.
    Denied,
    /// The call that it allows has begun.
    Used,
    /// The call that it was for will not begin.
    Withdrawn,
    /// Nobody answered in time.
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

    /// Tells whether it may still be answered.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Holding | Self::Waiting)
    }
}

impl fmt::Display for ApprovalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
