//! Retention on the wire: how long sessions stay, which are due, and what was deleted.

use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::{AgentId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The hold of a session: as long as it lasts, neither the session nor its agent nor its tenant is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldResource {
    /// Who set it.
    pub by: String,
    /// When.
    pub since: Timestamp,
}

/// How long the sessions of a tenant stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionState {
    /// Hours for which a session stays after the last thing that happened in it; absent where sessions stay for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_hours: Option<u64>,
    /// Sessions in which nothing happened since this time are due now, unless something keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_before: Option<Timestamp>,
    /// Sessions on hold, newest first; at most 256.
    pub held: Vec<HeldSession>,
}

/// A session on hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldSession {
    /// The session.
    pub session: SessionId,
    /// Its hold.
    #[serde(flatten)]
    pub hold: HoldResource,
}

/// A session that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DueSession {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// Branches, workers and tasks that go with it.
    pub children: u64,
    /// Runs of it and of those.
    pub runs: u64,
    /// Bytes of them in the database, about.
    pub bytes: u64,
    /// When something happened in it last.
    pub last_at: Timestamp,
}

/// Sessions that are due, among those that one request looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DuePage {
    /// Those sessions, by id.
    pub items: Vec<DueSession>,
    /// The `after` of the request that looks on; absent where all were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SessionId>,
}

/// What one request deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionRun {
    /// The sessions that were deleted, without their children.
    pub items: Vec<DueSession>,
    /// The counts of what was deleted.
    pub erased: ErasureCounts,
    /// The `after` of the request that goes on; absent where all sessions were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SessionId>,
}
