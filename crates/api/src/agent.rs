//! Agents on the wire.

use std::collections::BTreeMap;

use dromia_contracts::agent::{AgentConfig, AgentState, ErasureCounts, HandleSlug};
use dromia_contracts::revision::AgentField;
use dromia_contracts::{AgentId, Digest};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Registers an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// Its handle, unique in its tenant.
    pub handle: HandleSlug,
    /// The name that people see; the handle where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its configuration.
    pub config: AgentConfig,
}

/// An agent and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentResource {
    /// Its id.
    pub id: AgentId,
    /// Its handle.
    pub handle: HandleSlug,
    /// The name that people see.
    pub display_name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// What it may do right now.
    pub state: AgentState,
    /// The number of its current revision, from 1; `If-Match` takes it.
    pub revision: u64,
    /// Its configuration; on show and create only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<AgentConfig>,
}

/// Takes an earlier revision again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertAgent {
    /// The number of the revision whose configuration to take.
    #[schemars(range(min = 1))]
    pub revision: u64,
}

/// Gives an agent another handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameAgent {
    /// The handle, unique in the tenant.
    pub handle: HandleSlug,
}

/// A revision of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionResource {
    /// Its number; the first one is 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it; the server itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// BLAKE3 of the configuration as JSON; two revisions with the same configuration have the same.
    pub digest: Digest,
    /// The fields that it changed; none for the first one.
    pub changed: Vec<AgentField>,
    /// Its configuration; on show only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<AgentConfig>,
}

/// What deleting an agent erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletionReport {
    /// The counts.
    pub erased: ErasureCounts,
}

/// A model that an agent may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelAlias {
    /// What configurations of agents call it.
    pub alias: String,
}
