//! What was answered: by whom, how far it goes, and how the run that waits learns it.
//!
//! Whether an answer counts is not decided here:
//! [`ApprovalRequest::record_answer`](super::ApprovalRequest::record_answer) does that.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::ApprovalId;
use crate::scope::Actor;

/// How far an answer goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalReach {
    /// This one call.
    Once,
    /// This call, and the very same one as often as it comes in this session, until the rule ends.
    Session,
    /// This call, and whatever this rule matches of its agent, until the rule ends.
    Always {
        /// The rule.
        rule: String,
    },
}

impl fmt::Display for ApprovalReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::Session => f.write_str("session"),
            Self::Always { rule } => write!(f, "always `{rule}`"),
        }
    }
}

/// Who answered, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why, in the approver's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How far it goes, its rule in canonical form; absent for a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<ApprovalReach>,
}

/// The body of a signal that answers an approval for the run that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// The form of the body; this program writes and reads 1.
    pub version: u32,
    /// The approval.
    pub approval: ApprovalId,
    /// Why, in the approver's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl AnswerBody {
    /// The form that this program writes.
    pub const VERSION: u32 = 1;

    /// Answers an approval.
    pub fn new(approval: ApprovalId, reason: &str) -> Self {
        Self { version: Self::VERSION, approval, reason: reason.to_owned() }
    }

    /// Reads what a signal answers; nothing of a body that this program does not know, which answers nothing.
    pub fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(body).ok().filter(|body| body.version == Self::VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_body_names_its_approval_or_only_a_reason() {
        let id = ApprovalId::from_bytes([6; 16]);
        for reason in ["", "not on a Friday"] {
            let body = serde_json::to_vec(&AnswerBody::new(id, reason)).expect("it is data");
            assert_eq!(AnswerBody::decode(&body), Some(AnswerBody::new(id, reason)));
        }
        let later = format!(r#"{{"version":2,"approval":"{id}"}}"#);
        for unknown in ["", "not today", later.as_str()] {
            assert_eq!(AnswerBody::decode(unknown.as_bytes()), None, "{unknown}");
        }
    }
}
