//! Agents on the wire.

use std::collections::BTreeMap;

use dromia_contracts::AgentId;
use dromia_contracts::agent::{AgentConfig, AgentState, ErasureCounts, HandleSlug};
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
    /// Its configuration; on show and create only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<AgentConfig>,
}

/// What deleting an agent erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletionReport {
    /// The counts.
    pub erased: ErasureCounts,
}
