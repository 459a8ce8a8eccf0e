//! Compaction: a summary takes the place of the oldest part of a session in later requests.
//!
//! The words themselves stay where they are, in the inbox and in the journals. A compaction is a run of kind `compaction` in a
//! session on the platform [`PLATFORM`], of which each session has one at most. Its input says which part it summarizes and
//! what of it stays word for word; its answer is the summary.

use serde::{Deserialize, Serialize};

use crate::content::ContentPart;
use crate::digest::Digest;
use crate::id::{RunId, SessionId};

/// The platform of sessions in which others are summarized; their channel is the id of the summarized session.
pub const PLATFORM: &str = "compaction";

/// The most summaries that stand in front of a conversation, one behind the other. The next one takes the place of all.
pub const SECTIONS_MAX: usize = 12;

/// The most model calls of a compaction: its answer, and one more for a model that asks for a tool though it has none.
pub const MODEL_CALLS_MAX: u32 = 2;

/// The part of a session that a summary takes the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactionRange {
    /// The session.
    pub session: SessionId,
    /// The position of its first item that this compaction summarizes.
    pub from: u64,
    /// The position of the last one.
    pub upto: u64,
    /// The last run in it.
    pub last_run: RunId,
    /// The digest of that run's last entry, which is chained to all entries before it.
    pub chain: Digest,
    /// Bytes of the inputs, answers and results in it.
    pub bytes: u64,
    /// How full the window of the model was, in percent.
    pub percent: u32,
    /// The summaries of what comes before it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<SummarySection>,
    /// What stays word for word: the newest of what people said, and which files the agent wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<ContentPart>,
}

/// An earlier summary that a later one leaves as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummarySection {
    /// The position of the first item that it summarizes.
    pub from: u64,
    /// The position of the last one.
    pub upto: u64,
    /// The run that wrote it.
    pub run: RunId,
    /// The summary.
    pub parts: Vec<ContentPart>,
}

/// What a request to compact a session leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactionAnswer {
    /// This part is summarized, or would be.
    Planned(PlannedCompaction),
    /// A compaction of the session is under way.
    UnderWay,
    /// The session has no earlier turn that is worth a summary, or the last compactions failed.
    NothingToDo,
}

/// The part of a session that a compaction summarizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedCompaction {
    /// The session in which it is summarized; `None` where that was only asked for.
    pub session: Option<SessionId>,
    /// The position of the first item.
    pub from: u64,
    /// The position of the last item.
    pub upto: u64,
    /// Bytes of the inputs, answers and results in it.
    pub bytes: u64,
}

impl CompactionRange {
    /// Says which part it is.
    pub fn planned(&self, session: Option<SessionId>) -> PlannedCompaction {
        PlannedCompaction { session, from: self.from, upto: self.upto, bytes: self.bytes }
    }
}

/// How the next request of a session would fill the window of its agent's model, without a new input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextUse {
    /// The alias of the model.
    pub model: String,
    /// Its window, in tokens.
    pub window: u32,
    /// Whether that window is the model's own; otherwise it is the one that the configuration assumes.
    pub is_window_known: bool,
    /// Tokens of the system text.
    pub system_tokens: u32,
    /// Tokens of the tools.
    pub tools_tokens: u32,
    /// Tokens of the summaries.
    pub summary_tokens: u32,
    /// Tokens of earlier inputs, answers and results.
    pub past_tokens: u32,
    /// The most tokens of the answer.
    pub output_tokens_max: u32,
    /// The summaries in the place of the oldest part, oldest first.
    pub summaries: Vec<SummarySection>,
    /// How many messages are left out because they do not fit.
    pub left_out: u32,
    /// How full the window is, in percent.
    pub percent: u32,
    /// How full it must be before the oldest part is summarized.
    pub compaction_percent: u32,
}
