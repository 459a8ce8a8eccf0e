//! What leaves: the message of a delivery, as a receiver gets it.
//!
//! It is made once, with the entry that it reports, and never written again for another attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault::ErrorCode;
use crate::id::{AgentId, ItemId, RunId, SessionId};
use crate::run::RunStatus;
use crate::scope::Actor;

/// What leaves: the canonical event of an answer. It is stored as JSON and sent as it is, so a repeat is the same
/// bytes. A field may be added; the meaning of one never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyEvent {
    /// `agent.replied`, `agent.failed` where the run gave no answer, or `agent.interim_reply` while it goes on.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// What was said.
    pub data: ReplyData,
}

/// What was said, by whom, to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyData {
    /// The agent.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
    /// The run.
    pub run: RunId,
    /// How the run ended, or that it is running.
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

impl ReplyEvent {
    /// The kind of an answer.
    pub const REPLIED: &'static str = "agent.replied";
    /// The kind of a run that ended without one.
    pub const FAILED: &'static str = "agent.failed";
    /// The kind of a message that comes before the answer.
    pub const INTERIM: &'static str = "agent.interim_reply";
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(text: &str) -> ReplyEvent {
        ReplyEvent {
            kind: ReplyEvent::REPLIED.to_owned(),
            timestamp: Timestamp::UNIX_EPOCH,
            data: ReplyData {
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
    fn a_reply_event_is_whole_or_marked_as_truncated() {
        let whole = outgoing("hi").encode_within(10).expect("it is JSON");
        assert_eq!(serde_json::from_slice::<ReplyEvent>(&whole).expect("is read"), outgoing("hi"));
        let long = "ä".repeat(ReplyEvent::TEXT_BYTES_CUT);
        let cut = outgoing(&long).encode_within(ReplyEvent::TEXT_BYTES_CUT).expect("it is JSON");
        let cut: ReplyEvent = serde_json::from_slice(&cut).expect("is read");
        assert!(cut.data.truncated && cut.data.text.len() <= ReplyEvent::TEXT_BYTES_CUT);
        assert!(long.starts_with(&cut.data.text));
        let whole = outgoing(&long).encode_within(1 << 20).expect("it is JSON");
        assert!(!serde_json::from_slice::<ReplyEvent>(&whole).expect("is read").data.truncated);
    }
}
