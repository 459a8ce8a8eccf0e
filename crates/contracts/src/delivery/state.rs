//! The state of a delivery, why it is not sent any more, and what came of an attempt: closed sets of words.
//!
//! They say what may follow a state, and not who moves it: the store does that by compare-and-swap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for its turn.
    Prepared,
    /// An attempt began and has no outcome.
    Sending,
    /// An attempt failed; the next one is due at a time.
    Failed,
    /// Its receiver took it.
    Delivered,
    /// It is not sent any more; a person may have it sent again.
    Dead,
    /// It was sent, its arrival is unknown, and its receiver takes no id: it is not sent again by itself.
    UnknownAfterSend,
}

impl DeliveryState {
    /// Every state; those of open deliveries come first.
    pub const ALL: [Self; 6] =
        [Self::Prepared, Self::Sending, Self::Failed, Self::Delivered, Self::Dead, Self::UnknownAfterSend];

    /// Returns whether something is still to be done, so that later ones of its target wait.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Prepared | Self::Sending | Self::Failed => true,
            Self::Delivered | Self::Dead | Self::UnknownAfterSend => false,
        }
    }

    /// Returns whether an attempt may begin.
    pub const fn may_begin(self) -> bool {
        matches!(self, Self::Prepared | Self::Failed)
    }

    /// Returns whether a person may have it sent again.
    pub const fn may_be_redriven(self) -> bool {
        matches!(self, Self::Dead | Self::UnknownAfterSend)
    }

    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Sending => "sending",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::UnknownAfterSend => "unknown_after_send",
        }
    }
}

/// Why a delivery is not sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// As many attempts as its channel declares were made.
    Attempts,
    /// The receiver said that it is gone for good.
    Gone,
    /// The receiver refused it and takes no id, so it is not sent twice.
    Refused,
    /// It is older than its channel lets a message become.
    Expired,
    /// More lay before its target than a new start sends.
    Backlog,
    /// Its stored message does not match its digest.
    Damaged,
    /// It holds the value of a secret.
    Leak,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 7] =
        [Self::Attempts, Self::Gone, Self::Refused, Self::Expired, Self::Backlog, Self::Damaged, Self::Leak];

    /// Returns the reason as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Backlog => "backlog",
            Self::Damaged => "damaged",
            Self::Leak => "leak",
        }
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The receiver took the message.
    Accepted,
    /// The receiver answered, and not that it took it.
    Refused,
    /// The receiver answered that it did not take it, and may be asked again.
    NotAccepted,
    /// No byte of the message left.
    NotSent,
    /// The message left, and no answer came that can be read.
    Unanswered,
    /// The process died between the beginning and the outcome.
    Interrupted,
}

impl AttemptOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Refused,
        Self::NotSent,
        Self::Unanswered,
        Self::Interrupted,
        Self::NotAccepted,
    ];

    /// Returns whether the receiver may have seen the message.
    pub const fn may_have_arrived(self) -> bool {
        !matches!(self, Self::NotSent | Self::NotAccepted)
    }

    /// Returns the outcome as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NotAccepted => "not_accepted",
            Self::NotSent => "not_sent",
            Self::Unanswered => "unanswered",
            Self::Interrupted => "interrupted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_states_are_those_from_which_something_follows() {
        for (index, state) in DeliveryState::ALL.into_iter().enumerate() {
            assert_eq!(state.is_open(), index <= 2, "{state:?}");
            assert!(!(state.may_begin() && state.may_be_redriven()), "{state:?}");
            assert_eq!(serde_json::to_string(&state).expect("a word"), format!("{:?}", state.as_str()));
        }
    }
}
