//! Messages on their way out, and the feed of them.

use dromia_contracts::delivery::{AttemptOutcome, DeadReason, DeliveryState};
use dromia_contracts::{AgentId, DeliveryId, RunId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most messages of one page of the feed.
pub const FEED_LIMIT_MAX: u32 = 256;

/// A message on its way out, or at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryResource {
    /// Its id, which every attempt carries.
    pub id: DeliveryId,
    /// Where it goes: the platform and the channel, as `webhook:orders`.
    pub target: String,
    /// Its place among all of its target, counted from 1.
    pub position: u64,
    /// Its state.
    pub state: DeliveryState,
    /// Why it is not sent any more, if it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Attempts that began.
    pub attempts: u32,
    /// How often it was redriven.
    pub redrives: u32,
    /// The agent that says it.
    pub agent: AgentId,
    /// The session in which it is said.
    pub session: SessionId,
    /// The run that says it.
    pub run: RunId,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When the next attempt is due, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Its number in the tenant's feed, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<u64>,
}

/// A message with what was sent and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryShown {
    /// The delivery and its state.
    #[serde(flatten)]
    pub delivery: DeliveryResource,
    /// What every attempt carries.
    pub message: Value,
    /// Its newest attempts, in order.
    pub receipts: Vec<AttemptReceipt>,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptReceipt {
    /// Its number, counted from 1.
    pub number: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; absent while it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// The HTTP status of the answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What happened, in words, with the beginning of what the receiver answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The id under which the receiver has the message, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver_id: Option<String>,
}

/// A message of the tenant's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedItem {
    /// Its number. Numbers grow, and those of erased agents are missing.
    pub number: u64,
    /// The delivery, whose id a reader counts once.
    pub delivery: DeliveryId,
    /// Where it goes.
    pub target: String,
    /// The message.
    pub message: Value,
}

/// A page of the tenant's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedPage {
    /// The messages, by number.
    pub items: Vec<FeedItem>,
    /// What to send as `after` for the page that follows: the last number of this one, or where this one began.
    pub next: u64,
    /// The last number that was given.
    pub last: u64,
}

/// How far a subscriber has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveCursor {
    /// The name that the subscriber chose, 1 to 128 bytes.
    pub subscriber: String,
    /// The last number that it has seen; a cursor never moves back.
    pub cursor: u64,
}

/// How far a subscriber has read the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedCursor {
    /// The subscriber.
    pub subscriber: String,
    /// The last number that it has seen.
    pub cursor: u64,
    /// The last number that was given.
    pub last: u64,
}
