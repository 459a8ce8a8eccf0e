//! Agents: identity, configuration and state.
//!
//! A configuration is immutable and named by its digest; an agent points at its current revision, and a run
//! pins the one it started with.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::busy_policy::BusyPolicy;
use crate::digest::Digest;
use crate::id::{AgentId, TenantId};
use crate::identity_document::{DocumentDigest, DocumentName};
use crate::mind::AgentMind;
use crate::workspace::WorkspaceReference;

pub use crate::handle::{HandleSlug, ParseHandleError};

/// A tenant, as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its id.
    pub id: TenantId,
    /// Its handle, unique on the node.
    pub handle: HandleSlug,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Since when it is suspended, if it is: it reads, its work rests at the next safe point, and nothing of it changes.
    pub suspended_at: Option<Timestamp>,
}

/// How much of a tenant there is. What is being erased counts as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TenantCounts {
    /// Agents.
    pub agents: u64,
    /// Sessions.
    pub sessions: u64,
    /// Runs that have not ended.
    pub open_runs: u64,
}

/// An agent and its current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// Its handle, unique in its tenant.
    pub handle: HandleSlug,
    /// The name that people see.
    pub display_name: String,
    /// Free labels of the operator.
    pub labels: BTreeMap<String, String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// What it may do right now.
    pub state: AgentState,
    /// The digest of its current configuration.
    pub revision: Digest,
    /// The number of its current revision, from 1.
    pub revision_number: u64,
}

/// What an agent may do right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It takes input and answers.
    Running,
    /// It takes input and keeps it; its runs rest at their next safe point.
    Paused,
    /// It takes no input; its runs were ended.
    Terminated,
    /// It is being erased, page by page.
    Deleting,
}

impl AgentState {
    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Terminated => "terminated",
            Self::Deleting => "deleting",
        }
    }
}

/// The configuration of an agent. Unknown keys are refused. The default one has no model, so no agent is registered with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The alias of its model.
    pub model: String,
    /// The system text that makes it who it is.
    #[serde(default)]
    pub instructions: String,
    /// What it may do: tool names such as `file.read`, families such as `file.*`, hosts such as `net:example.com`,
    /// secrets such as `secret:github`, and `reply`.
    #[serde(default)]
    pub grants: Vec<String>,
    /// The most model calls of one run; the instance's default where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_calls_max: Option<u32>,
    /// What it is for, in words for people; no model gets it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A directory of the server's machine that it works in, below one of `workspaces.roots`; with `:ro` behind it for
    /// reading only. Without it, the workspace of its home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceReference>,
    /// What a message does while a turn of its session runs, where the message does not say: `follow_up`, `steer`, `collect`
    /// or `interrupt`. Without it, `follow_up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_busy: Option<BusyPolicy>,
    /// How it divides its work: `solo`, where a turn does everything itself, or `branching`, where a turn answers soon and leaves
    /// the work to branches and workers. Without it, `solo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mind: Option<AgentMind>,
    /// The documents that it was given, by their names, such as `SOUL.md`. Each is written by a request of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, DocumentDigest>")]
    pub identity: BTreeMap<DocumentName, DocumentDigest>,
}

/// One immutable configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRevision {
    /// BLAKE3 of [`AgentRevision::config`] as JSON.
    pub digest: Digest,
    /// The configuration.
    pub config: AgentConfig,
}

/// What deleting an agent erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ErasureCounts {
    /// Sessions.
    pub sessions: u64,
    /// Runs.
    pub runs: u64,
    /// Journal entries.
    pub entries: u64,
    /// Inbox items.
    pub items: u64,
    /// Bodies that nothing else refers to.
    pub bodies: u64,
    /// Messages of it that were on their way out, or had gone.
    #[serde(default)]
    pub deliveries: u64,
    /// Files of its home.
    pub files: u64,
}

/// What deleting a tenant erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TenantErasureCounts {
    /// Agents that were erased with it.
    pub agents: u64,
    /// What those agents had.
    pub of_agents: ErasureCounts,
}

impl ErasureCounts {
    /// Adds what another page or agent came to.
    pub fn add_counts(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.runs += other.runs;
        self.entries += other.entries;
        self.items += other.items;
        self.bodies += other.bodies;
        self.deliveries += other.deliveries;
        self.files += other.files;
    }
}
