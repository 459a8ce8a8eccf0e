//! The port of channels: how messages of another system come in, and how answers leave.
//!
//! A channel says what a repeat of a message does at its receiver ([`DeliveryClass`]), and after each attempt what became of
//! the message ([`DeliveryOutcome`]). It decides nothing else: when an attempt begins, whether it is repeated and when a
//! message is given up is the outbox's, and the same for every channel.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use jiff::Timestamp;

use crate::digest::Digest;
use crate::id::DeliveryId;
use crate::scope::Scope;

/// The platform of signed webhooks.
pub const WEBHOOK: &str = "webhook";
/// The platform of a pair of files.
pub const FILE: &str = "file";

/// The platforms whose answers a channel delivers. Their sessions are opened by their channels only.
pub const CHANNEL_PLATFORMS: [&str; 2] = [WEBHOOK, FILE];

/// The longest id that a receiver may give to a message, in bytes; a longer one is not kept.
pub const RECEIVER_ID_BYTES_MAX: usize = 128;
/// The longest part of a receiver's answer that is kept, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256;

/// Tells whether a channel delivers the answers of a platform.
pub fn is_channel_platform(platform: &str) -> bool {
    CHANNEL_PLATFORMS.contains(&platform)
}

/// What a repeat of a message does at its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryClass {
    /// The receiver takes the delivery's id and counts a repeat once.
    Keyed,
    /// The receiver can be asked whether it has the message ([`Channel::find_delivered`]).
    Reconcilable,
    /// Neither: a message that may have arrived is never sent again by itself.
    Plain,
}

/// Where messages go: one conversation of an account. Written as `file:log/ada`; `webhook:orders` is the whole account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelTarget<'a> {
    /// The platform.
    pub platform: &'a str,
    /// The account: the channel's name in the configuration.
    pub account: &'a str,
    /// The conversation; nothing where the account is one.
    pub conversation: Option<&'a str>,
}

impl<'a> ChannelTarget<'a> {
    /// Reads a target; nothing where it names no account of a platform.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (platform, place) = text.split_once(':')?;
        let (account, conversation) = match place.split_once('/') {
            Some((account, conversation)) => (account, Some(conversation)),
            None => (place, None),
        };
        (!account.is_empty()).then_some(Self { platform, account, conversation })
    }
}

impl fmt::Display for ChannelTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.platform, self.account)?;
        self.conversation.map_or(Ok(()), |conversation| write!(f, "/{conversation}"))
    }
}

/// A message on its way out. Every attempt carries the same id and body.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// The delivery, by whose id a receiver may know a repeat.
    pub delivery: DeliveryId,
    /// Where it goes, as [`ChannelTarget`] writes it.
    pub target: String,
    /// When this attempt began.
    pub at: Timestamp,
    /// The scope in which the channel's secret is opened.
    pub scope: Scope,
    /// The canonical event, as JSON.
    pub body: Bytes,
}

/// What a receiver said about a message that it answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceiverAnswer {
    /// The HTTP status, where there is one.
    pub status: Option<u16>,
    /// The id under which the receiver has the message, at most [`RECEIVER_ID_BYTES_MAX`] bytes.
    pub receiver_id: Option<String>,
    /// What it said, without control characters and at most [`ANSWER_BYTES_MAX`] bytes.
    pub text: String,
}

/// What became of a message after one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver took it.
    Accepted(ReceiverAnswer),
    /// The receiver says that it did not take it, and when it may be asked again. A repeat is safe in every class.
    NotAccepted {
        /// What it said.
        answer: ReceiverAnswer,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver answered, and not that it took it; it may have acted on it.
    Refused {
        /// What it said.
        answer: ReceiverAnswer,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver is gone for good.
    Gone(ReceiverAnswer),
    /// No byte of the message left.
    NotSent {
        /// Why, without secrets.
        cause: String,
    },
    /// Some of it may have left, and no answer came that can be read.
    Unanswered {
        /// What happened, without secrets.
        cause: String,
    },
}

/// What reaches a channel.
#[derive(Debug, Clone)]
pub enum ChannelInput {
    /// A message that a sender brought, and whose signature was checked.
    Pushed {
        /// The sender's id of it.
        id: String,
        /// The message.
        body: Bytes,
    },
    /// Nothing yet: the channel looks for messages where it follows them.
    Followed,
}

/// A message of another system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// What tells it from every other message of its channel: a repeat under it is one input.
    pub key: String,
    /// Digest of the message, by which a repeat is known from another message under the key.
    pub digest: Digest,
    /// Who says it, where the other system names somebody.
    pub actor: Option<String>,
    /// What is said.
    pub text: String,
    /// How far the channel has been followed once this message is durable; empty for one that was pushed.
    pub cursor: String,
}

/// Why nothing was received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The message is wrong, and a repeat would be as well.
    #[error("{problem}")]
    Invalid {
        /// The member that is wrong.
        field: Option<&'static str>,
        /// What is wrong with it.
        problem: String,
    },
    /// The place that is followed cannot be read now.
    #[error("{0}")]
    Unavailable(String),
}

/// A connection to another system.
pub trait Channel: Send + Sync + fmt::Debug {
    /// What a repeat does at the receiver.
    fn delivery_class(&self) -> DeliveryClass;

    /// Makes one attempt at a message. It ends within the channel's time, and where it cannot tell whether the receiver
    /// has the message, the answer is [`DeliveryOutcome::Unanswered`].
    fn deliver(&self, message: OutgoingMessage) -> BoxFuture<'_, DeliveryOutcome>;

    /// Asks the receiver for a message of an earlier attempt; asked of [`DeliveryClass::Reconcilable`] only. Nothing where the
    /// receiver does not have it; the error says why it cannot tell.
    fn find_delivered(&self, delivery: DeliveryId) -> BoxFuture<'_, Result<Option<ReceiverAnswer>, String>>;

    /// Reads what came in, in order. What was followed comes again until it is acknowledged.
    fn receive(&self, input: ChannelInput) -> BoxFuture<'_, Result<Vec<ReceivedMessage>, ReceiveError>>;

    /// Notes durably that what came up to a cursor needs no second look.
    fn acknowledge(&self, cursor: String) -> BoxFuture<'_, Result<(), ReceiveError>>;
}

/// Shortens what a receiver said to what is kept of it: no control characters, and at most so many bytes.
pub fn bounded_answer(text: &str, bytes_max: usize) -> String {
    let mut kept = String::new();
    for letter in text.chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        if kept.len() + letter.len_utf8() > bytes_max {
            break;
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_platform_account_and_conversation() {
        for (text, conversation) in [("file:log", None), ("file:log/ada/x", Some("ada/x"))] {
            let target = ChannelTarget::parse(text).expect("a target");
            assert_eq!((target.platform, target.account, target.conversation), ("file", "log", conversation));
            assert_eq!(target.to_string(), text);
        }
        assert_eq!(ChannelTarget::parse("file"), None);
        assert_eq!(ChannelTarget::parse("file:/ada"), None);
    }

    #[test]
    fn an_answer_is_cut_at_a_character_without_control_characters() {
        assert_eq!(bounded_answer("a\n\u{1b}[31mb", 64), "a  [31mb");
        assert_eq!(bounded_answer("äää", 5), "ää");
    }
}
