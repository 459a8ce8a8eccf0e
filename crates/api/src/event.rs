//! Events in: messages from actors to an agent, and the answers to them.

use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::model::TokenUsage;
use dromia_contracts::run::RunStatus;
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{ItemId, RunId, SessionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a request waits for the answer when it does not say how long.
pub const WAIT_MS_DEFAULT: u64 = 30_000;

/// The longest wait.
pub const WAIT_MS_MAX: u64 = 600_000;

/// The platform of an event that names none.
pub const PLATFORM_DEFAULT: &str = "http";

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// An actor sent a message on a channel.
    #[default]
    #[serde(rename = "channel.message.received")]
    ChannelMessageReceived,
}

/// An event on its way in. Either `session` names the session, or agent, platform, channel and actor find it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendEvent {
    /// What kind of event it is.
    #[serde(rename = "type", default)]
    pub kind: EventType,
    /// What is said.
    pub text: String,
    /// The agent's handle or id; the instance's default agent where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The place on the platform; a new one, so a new session, where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Who speaks, under the authenticated name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The session itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// A directory of the server's machine in which the run works in the place of the agent's workspace; with `:ro` behind
    /// it for reading only. Needs the scope `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceReference>,
    /// What the message does while a turn of its session runs: `follow_up` gets a turn of its own, `steer` joins the turn
    /// before its next model call, `collect` is answered together with others that wait, `interrupt` ends the turn. The
    /// agent's own policy where it is absent, which is `follow_up` unless it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_busy: Option<BusyPolicy>,
    /// Whether to wait for the answer.
    #[serde(default)]
    pub wait: bool,
    /// How long to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = WAIT_MS_MAX))]
    pub wait_ms: Option<u64>,
}

/// The input is durable; the caller did not wait, or the wait ended first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventAccepted {
    /// The inbox item.
    pub item: ItemId,
    /// Its session.
    pub session: SessionId,
    /// Its position in the session's inbox.
    pub position: u64,
    /// The run that took it, if one did at once.
    pub run: Option<RunId>,
    /// Whether an earlier request with the same key stored it.
    pub replayed: bool,
}

/// The input is durable and its run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventAnswered {
    /// The inbox item.
    pub item: ItemId,
    /// Its session.
    pub session: SessionId,
    /// Its position in the session's inbox.
    pub position: u64,
    /// The run that took it.
    pub run: RunId,
    /// Whether an earlier request with the same key stored it.
    pub replayed: bool,
    /// How the run ended.
    pub status: RunStatus,
    /// What it answered; nothing where the gate refused the answer, or the run ended without one.
    #[serde(default)]
    pub reply: Option<String>,
    /// The number of its last entry.
    pub last_seq: u64,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: TokenUsage,
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// How many of the model calls had a model without a known price: what they cost is not in the amount.
    #[serde(default, skip_serializing_if = "crate::run::is_zero")]
    pub unpriced_calls: u32,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RunFailureDetails>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFailureDetails {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_alone_is_an_event() {
        let event: SendEvent =
            serde_json::from_str(r#"{"text":"hello"}"#).expect("the defaults fill the rest");
        assert_eq!(event, SendEvent { text: "hello".into(), ..SendEvent::default() });
    }

    #[test]
    fn a_misspelt_field_and_an_unknown_type_are_refused() {
        for bad in [r#"{"text":"x","waits":true}"#, r#"{"text":"x","type":"moon.rose"}"#, r#"{"wait":true}"#]
        {
            assert!(serde_json::from_str::<SendEvent>(bad).is_err(), "{bad} was taken");
        }
    }
}
