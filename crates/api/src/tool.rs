//! Tools on the wire: what each says about itself, what it may use, and whether an agent may use it.

use std::collections::BTreeMap;

use dromia_contracts::content::CallStatus;
use dromia_contracts::run::RunStatus;
use dromia_contracts::sandbox::{IsolationLevel, NetworkAccess, ProcessLimits};
use dromia_contracts::tool::{ArgumentRole, EffectClass, EffectSink, RecordFields, Sensitivity};
use dromia_contracts::{RunId, SessionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{RunFailureDetails, WAIT_MS_MAX};

/// A tool, in the hands of the agent that was asked about, or of one of whom the operator says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolResource {
    /// Its name, such as `file.read`.
    pub name: String,
    /// What it is for, as models read it.
    pub description: String,
    /// What a repeated call may do, at worst.
    pub effect: EffectClass,
    /// Where its effect is seen, as policies see it. A tool that runs programs counts as `inside` where they get no
    /// network.
    #[serde(default)]
    pub sink: EffectSink,
    /// What its arguments mean to the gate, by their names; one that is not here only says how.
    pub roles: BTreeMap<String, ArgumentRole>,
    /// The label of what it returns: integrity and readers, such as `untrusted/agent`.
    pub result_label: String,
    /// How sensitive its results are: `low`, or `high` for what belongs to one person.
    #[serde(default)]
    pub sensitivity: Sensitivity,
    /// Which fields of its results are keys and names of records, where they contain any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordFields>,
    /// The JSON Schema of its arguments.
    pub arguments: serde_json::Value,
    /// Whether an agent needs the operator's word beside its grant.
    pub privileged: bool,
    /// Hosts that the operator lets it reach beside those which an agent's grants name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<String>,
    /// What its programs may reach; absent for a tool that runs no program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<ToolNetwork>,
    /// The weakest isolation that will do for its programs, where the operator asks for more than elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<IsolationLevel>,
    /// The most that one call may use; absent for a tool that runs no program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ToolLimits>,
    /// Whether the agent may use it; absent where no agent was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<ToolGrant>,
}

/// What a tool's programs may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolNetwork {
    /// Nothing, or one guarded proxy. Where an agent was named, it has the proxy only if its grants may cover a host.
    pub way: NetworkAccess,
    /// The agent's grants by which the proxy judges what is asked of it, such as `net:example.com`; empty where no agent
    /// was named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Whether what the agent holds in capabilities is asked as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capabilities: bool,
}

/// The most that one call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolLimits {
    /// Time in milliseconds; a call may ask for less.
    pub wall_ms: u64,
    /// Processor time in milliseconds, of all its processes together.
    pub cpu_ms: u64,
    /// Memory in bytes, of all its processes together.
    pub memory_bytes: u64,
    /// Bytes that may lie in the workspace, and in each directory for temporary files.
    pub disk_bytes: u64,
    /// Bytes that it may write to its outputs.
    pub output_bytes: u64,
    /// Processes and threads at a time.
    pub processes: u32,
}

impl From<ProcessLimits> for ToolLimits {
    fn from(limits: ProcessLimits) -> Self {
        let ProcessLimits { cpu_ms, memory_bytes, wall_ms, output_bytes, processes, disk_bytes } = limits;
        Self { wall_ms, cpu_ms, memory_bytes, disk_bytes, output_bytes, processes }
    }
}

/// Whether an agent may use a tool. Its arguments are judged at each call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolGrant {
    /// Whether it may.
    pub allowed: bool,
    /// The rule that says so, such as `grant file.*` or `default deny`.
    pub rule: String,
}

/// Asks for one call by hand: a run of its own, in a session of its own, that is judged and journaled as any other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallTool {
    /// The arguments, as the tool's schema says.
    #[serde(default)]
    pub arguments: BTreeMap<String, serde_json::Value>,
    /// The longest wait for the result, in milliseconds; 120000 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = WAIT_MS_MAX))]
    pub wait_ms: Option<u64>,
}

/// A call that has ended with its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCalled {
    /// The run that is the call.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// How the run ended.
    pub status: RunStatus,
    /// What the call gave; absent where the run ended before it had a result.
    pub result: Option<CallResult>,
    /// Why the run failed, if it did.
    pub failure: Option<RunFailureDetails>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallResult {
    /// How it ended.
    pub status: CallStatus,
    /// What the tool said.
    pub text: String,
}
