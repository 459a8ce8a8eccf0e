//! An approved call that waits for a run of its own: what that run executes, and what it knows of the approval.
//!
//! It is a copy of what was approved, byte for byte. Whether it may still begin is judged again by that run.

use serde::{Deserialize, Serialize};

use super::ApprovalRequest;
use crate::digest::Digest;
use crate::id::{ApprovalId, CallId, RunId, SessionId};
use crate::label::Label;

/// The platform of sessions for approved calls whose own run did not wait for them. Only the engine opens them.
pub const PLATFORM: &str = "approval";

/// What a run knows of the approval that it was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedCall {
    /// The approval.
    pub approval: ApprovalId,
    /// The run that asked.
    pub run: RunId,
    /// The call of that run.
    pub call: CallId,
    /// The session of that run, which learns how the call ended.
    pub session: SessionId,
    /// What the approval is bound to.
    pub binding: Digest,
}

/// The body of an approved call that waits for its run: the call as it was approved, and what it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedBody {
    /// The form of the body; this program writes and reads 1, and refuses a later one.
    pub version: u32,
    /// What the run knows of the approval.
    pub approved: ApprovedCall,
    /// The tool.
    pub tool: String,
    /// The canonical arguments.
    pub arguments: String,
    /// The join of the labels of everything that led to the call.
    pub context: Label,
    /// How many agents in a row led to it.
    pub hops: u32,
}

impl ApprovedBody {
    /// The form that this program writes.
    pub const VERSION: u32 = 1;

    /// Takes an approval's call.
    pub fn from_approval(approval: &ApprovalRequest) -> Self {
        Self {
            version: Self::VERSION,
            approved: ApprovedCall {
                approval: approval.id,
                run: approval.source.run,
                call: approval.source.call,
                session: approval.source.session,
                binding: approval.judged.binding,
            },
            tool: approval.judged.tool.clone(),
            arguments: approval.judged.arguments.clone(),
            context: approval.judged.context,
            hops: approval.source.hops,
        }
    }

    /// Reads a body of the form that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let body: Self = serde_json::from_slice(bytes)?;
        if body.version == Self::VERSION {
            return Ok(body);
        }
        let text = format!("this version does not know approved calls of version {}", body.version);
        Err(serde::de::Error::custom(text))
    }
}
