//! What the entries about the calls of tools say: asked for, begun, ended, refused, or handed to a client.
//!
//! Arguments and results are no fields: they are bodies. A call that began is named with what allowed it.

use serde::{Deserialize, Serialize};

use crate::content::CallStatus;
use crate::digest::Digest;
use crate::egress::EgressDecision;
use crate::id::{ApprovalId, CallId};
use crate::label::Label;
use crate::opinion::ModelOpinion;
use crate::sandbox::NetworkAccess;
use crate::tool::EffectClass;

/// Fields of [`Entry::CallAsked`](super::Entry::CallAsked).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallAsked {
    /// The call.
    pub call: CallId,
    /// The tool as it was named.
    pub tool: String,
}

/// Fields of [`Entry::ToolStarted`](super::Entry::ToolStarted).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolStarted {
    /// The call; with the run it is the idempotency key of every attempt.
    pub call: CallId,
    /// The tool.
    pub tool: String,
    /// What a repeated call may do.
    pub effect: EffectClass,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The digest of the canonical action that the gate judged.
    pub action: Digest,
    /// The rule that allowed it.
    pub rule: String,
    /// The policy that was asked, as the digest of its text; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// The approval that this start uses up, if the rule asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// The approval that was asked for before the call's turn and is not needed any more: it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unneeded: Option<ApprovalId>,
    /// Whether the call lay within the plan of its turn, if that was frozen when the gate was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_plan: Option<bool>,
    /// What the program was to be given that the call starts, when the gate was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkAccess>,
    /// The join of the labels of everything that led to the call, when the gate was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Label>,
    /// The arguments that the gate took for endorsed, by their names: their values were typed by the actor, or are the tool's
    /// own defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsed: Vec<String>,
    /// What a second model said of the call before, where this run asked one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<ModelOpinion>,
}

/// Fields of [`Entry::ToolFinished`](super::Entry::ToolFinished).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolFinished {
    /// The call.
    pub call: CallId,
    /// How it ended.
    pub status: CallStatus,
    /// What was judged about the requests that left this process, or did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressDecision>,
    /// BLAKE3 of what it gave, by which a call that gives the same again and again is known; absent for calls that
    /// did not end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
    /// The rule that denied the call while it ran, because the right to it was withdrawn; the server ended it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// Whether the result is an interim reply of the run to the actor of its session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reply: bool,
}

/// Fields of [`Entry::ToolRefused`](super::Entry::ToolRefused).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRefused {
    /// The call.
    pub call: CallId,
    /// The tool as the model named it.
    pub tool: String,
    /// `denied` by the gate, `error` for arguments off the schema, `cancelled` before it began, `awaiting` where it was
    /// not approved while the run waited.
    pub status: CallStatus,
    /// The rule that refused it, if a rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The policy that was asked, as the digest of its text; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// The approval that the call was asked for under: it goes on without the run where the status is `awaiting`, and
    /// is given back otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// Whether the call lay within the plan of its turn, if that was frozen when the gate was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_plan: Option<bool>,
    /// What the program was to be given that the call starts, when the gate was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkAccess>,
    /// What a second model said of the call before, where this run asked one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<ModelOpinion>,
}

/// Fields of [`Entry::ToolHanded`](super::Entry::ToolHanded).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolHanded {
    /// The call.
    pub call: CallId,
    /// The client's tool.
    pub tool: String,
}
