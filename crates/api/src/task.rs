//! Tasks: what an agent is given to do in a session of its own, and how it is ended.

use dromia_contracts::model::TokenUsage;
use dromia_contracts::run::RunStatus;
use dromia_contracts::task::TaskState;
use dromia_contracts::{AgentId, CapabilityId, ItemId, RunId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{RunFailureDetails, WAIT_MS_MAX};

/// Gives an agent a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpawnTask {
    /// What is to be done.
    pub task: String,
    /// Whether to wait for its end.
    #[serde(default)]
    pub wait: bool,
    /// How long to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = WAIT_MS_MAX))]
    pub wait_ms: Option<u64>,
    /// What its runs may do at most, of what the agent may do: `file:write:PATH`, `net:http:HOST`, `tool:NAME` and so on.
    /// Without any, and without `under`, all that the agent may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rights: Vec<String>,
    /// The capability of the client or agent that gives the task: its runs may do nothing that this does not cover, and
    /// nothing at all once it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<CapabilityId>,
}

/// A durable task and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskSpawned {
    /// Its agent.
    pub agent: AgentId,
    /// The session that it has for itself.
    pub session: SessionId,
    /// The inbox item that holds it.
    pub item: ItemId,
    /// The run that took it; absent while it is pending.
    pub run: Option<RunId>,
    /// Its state.
    pub state: TaskState,
    /// The status of its run.
    pub status: Option<RunStatus>,
    /// Whether an earlier request with the same key stored it.
    pub replayed: bool,
    /// What came of it, if the caller waited for its end and that came in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<TaskEnded>,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskEnded {
    /// What was answered; nothing where the gate refused the answer, or the run ended without one.
    #[serde(default)]
    pub reply: Option<String>,
    /// The number of its run's last entry.
    pub last_seq: u64,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: TokenUsage,
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RunFailureDetails>,
}

/// A task and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskResource {
    /// The session that it has for itself.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// When it was given.
    pub opened_at: Timestamp,
    /// Its state.
    pub state: TaskState,
    /// Its newest run; absent while it is pending.
    pub run: Option<RunId>,
    /// The status of that run.
    pub status: Option<RunStatus>,
}

/// Ends work of an agent now. Exactly one of the three is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct KillRuns {
    /// This run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The open run of this session and, where it is a task's, what no run took yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Every open run of the agent, and every task of it that no run took yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// What was ordered to end. It ends within a moment, and what its calls started ends with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KillReceipt {
    /// The agent, which takes input as before.
    pub agent: AgentId,
    /// The runs. A task that no run took yet is ended by a run of its own.
    pub runs: Vec<RunId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_needs_only_text_and_refuses_unknown_fields() {
        let task: SpawnTask =
            serde_json::from_str(r#"{"task":"count"}"#).expect("the defaults fill the rest");
        assert_eq!(task, SpawnTask { task: "count".into(), ..SpawnTask::default() });
        for bad in [r#"{"wait":true}"#, r#"{"task":"x","waits":true}"#] {
            assert!(serde_json::from_str::<SpawnTask>(bad).is_err(), "{bad} was taken");
        }
        let all = KillRuns { all: true, ..KillRuns::default() };
        assert_eq!(serde_json::to_string(&all).expect("it is JSON"), r#"{"all":true}"#);
        let one = KillRuns { run: Some(RunId::from_bytes([7; 16])), ..KillRuns::default() };
        let text = serde_json::to_string(&one).expect("it is JSON");
        assert_eq!(text, format!(r#"{{"run":"run_{}"}}"#, "07".repeat(16)), "one is named and nothing else");
        for bad in [r#"{"runs":"x"}"#, r#"{"run":"ses_1"}"#, r#"{"all":1}"#] {
            assert!(serde_json::from_str::<KillRuns>(bad).is_err(), "{bad} was taken");
        }
    }
}
