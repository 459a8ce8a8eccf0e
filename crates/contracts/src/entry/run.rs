//! What the entries about a run itself say: how it began, what it took, why it rests or is held, and how it ended.
//!
//! Facts only. The writer of an entry decides when a run rests or ends.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::approval::ApprovedCall;
use crate::budget::BudgetExhaustion;
use crate::digest::Digest;
use crate::fault::ErrorCode;
use crate::id::{AgentId, ApprovalId, CallId, ItemId, RunId, SessionId};
use crate::mind::AgentMind;
use crate::run::RunKind;
use crate::run_origin::RunOrigin;
use crate::scope::Actor;
use crate::session::ItemKind;
use crate::workspace::WorkspaceReference;

/// Fields of [`Entry::RunStarted`](super::Entry::RunStarted).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStarted {
    /// What the run is for.
    pub kind: RunKind,
    /// Its agent.
    pub agent: AgentId,
    /// Its session.
    pub session: SessionId,
    /// The inbox items it took, in order.
    pub items: Vec<ItemId>,
    /// The position after which it took them.
    pub after: u64,
    /// The yielded run that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<RunId>,
    /// The approved call that is all it does. Only a run of kind `approved_call` has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<ApprovedCall>,
    /// Which call of another run its session was opened for. Every run of such a session has it and stays within its grants. The one
    /// run of a branch's session and each run of a worker's are of its kind, and conclude in the session that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<RunOrigin>>,
    /// The directory that it works in, if its input named one in the place of the agent's workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceReference>,
    /// The run of kind `compaction` whose summary takes the place of the oldest part of its session in its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<RunId>,
    /// The configuration revision it is pinned to.
    pub config: Digest,
    /// The alias of the model that it asks, if a rule chose another one than its configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<str>>,
    /// The system text and the tools it is pinned to; a pin of the store.
    pub prompt: Digest,
    /// The documents whose texts follow that system text, in order; pins of the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Digest>,
    /// How its agent divides its work. With `branching`, the last model call is asked to conclude.
    #[serde(default, skip_serializing_if = "AgentMind::is_solo")]
    pub mind: AgentMind,
    /// How many turns in a row, this one included, began in its session because of conclusions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub woken: u32,
    /// What the runtime says about the session before the newest input of its requests: which branches and workers go on, and
    /// which calls wait for a person. Absent where there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub briefing: Option<Box<str>>,
    /// The most model calls it may begin.
    pub model_calls_max: u32,
    /// Until when it may begin model calls, if there is a time. Behind it the run concludes with what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Fields of [`Entry::InputsTaken`](super::Entry::InputsTaken).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputsTaken {
    /// The items, in the order of the session's inbox.
    pub items: Vec<ItemId>,
    /// The position after which the run took them.
    pub after: u64,
}

/// Fields of [`Entry::SignalTaken`](super::Entry::SignalTaken).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalTaken {
    /// The item.
    pub item: ItemId,
    /// Its position in the run's inbox.
    pub position: u64,
    /// What it asks for.
    pub signal: ItemKind,
    /// Who sent it.
    pub by: Actor,
    /// The approval that it answers, if it answers one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
}

/// Why a run rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "on")]
pub enum ParkReason {
    /// A retry of a model attempt is due at a time.
    Retry {
        /// When.
        until: Timestamp,
    },
    /// Its agent is paused.
    AgentPaused,
    /// A person must allow a call.
    Approval {
        /// The approval.
        approval: ApprovalId,
        /// The call.
        call: CallId,
        /// The digest of its action.
        action: Digest,
        /// What the approval is bound to.
        binding: Digest,
        /// Until when the run waits.
        until: Timestamp,
        /// From when on the call is allowed by itself, where it is delayed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cools_until: Option<Timestamp>,
        /// The approval that was asked for before the call's turn and is taken back with this, because the call is judged
        /// otherwise by then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<ApprovalId>,
    },
}

/// Fields of [`Entry::RunParked`](super::Entry::RunParked).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunParked {
    /// What it waits for.
    #[serde(flatten)]
    pub park: ParkReason,
}

/// Fields of [`Entry::RunHeld`](super::Entry::RunHeld).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeld {
    /// Why.
    pub reason: HoldReason,
    /// The facts: how often, or which entry.
    pub detail: String,
}

/// Why a run is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// It was taken over too often without a new entry.
    Claims,
    /// Crash after crash cut off the same model step, or the second opinion about the same call.
    LostAttempts,
    /// Its journal has an entry that this version cannot read.
    Unreadable,
    /// A stored entry does not match its digest.
    Damaged,
}

/// Fields of [`Entry::RunCompleted`](super::Entry::RunCompleted).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCompleted {
    /// The rule by which the gate let the reply out.
    pub rule: String,
    /// The policy that was asked, as the digest of its text; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
}

/// Fields of [`Entry::RunYielded`](super::Entry::RunYielded).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunYielded {
    /// The model calls it began.
    pub model_calls: u32,
    /// The budget that had too little left for its next call, if one had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetExhaustion>,
    /// In how many steps the model was warned that it repeats a call, if it yielded because it went on with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<u32>,
    /// How the gate let its conclusion out, if its last model call gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concluded: Option<RunCompleted>,
    /// Its deadline, if that had passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// What people read of a run that yielded because its model went on to repeat calls after warnings in so many steps.
pub fn repeated_text(told: u32) -> String {
    format!("its model repeated calls that it had made too often, although it was warned in {told} steps")
}

/// Fields of [`Entry::RunFailed`](super::Entry::RunFailed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailed {
    /// What happened.
    pub code: ErrorCode,
    /// What happened, in words that the tenant may read.
    pub message: String,
}

/// Fields of [`Entry::RunCancelled`](super::Entry::RunCancelled).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCancelled {
    /// Who ended it.
    pub by: Actor,
    /// `cancel` or `terminate`.
    pub signal: ItemKind,
}
