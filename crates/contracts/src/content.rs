//! What is said: labelled parts, the message that a model gives, and the result of a tool call.
//!
//! These types are stored as JSON bodies. They carry a tag per part, so a later kind of part is an addition;
//! a reader that meets an unknown tag refuses the body instead of dropping a part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::CallId;
use crate::label::Label;
use crate::scope::Actor;

/// One labelled piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Plain text.
    Text {
        /// The text itself.
        text: String,
        /// How far it may be trusted and who may read it.
        label: Label,
    },
}

impl Part {
    /// Makes a text part.
    pub fn text(text: impl Into<String>, label: Label) -> Self {
        Self::Text { text: text.into(), label }
    }

    /// Returns the text of the part.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text { text, .. } => text,
        }
    }

    /// Returns the label of the part.
    pub fn label(&self) -> Label {
        match self {
            Self::Text { label, .. } => *label,
        }
    }
}

/// Joins the texts of several parts with line breaks.
pub fn parts_text(parts: &[Part]) -> String {
    parts.iter().map(Part::as_text).collect::<Vec<_>>().join("\n")
}

/// What an actor, an agent or a schedule said to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputMessage {
    /// Who said it; each input of a shared session carries its own author.
    pub author: Actor,
    /// What was said.
    pub parts: Vec<Part>,
    /// How many agents in a row led to it: 0 for what comes from outside, one more for each message that an agent
    /// sends on. It is written only where it is not 0, so a body of before the field reads as 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(hops: &u32) -> bool {
    *hops == 0
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The id that all attempts of this call carry.
    pub id: CallId,
    /// The tool's name as the model wrote it.
    pub tool: String,
    /// The arguments as the model wrote them: JSON if the model behaved, any text if it did not.
    pub arguments: String,
}

/// What the model said in one step; the body of a `model_replied` entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssistantMessage {
    /// What it said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// The calls it asks for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// It ran and did what was asked.
    Ok,
    /// It ran, or was looked at, and reports an error; it had no effect beyond what the text says.
    Error,
    /// The gate refused it; nothing ran.
    Denied,
    /// It began and nobody knows whether it had its effect. It is never run again by itself.
    Unknown,
    /// The run was cancelled before it began.
    Cancelled,
}

/// The one result of one call; the body of a `tool_finished` or `tool_refused` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// Which call it answers.
    pub call: CallId,
    /// How the call ended.
    pub status: CallStatus,
    /// What the model is told.
    pub parts: Vec<Part>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_before_hops_were_counted_reads_as_none_and_is_written_as_before() {
        let old = r#"{"author":"cli:ada","parts":[{"type":"text","text":"hi","label":"trusted/actor"}]}"#;
        let message: InputMessage = serde_json::from_str(old).expect("the body is whole");
        assert_eq!(message.hops, 0);
        assert_eq!(serde_json::to_string(&message).expect("it is JSON"), old);
        let sent = InputMessage { hops: 3, ..message };
        let text = serde_json::to_string(&sent).expect("it is JSON");
        assert_eq!(serde_json::from_str::<InputMessage>(&text).expect("it was just written"), sent);
    }
}
