//! Deliveries: messages on their way out, to a place on a platform that does not ask for them.
//!
//! A delivery is prepared in the commit of the entry that made it. It then goes through [`DeliveryState`]: begun by a
//! compare-and-swap before the first byte leaves, settled by what came back. Its id is the same for every attempt, so
//! a receiver that takes it counts the message once. What came of each attempt is kept as a [`DeliveryAttempt`].
//!
//! A reader that does not wait to be sent anything reads the tenant's feed: the same messages, numbered after their
//! commit by the one owner of the feed. A number never changes and is never given twice.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fault::ErrorCode;
use crate::id::{AgentId, DeliveryId, ItemId, RunId, SessionId, TenantId};
use crate::run::RunStatus;
use crate::scope::Actor;
use crate::session::SessionKey;

/// The platform whose replies are sent to an address. Its sessions are opened by its channels only.
pub const WEBHOOK: &str = "webhook";

/// The longest target, in bytes.
pub const TARGET_BYTES_MAX: usize = 128;

/// The longest detail of an attempt, in bytes.
pub const DETAIL_BYTES_MAX: usize = 512;

/// The most subscribers of a tenant's feed.
pub const SUBSCRIBERS_MAX: usize = 256;

/// The longest name of a subscriber, in bytes.
pub const SUBSCRIBER_BYTES_MAX: usize = 128;

/// Names where replies of a session are delivered; nothing for a platform whose people wait for the answer or read it,
/// and for a name that no channel can have.
pub fn target_of(key: &SessionKey) -> Option<String> {
    let target = (key.platform == WEBHOOK).then(|| format!("{WEBHOOK}:{}", key.channel));
    target.filter(|target| target.len() <= TARGET_BYTES_MAX)
}

/// How a delivery stands.
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
    /// It was sent, nobody knows whether it arrived, and its receiver takes no id: it is not sent again by itself.
    UnknownAfterSend,
}

impl DeliveryState {
    /// Every state; those of open deliveries come first.
    pub const ALL: [Self; 6] =
        [Self::Prepared, Self::Sending, Self::Failed, Self::Delivered, Self::Dead, Self::UnknownAfterSend];

    /// Tells whether something is still to be done, so that later ones of its target wait.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Prepared | Self::Sending | Self::Failed => true,
            Self::Delivered | Self::Dead | Self::UnknownAfterSend => false,
        }
    }

    /// Tells whether an attempt may begin.
    pub const fn may_begin(self) -> bool {
        matches!(self, Self::Prepared | Self::Failed)
    }

    /// Tells whether a person may have it sent again.
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
    /// No byte of the message left.
    NotSent,
    /// The message left, and no answer came that can be read.
    Unanswered,
    /// The process died between the beginning and the outcome.
    Interrupted,
}

impl AttemptOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Accepted, Self::Refused, Self::NotSent, Self::Unanswered, Self::Interrupted];

    /// Tells whether the receiver may have seen the message.
    pub const fn may_have_arrived(self) -> bool {
        !matches!(self, Self::NotSent)
    }

    /// Returns the outcome as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
            Self::Unanswered => "unanswered",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A delivery, as it stands, without its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, which every attempt carries.
    pub id: DeliveryId,
    /// Where it goes: the platform and the channel, as `webhook:orders`.
    pub target: String,
    /// Its place among all of its target, counted from 1.
    pub position: u64,
    /// The agent that says it.
    pub agent: AgentId,
    /// The session in which it is said.
    pub session: SessionId,
    /// The run that says it.
    pub run: RunId,
    /// The number of the entry that made it.
    pub seq: u64,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// How it stands.
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
    /// What happened, in words that the tenant may read; at most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
}

/// A delivery with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// How it stands.
    pub delivery: Delivery,
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
    pub delivery: Delivery,
}

/// A message of a tenant's feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// Its number; those of erased agents are missing.
    pub number: u64,
    /// The delivery.
    pub delivery: Delivery,
    /// The message.
    pub body: Bytes,
}

/// How far a tenant's feed has come, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedState {
    /// The last number that was given; 0 when there is none.
    pub last: u64,
    /// Who keeps a cursor here, by name.
    pub subscribers: Vec<Subscriber>,
}

/// Somebody who reads the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// The name it chose.
    pub name: String,
    /// The last number that it has seen.
    pub cursor: u64,
    /// When it said so.
    pub at: Timestamp,
}

/// What leaves: the canonical event of an answer. It is stored as JSON and sent as it is, so a repeat is the same
/// bytes. A field may be added; the meaning of one never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// `agent.replied`, or `agent.failed` where the run gave no answer.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// What was said.
    pub data: Said,
}

/// What was said, by whom, to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
    /// The run.
    pub run: RunId,
    /// How the run ended.
    pub status: RunStatus,
    /// To whom.
    pub actor: Actor,
    /// The inputs that are answered, as they were named when they were accepted.
    pub items: Vec<ItemId>,
    /// The answer.
    pub text: String,
    /// Whether the answer is longer; the whole is in the run's journal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<SaidFailure>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidFailure {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
}

impl Outgoing {
    /// The kind of an answer.
    pub const REPLIED: &'static str = "agent.replied";
    /// The kind of a run that ended without one.
    pub const FAILED: &'static str = "agent.failed";
    /// The bytes of an answer that are sent where the whole does not fit beside the entry that made it.
    pub const TEXT_BYTES_CUT: usize = 32 << 10;

    /// Writes the message within so many bytes: where it is longer, the text is cut and says so.
    pub fn encode_within(mut self, room: usize) -> Result<Vec<u8>, serde_json::Error> {
        let whole = serde_json::to_vec(&self)?;
        if whole.len() <= room || self.data.text.len() <= Self::TEXT_BYTES_CUT {
            return Ok(whole);
        }
        let mut end = Self::TEXT_BYTES_CUT;
        while !self.data.text.is_char_boundary(end) {
            end -= 1;
        }
        self.data.text.truncate(end);
        self.data.truncated = true;
        serde_json::to_vec(&self)
    }
}

/// Is told that something new waits to be delivered. It is a hint: whoever is told looks at the store.
pub trait Bell: Send + Sync + std::fmt::Debug {
    /// Rings; returns at once and never fails.
    fn ring(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(text: &str) -> Outgoing {
        Outgoing {
            kind: Outgoing::REPLIED.to_owned(),
            timestamp: Timestamp::UNIX_EPOCH,
            data: Said {
                agent: AgentId::from_bytes([1; 16]),
                session: SessionId::from_bytes([2; 16]),
                run: RunId::from_bytes([3; 16]),
                status: RunStatus::Completed,
                actor: Actor::new("webhook:orders/ada"),
                items: vec![ItemId::from_bytes([4; 16])],
                text: text.to_owned(),
                truncated: false,
                failure: None,
            },
        }
    }

    #[test]
    fn only_sessions_of_a_platform_that_is_sent_to_have_a_target() {
        let key = |platform: &str| SessionKey {
            platform: platform.to_owned(),
            channel: "orders".to_owned(),
            actor: Actor::new("a"),
        };
        assert_eq!(target_of(&key(WEBHOOK)).as_deref(), Some("webhook:orders"));
        assert_eq!(target_of(&key("cli")), None);
    }

    #[test]
    fn open_states_are_those_from_which_something_follows() {
        for (index, state) in DeliveryState::ALL.into_iter().enumerate() {
            assert_eq!(state.is_open(), index <= 2, "{state:?}");
            assert!(!(state.may_begin() && state.may_be_redriven()), "{state:?}");
            assert_eq!(serde_json::to_string(&state).expect("a word"), format!("{:?}", state.as_str()));
        }
    }

    #[test]
    fn a_message_is_whole_where_it_fits_and_says_so_where_it_was_cut() {
        let whole = outgoing("hi").encode_within(10).expect("it is JSON");
        assert_eq!(serde_json::from_slice::<Outgoing>(&whole).expect("is read"), outgoing("hi"));
        let long = "ä".repeat(Outgoing::TEXT_BYTES_CUT);
        let cut = outgoing(&long).encode_within(Outgoing::TEXT_BYTES_CUT).expect("it is JSON");
        let cut: Outgoing = serde_json::from_slice(&cut).expect("is read");
        assert!(cut.data.truncated && cut.data.text.len() <= Outgoing::TEXT_BYTES_CUT);
        assert!(long.starts_with(&cut.data.text));
        let whole = outgoing(&long).encode_within(1 << 20).expect("it is JSON");
        assert!(!serde_json::from_slice::<Outgoing>(&whole).expect("is read").data.truncated);
    }
}
