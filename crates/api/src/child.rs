//! Branches and workers, on the wire: what runs of a session began beside it.

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::task::TaskState;
use dromia_contracts::{AgentId, CallId, RunId, SessionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A branch or a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChildResource {
    /// Its id, which is that of its own session.
    pub id: SessionId,
    /// What it is: `branch` or `worker`.
    pub kind: RunKind,
    /// Its agent.
    pub agent: AgentId,
    /// The session that gets its conclusion.
    pub parent_session: SessionId,
    /// The run that began it.
    pub parent: RunId,
    /// The call that began it.
    pub call: CallId,
    /// Where it is: pending until a run takes it, then what its newest run does.
    pub state: TaskState,
    /// Its newest run; absent while it is pending.
    pub run: Option<RunId>,
    /// The status of that run.
    pub status: Option<RunStatus>,
    /// What that run cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// How many of its model calls had a model without a known price: what they cost is not in the amount.
    pub unpriced_calls: u32,
    /// What a branch is about, if that was said. A later branch about the same replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The role of a worker, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<HandleSlug>,
    /// The first words of its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}
