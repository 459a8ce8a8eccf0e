//! Runs and their journals on the wire.

use dromia_contracts::label::Label;
use dromia_contracts::model::TokenUsage;
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{AgentId, ApprovalId, CallId, Digest, RunId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A run and its current status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunResource {
    /// Its id.
    pub id: RunId,
    /// What it is for.
    pub kind: RunKind,
    /// Its agent.
    pub agent: AgentId,
    /// Its session.
    pub session: SessionId,
    /// Its status.
    pub status: RunStatus,
    /// When it was claimed first.
    pub started_at: Timestamp,
    /// When its last entry was appended.
    pub updated_at: Timestamp,
    /// When it must be woken, if it rests until a time.
    pub wake_at: Option<Timestamp>,
    /// The number of its last entry.
    pub last_seq: u64,
    /// The number of its ownership.
    pub epoch: u64,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: TokenUsage,
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// How many of the model calls had a model without a known price: what they cost is not in the amount.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpriced_calls: u32,
    /// Whether it came with its session as a file: what it spent was spent elsewhere, and no summary counts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    /// The first words of the input that began it, as one line; absent where no input did, or it has no words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The directory that its input named in the place of the agent's workspace. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceReference>,
}

/// The tree of a run: the run that began it, and the tasks that runs of it spawned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunTree {
    /// The run that was asked for.
    pub run: RunId,
    /// The first run of the tree.
    pub root: RunId,
    /// How many nodes the tree has. More than there are in `nodes` where only the first are shown.
    pub found: u64,
    /// Whether all tasks of the tree were read. If not, the totals are those of the tasks that were.
    pub complete: bool,
    /// The nodes: each run before the tasks that it spawned.
    pub nodes: Vec<RunTreeNode>,
}

/// A run of a tree, or a task that no run has taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunTreeNode {
    /// The run; absent while the task waits for one.
    pub run: Option<RunId>,
    /// What it is for.
    pub kind: RunKind,
    /// Its session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// The run that spawned it; absent for the root.
    pub parent: Option<RunId>,
    /// The call that spawned it; absent for the root.
    pub call: Option<CallId>,
    /// How many runs of this tree lead to it.
    pub depth: u32,
    /// Its status; absent while the task waits for a run.
    pub status: Option<RunStatus>,
    /// What the run itself used.
    pub own: RunTreeSum,
    /// What it and the tasks below it used.
    pub total: RunTreeSum,
}

/// What runs of a tree used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunTreeSum {
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// How many model calls had a model without a known price: what they cost is not in the amount.
    pub unpriced_calls: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
}

/// Who decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// What the agent's configuration grants, or that nothing does.
    Grants,
    /// A capability that the agent holds.
    Capability,
    /// The capability within which the task stays.
    Task,
    /// The operator's word for a privileged tool.
    Operator,
    /// The policy.
    Policy,
    /// A person's approval: one was given, is waited for, or could not be asked for.
    Approval,
    /// Something else, which the rule names.
    Other,
}

impl DecidedBy {
    /// Reads who decided off a rule, as journals have it.
    pub fn of_rule(rule: &str) -> Self {
        match rule.split(' ').next().unwrap_or_default() {
            "grant" | "default" => Self::Grants,
            "capability" => Self::Capability,
            "within" => Self::Task,
            "privileged" => Self::Operator,
            "policy" => Self::Policy,
            // Rules of the engine: another action, a person's refusal, too many that wait of the run or of the tenant, too
            // much in a row without a person.
            "approval-mismatch" | "approval-denied" | "approval-waiting" | "approval-files"
            | "approvals-full" | "delay-hops" | "ask" | "delay" | "approval" => Self::Approval,
            _ => Self::Other,
        }
    }

    /// Returns the word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grants => "grants",
            Self::Capability => "capability",
            Self::Task => "task",
            Self::Operator => "operator",
            Self::Policy => "policy",
            Self::Approval => "approval",
            Self::Other => "other",
        }
    }
}

/// What was decided about a call, as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallDecision {
    /// The number of the entry.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
    /// The call.
    pub call: CallId,
    /// The tool.
    pub tool: String,
    /// Whether it was let through.
    pub allowed: bool,
    /// Who decided.
    pub by: DecidedBy,
    /// The rule; absent where a call was refused before any rule was asked. Of a call that waits it is the one that asked, or
    /// put it off: `ask RULE` or `delay RULE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The approval that the call was left waiting for when its run went on; absent for other calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<ApprovalId>,
    /// Why, in the words of the result that the model got; empty for a call that was let through.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The policy that was asked, by its digest; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// The digest of the canonical action that was judged; absent for one that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Digest>,
    /// Whether the call lay within the frozen plan of its turn; absent where the plan was open, or not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_plan: Option<bool>,
    /// What the program was to be given that the call starts, when it was judged: without a way out it counts as `inside`,
    /// else as `outside`. Absent for a call that starts none, and where nothing was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkAccess>,
    /// The join of the labels of everything that led to the call, when it was judged; absent for one that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub context: Option<Label>,
    /// The arguments that counted as endorsed when it was judged, by their names; absent for a call that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsed: Vec<String>,
    /// What a second model said of the call before; absent where this run asked none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<ModelOpinion>,
}

/// A journal entry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JournalEntryResource {
    /// Its number, counted from 1 without gap.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The epoch in which it was appended.
    pub epoch: u64,
    /// Its kind.
    pub kind: String,
    /// The version of its kind.
    pub version: u16,
    /// Its fields.
    pub fields: Box<RawValue>,
    /// What was said; absent if nothing was, or if it was erased.
    pub body: Option<Box<RawValue>>,
    /// The digest of this entry chained to the one before.
    pub chain: Digest,
}

/// One page of a journal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JournalPage {
    /// The entries, in order.
    pub entries: Vec<JournalEntryResource>,
    /// The number of the run's last entry.
    pub last_seq: u64,
    /// The run's status.
    pub status: RunStatus,
}

/// The event name of an entry in the stream.
pub const EVENT_ENTRY: &str = "entry";

/// The event name of live text in the stream.
pub const EVENT_DELTA: &str = "delta";

/// The event name of the live output of a call in the stream.
pub const EVENT_OUTPUT: &str = "output";

/// The event name that closes the stream of an ended run.
pub const EVENT_END: &str = "end";

/// The event name of a problem that ends the stream before the run.
pub const EVENT_PROBLEM: &str = "problem";

/// Live text of a model attempt. It carries no cursor and gives way to the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextDelta {
    /// The model step.
    pub step: u32,
    /// The attempt.
    pub attempt: u32,
    /// Bytes of the attempt's text before this piece.
    pub offset: u64,
    /// The piece.
    pub text: String,
}

/// Live output of a call that runs, both of its outputs as they come. It carries no cursor and gives way to the call's
/// `tool_finished`. A piece that does not begin where the last one ended follows others that were left out: there are at
/// most 64 KiB a second, 256 pieces, 4 KiB each, and less for a reader that is slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallOutput {
    /// The call.
    pub call: CallId,
    /// Bytes of the call's output before this piece.
    pub offset: u64,
    /// Bytes of the output that the piece covers.
    pub bytes: u64,
    /// The piece; what is no UTF-8 is shown as U+FFFD.
    pub text: String,
}

/// Whether a count that answers leave out is zero.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
pub(crate) const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The run has ended and every entry was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamEnd {
    /// How it ended.
    pub status: RunStatus,
    /// The number of its last entry.
    pub last_seq: u64,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: TokenUsage,
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// How many of the model calls had a model without a known price: what they cost is not in the amount.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpriced_calls: u32,
}

/// Why a run has the status that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunExplanation {
    /// Its status.
    pub status: RunStatus,
    /// What it waits for, or how it ended.
    pub waits_for: String,
    /// Since when.
    pub since: Timestamp,
    /// Who can change that.
    pub unblocked_by: String,
    /// The command that does; what to do first, and then it, where no command alone can.
    pub command: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_who_decided() {
        for (rule, by) in [
            ("grant file.* and within cap_1 block 0 file:write:out", "grants"),
            ("default deny", "grants"),
            ("capability cap_1 block 1", "capability"),
            ("within cap_1 block 0", "task"),
            ("privileged", "operator"),
            ("policy no-exec", "policy"),
            ("ask permission", "approval"),
            ("approval apr_1 of ask permission", "approval"),
            ("approval-denied", "approval"),
            ("approvals-full", "approval"),
            ("delay-hops", "approval"),
            ("leak scan", "other"),
            ("", "other"),
        ] {
            assert_eq!(DecidedBy::of_rule(rule).as_str(), by, "{rule}");
        }
    }
}
