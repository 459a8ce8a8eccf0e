//! What is written about messages on their way out: each step of a delivery is a compare-and-swap on what was found.

use bytes::Bytes;
use jiff::Timestamp;

use crate::delivery::{AttemptEnd, DeadReason, DeliveryState};
use crate::digest::Digest;
use crate::id::{AgentId, DeliveryId, RunId, SessionId};

/// Prepares a message to be delivered, with the entry that made it: the entry must be written by the same batch. Where
/// that entry is of the batch's claim and the claim is not granted, nothing is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPrepare {
    /// Its id.
    pub delivery: DeliveryId,
    /// Where it goes, as [`target_of`](crate::delivery::target_of) names it.
    pub target: String,
    /// The agent that says it.
    pub agent: AgentId,
    /// The session in which it is said.
    pub session: SessionId,
    /// The run that says it.
    pub run: RunId,
    /// The number of the entry that made it.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The message.
    pub body: Bytes,
}

/// Begins an attempt. Refused unless the delivery waits, has begun one attempt fewer, and is the first open one of its
/// target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStart {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The number of the attempt.
    pub attempt: u32,
    /// Who begins it: the id of this process's life.
    pub holder: Digest,
    /// When.
    pub at: Timestamp,
}

/// Says what came of an attempt. Refused unless that attempt is on its way, and with
/// [`CommitRefusal::LeaseLasts`](super::CommitRefusal::LeaseLasts) while the lease of another holder of the attempt lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettle {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The number of the attempt.
    pub attempt: u32,
    /// Who says so: the id of this process's life.
    pub holder: Digest,
    /// What came of it.
    pub end: AttemptEnd,
    /// The state of the delivery from now on; neither prepared nor sending.
    pub state: DeliveryState,
    /// Why it is not sent any more; there if and only if it is dead.
    pub reason: Option<DeadReason>,
    /// When the next attempt is due.
    pub due_at: Timestamp,
}

/// Gives a message up without an attempt. Refused unless it waits and no other caller was quicker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDrop {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Attempts that began, as the caller found it.
    pub attempts: u32,
    /// How often it was redriven, as the caller found it.
    pub redrives: u32,
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub at: Timestamp,
}

/// Has a message sent again that is dead or whose outcome is unknown. Refused in any other state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRedrive {
    /// The delivery.
    pub delivery: DeliveryId,
    /// How often it was redriven, as the caller found it.
    pub redrives: u32,
    /// When.
    pub at: Timestamp,
}

/// Numbers messages in the tenant's feed, in this order. Refused unless the feed is where the caller thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedNumber {
    /// The last number that was given.
    pub after: u64,
    /// The messages, none of which has a number.
    pub deliveries: Vec<DeliveryId>,
}

/// Moves a subscriber's cursor forward; one that is as far or farther stays. Refused beyond the feed's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorMove {
    /// The subscriber, who is made by the first move.
    pub subscriber: String,
    /// The last number that it has seen.
    pub to: u64,
    /// When.
    pub at: Timestamp,
}
