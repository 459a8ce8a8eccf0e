//! Where the child of a run comes from. It decides nothing.

use serde::{Deserialize, Serialize};

use crate::handle::HandleSlug;
use crate::id::{AgentId, CallId, RunId, SessionId};
use crate::run_kind::RunKind;

/// Which call of which run a child is for, and what bounds the child by that.
///
/// It is stored with the child's session and repeated by `run_started`, so a run has it without another read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrigin {
    /// The parent.
    pub run: RunId,
    /// The parent's call.
    pub call: CallId,
    /// What the child is.
    pub kind: RunKind,
    /// The session that gets the conclusion: the parent's own, or of a branch the one that it is a branch of.
    pub session: SessionId,
    /// The last input of that session that the parent had taken. The transcript of a branch begins with that of the parent up to
    /// the model call whose answer has the call.
    pub position: u64,
    /// What a branch is about, if its parent said so. A later branch on the same topic supersedes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The role of a worker, if its parent named one. The text of the role is part of the worker's task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<HandleSlug>,
    /// How long a run of a worker has, in milliseconds, if its parent gave it less time than the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The parent's agent.
    pub agent: AgentId,
    /// The first run of the tree.
    pub root: RunId,
    /// How many spawns led to it, this one included.
    pub depth: u32,
    /// What the parent was granted when it made the call. Runs of the child's session may do nothing that these do not cover.
    pub grants: Vec<String>,
}
