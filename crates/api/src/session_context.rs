//! How a session fills the window of its agent's model, on the wire, and its summaries.

use dromia_contracts::{RunId, SessionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the next request of a session would hold, in tokens. They are counted on the safe side, a token for three bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionContext {
    /// The session.
    pub session: SessionId,
    /// The alias of the model.
    pub model: String,
    /// The window of the model: the most tokens of a request and its answer together.
    pub window: u32,
    /// Whether that is the model's own window; otherwise it is `context.window_tokens` of the configuration.
    pub window_known: bool,
    /// Tokens of the system text.
    pub system: u32,
    /// Tokens of the tools.
    pub tools: u32,
    /// Tokens of the summaries.
    pub summary: u32,
    /// Tokens of earlier inputs, answers and results.
    pub past: u32,
    /// The most tokens of the answer.
    pub answer: u32,
    /// How full the window is, in percent.
    pub percent: u32,
    /// From how full on the oldest part of the session is summarized after a turn, in percent.
    pub compaction_percent: u32,
    /// How many messages are left out because they do not fit.
    pub left_out: u32,
    /// The summaries in the place of the oldest inputs and answers, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summaries: Vec<SummaryResource>,
}

/// A summary of a part of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryResource {
    /// The position of the first input that it summarizes.
    pub from: u64,
    /// The position of the last one.
    pub upto: u64,
    /// The run that wrote it.
    pub run: RunId,
    /// The summary.
    pub text: String,
}

/// What a request to compact a session led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompactionResource {
    /// What is done.
    pub state: CompactionState,
    /// The session in which the part is summarized; its runs say how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The position of the first input of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The position of the last input of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto: Option<u64>,
    /// Bytes of the inputs, answers and results in the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What is done about a session that is to be compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompactionState {
    /// With `dry_run`: this part would be summarized.
    Planned,
    /// The part is being summarized.
    Started,
    /// An earlier compaction of the session has not ended.
    UnderWay,
    /// There is no earlier turn that is worth a summary.
    NothingToDo,
}
