//! Deliveries: messages on their way out, to a place on a platform that does not ask for them.
//!
//! A delivery is prepared in the commit of the entry that made it. It then goes through [`DeliveryState`]: begun by a
//! compare-and-swap before the first byte leaves, settled by what came back. Its id is the same for every attempt, so
//! a receiver that takes it counts the message once. What came of each attempt is kept as a [`DeliveryAttempt`].
//!
//! A reader that does not wait to be sent anything reads the tenant's feed: the same messages, numbered after their
//! commit by the one owner of the feed. A number never changes and is never given twice.

mod outgoing;
mod state;

use bytes::Bytes;
use jiff::Timestamp;

use crate::channel::{ChannelTarget, FILE, is_channel_platform};
use crate::digest::Digest;
use crate::id::{AgentId, DeliveryId, RunId, SessionId, TenantId};
use crate::session::SessionKey;

pub use self::outgoing::{ReplyData, ReplyEvent, SaidFailure};
pub use self::state::{AttemptOutcome, DeadReason, DeliveryState};

/// The longest target, in bytes.
pub const TARGET_BYTES_MAX: usize = 128;

/// The longest detail of an attempt, in bytes.
pub const DETAIL_BYTES_MAX: usize = 512;

/// The most subscribers of a tenant's feed.
pub const SUBSCRIBERS_MAX: usize = 256;

/// The longest name of a subscriber, in bytes.
pub const SUBSCRIBER_BYTES_MAX: usize = 128;

/// Names where replies of a session are delivered; nothing for a platform whose people wait for the answer or read it,
/// and for a name that no channel can have. A file has a conversation for each actor, a webhook is one as a whole.
pub fn target_of(key: &SessionKey) -> Option<String> {
    if !is_channel_platform(&key.platform) {
        return None;
    }
    let of_account = ChannelTarget { platform: &key.platform, account: &key.channel, conversation: None };
    let speaker = key.actor.as_str().split_once('/').map(|(_, name)| name);
    let conversation = speaker.filter(|_| key.platform == FILE);
    let target = ChannelTarget { conversation, ..of_account }.to_string();
    // A name that is too long for a target shares that of its account.
    let target = if target.len() <= TARGET_BYTES_MAX { target } else { of_account.to_string() };
    (target.len() <= TARGET_BYTES_MAX).then_some(target)
}

/// A delivery and its state, without its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySummary {
    /// Its id, which every attempt carries.
    pub id: DeliveryId,
    /// Where it goes: the platform and the channel, as `webhook:orders`.
    pub target: String,
    /// Its place among all of its target, counted from 1.
    pub position: u64,
    /// What made it.
    pub source: DeliverySource,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// Its state.
    pub state: DeliveryState,
    /// Why it is not sent any more, if it is dead.
    pub reason: Option<DeadReason>,
    /// Attempts that began.
    pub attempts: u32,
    /// How often it was redriven.
    pub redrives: u32,
    /// Attempts that had begun when it was last redriven; they do not count any more.
    pub spent: u32,
    /// When it was prepared or last redriven.
    pub since: Timestamp,
    /// No attempt begins before.
    pub due_at: Timestamp,
    /// Who began the last attempt.
    pub holder: Option<Digest>,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Its number in the tenant's feed, once it has one.
    pub feed: Option<u64>,
}

/// What made a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySource {
    /// The agent that says it.
    pub agent: AgentId,
    /// The session in which it is said.
    pub session: SessionId,
    /// The run that says it.
    pub run: RunId,
    /// The number of the entry that made it.
    pub seq: u64,
}

/// One attempt, as a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// Its number, counted from 1.
    pub number: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// What came of it; nothing while it is on its way.
    pub ended: Option<AttemptEnd>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// The id under which the receiver has the message, if it gave one; at most
    /// [`RECEIVER_ID_BYTES_MAX`](crate::channel::RECEIVER_ID_BYTES_MAX) bytes.
    pub receiver_id: Option<String>,
    /// What happened, in words that the tenant may read; at most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
}

/// A delivery with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// The delivery and its state.
    pub delivery: DeliverySummary,
    /// The message, as every attempt carries it.
    pub body: Bytes,
    /// Its newest attempts, at most a page, in order.
    pub attempts: Vec<DeliveryAttempt>,
}

/// The first open delivery of a target, as the outbox meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDelivery {
    /// Its tenant.
    pub tenant: TenantId,
    /// The delivery.
    pub delivery: DeliverySummary,
}

/// A message of a tenant's feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// Its number; those of erased agents are missing.
    pub number: u64,
    /// The delivery.
    pub delivery: DeliverySummary,
    /// The message.
    pub body: Bytes,
}

/// How far a tenant's feed has come, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedState {
    /// The last number that was given; 0 when there is none.
    pub last: u64,
    /// Who keeps a cursor here, by name.
    pub subscribers: Vec<FeedSubscriber>,
}

/// A subscriber of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSubscriber {
    /// The name it chose.
    pub name: String,
    /// The last number that it has seen.
    pub cursor: u64,
    /// When it said so.
    pub at: Timestamp,
}

/// The port that announces a new delivery. It is a hint: its receiver reads the store.
pub trait DeliveryNotifier: Send + Sync + std::fmt::Debug {
    /// Notifies the receiver; returns at once and never fails.
    fn notify_delivery(&self);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::WEBHOOK;
    use crate::scope::Actor;

    #[test]
    fn only_sessions_of_delivering_platforms_have_a_target() {
        let key = |platform: &str, actor: &str| SessionKey {
            platform: platform.to_owned(),
            channel: "orders".to_owned(),
            actor: Actor::new(actor),
        };
        let target = |platform, actor| target_of(&key(platform, actor));
        assert_eq!(target(WEBHOOK, "webhook:orders/ada").as_deref(), Some("webhook:orders"));
        assert_eq!(target(FILE, "file:orders").as_deref(), Some("file:orders"));
        assert_eq!(target(FILE, "file:orders/ada").as_deref(), Some("file:orders/ada"));
        let long = format!("file:orders/{}", "x".repeat(TARGET_BYTES_MAX));
        assert_eq!(
            target(FILE, &long).as_deref(),
            Some("file:orders"),
            "a long name has no target of its own"
        );
        assert_eq!(target("cli", "cli:0"), None);
    }
}
