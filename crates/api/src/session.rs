//! Sessions on the wire: their rows, their transcript and their custom state.

use dromia_contracts::content::CallStatus;
use dromia_contracts::{AgentId, CallId, ItemId, RunId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::retention::HoldResource;

/// A session and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionResource {
    /// Its id.
    pub id: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// The platform of its key.
    pub platform: String,
    /// The channel of its key.
    pub channel: String,
    /// The actor of its key.
    pub actor: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The position of its last inbox item.
    pub last: u64,
    /// Inbox items that no run has taken yet.
    pub waiting: u64,
    /// The turn that holds it.
    pub active: Option<RunId>,
    /// The first words of its first input, as one line; absent where it has no input, or that has no words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Its hold, if it is on hold; absent in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldResource>,
}

/// The newest part of a session's conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TranscriptPage {
    /// The session.
    pub session: SessionId,
    /// Inputs and closed units, in order.
    pub turns: Vec<SessionTurn>,
    /// Whether the beginning was left out because it is longer than one page; the export has it.
    pub cut: bool,
    /// Inbox items that no run has taken yet.
    pub waiting: u64,
}

/// One element of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum SessionTurn {
    /// An actor spoke to the agent.
    Input {
        /// The inbox item.
        item: ItemId,
        /// Its position.
        position: u64,
        /// When it was stored.
        at: Timestamp,
        /// Who spoke.
        author: String,
        /// How many earlier turns the sender supplied; the session's export has them.
        #[serde(default, skip_serializing_if = "is_zero")]
        history: u64,
        /// How many pictures came with it; the session's export has them.
        #[serde(default, skip_serializing_if = "is_zero")]
        images: u64,
        /// How many results of its own tools the sender supplied.
        #[serde(default, skip_serializing_if = "is_zero")]
        results: u64,
        /// What was said; absent if it was erased.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The run that took it.
        run: RunId,
    },
    /// The agent spoke, with its calls and their results.
    Unit {
        /// The run.
        run: RunId,
        /// The number of the entry with the message.
        seq: u64,
        /// When the model answered.
        at: Timestamp,
        /// What it said.
        text: String,
        /// Why the message was withheld, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        withheld: Option<WithheldReason>,
        /// Its calls, each with its one result.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CompletedCall>,
        /// Its calls that were handed to a client, which has not returned their results yet.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        handed: Vec<ClientToolCall>,
    },
}

/// Why a message of an agent was withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WithheldReason {
    /// The rule that refused it.
    pub rule: String,
    /// The reason, for people.
    pub reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A tool call with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompletedCall {
    /// The call.
    pub id: CallId,
    /// The tool.
    pub tool: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
    /// How it ended.
    pub status: CallStatus,
    /// The result that the model got.
    pub result: String,
    /// How many pictures came with it; the session's export has them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: u64,
}

/// A call of a client's tool that waits for the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientToolCall {
    /// The call as the client knows it; its result names it so.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
}

/// A custom state entry of a session.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StateEntry {
    /// Its name.
    pub name: String,
    /// How often it was written.
    pub version: u64,
    /// Its value, any JSON.
    pub value: Box<RawValue>,
}

/// A custom state entry was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateWritten {
    /// Its name.
    pub name: String,
    /// How often it was written.
    pub version: u64,
}

/// A session was read from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionImport {
    /// The new session.
    pub session: SessionId,
}
