//! The state of the server.

use dromia_contracts::Digest;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The server's version.
    pub version: String,
    /// When it began to serve.
    pub started_at: Timestamp,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Whether it is draining.
    pub draining: bool,
    /// Where it listens, such as `http://127.0.0.1:7700`, which may be another port than the one that is written; for operators
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<String>,
    /// How many tenants the caller may see.
    pub tenants: u64,
    /// What the engine holds in memory, of all tenants: for operators, and where there is one tenant only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadStatus>,
    /// The state of the store.
    pub store: StoreStatus,
    /// Which policy counts for the caller's tenant, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
    /// Which configuration counts: for operators, and where there is one tenant only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigStatus>,
}

/// Which configuration counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStatus {
    /// Its number in `dromia config history`.
    pub revision: u64,
    /// The digest of its text.
    pub digest: Digest,
    /// Since when it counts.
    pub since: Timestamp,
    /// Whether the server started on an earlier configuration, because it could not use the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fallback: bool,
    /// What the file says instead, and does not count, because it is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<ConfigRefused>,
    /// The keys whose values in the file take effect at the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// The providers and channels that are disabled because they have no key, each with its place and reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled: Vec<String>,
}

/// A file that does not count: the last good configuration goes on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigRefused {
    /// The file, the line, the column and what is wrong.
    pub problem: String,
    /// Since when what counts is not what the file says.
    pub since: Timestamp,
}

/// Which policy counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// Its digest, as decisions name it.
    pub digest: Digest,
    /// The files of the home that are asked beside the built-in policy, those of every tenant included; for operators only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// What lies in the home and does not count, because it is wrong; for operators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<PolicyRefused>,
}

/// Policies of the home that do not count: the last good ones go on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRefused {
    /// The file, the line, the column and what is wrong.
    pub problem: String,
    /// Since when what counts is not what lies there.
    pub since: Timestamp,
}

/// What the engine holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadStatus {
    /// Runs with a task.
    pub active: u64,
    /// Sessions and runs that wait for a task.
    pub ready: u64,
    /// The most runs with a task.
    pub active_max: u64,
}

/// The state of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStatus {
    /// Whether it takes writes.
    pub writable: bool,
    /// Why it takes none; for operators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_cause: Option<String>,
    /// What of it is damaged; absent while no read and no write met damage since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<DamageStatus>,
    /// What it wrote for all tenants: for operators, and where there is one tenant only.
    #[serde(flatten)]
    pub counters: Option<StoreCounters>,
}

/// What the store wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StoreCounters {
    /// Bytes in the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in the main file.
    pub file_bytes: u64,
    /// Transactions that became durable since the start.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
    /// Rows written in them.
    pub rows: u64,
    /// CPU time of the writer, in microseconds.
    pub writer_micros: u64,
    /// Bytes written to the log and to the main file.
    pub bytes_written: u64,
}

/// The damage that reads and writes met. What does not need the damaged part is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DamageStatus {
    /// When the first of them met it, to the second.
    pub since: Timestamp,
    /// How many of them met any since the start: for operators, and where there is one tenant only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<u64>,
    /// What the first one met; for operators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The answer of `/health`: the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthResponse {
    /// Always `ok`.
    pub status: String,
    /// `writable` or `read_only`.
    pub store: String,
    /// Whether a read or a write met damage since the start: a backup is needed; `/v1/status` has the details.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// The answer of `/ready`: input is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadyResponse {
    /// Always `ready`.
    pub status: String,
}
