//! Approvals on the wire: calls that wait for a person, answers to them, and rules that answer ahead.

use dromia_contracts::approval::{ApprovalState, ExecutableFiles, OriginKind, RuleAnswer};
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::tool::ArgumentRole;
use dromia_contracts::{AgentId, ApprovalId, CallId, Digest, RunId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A call that a person must allow, or that is delayed until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalResource {
    /// Its id.
    pub id: ApprovalId,
    /// Its state.
    pub state: ApprovalState,
    /// Which call of which run asks.
    #[serde(flatten)]
    pub source: ApprovalSource,
    /// The call as the gate judged it.
    #[serde(flatten)]
    pub judged: ApprovalCall,
    /// The rule that asks, or delays.
    pub rule: String,
    /// Why it does.
    pub reason: String,
    /// Who may answer; where the list is empty, every caller with the scope `approve`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// When it was asked for, and until when it counts.
    #[serde(flatten)]
    pub deadlines: ApprovalTimes,
    /// What a second model said of the call, where one was asked. It helps the approver and decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<ModelOpinion>,
    /// What became of it.
    #[serde(flatten)]
    pub answer: ApprovalOutcome,
}

/// Which call of which run asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalSource {
    /// The agent whose call it is.
    pub agent: AgentId,
    /// The session in which it asked.
    pub session: SessionId,
    /// The run that asked.
    pub run: RunId,
    /// The call of that run.
    pub call: CallId,
    /// On whose input the run worked.
    pub author: String,
}

/// The call as the gate judged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalCall {
    /// The tool.
    pub tool: String,
    /// The arguments, byte for byte what would be executed, as JSON text.
    pub arguments: String,
    /// Where each argument came from.
    pub origins: Vec<ArgumentOrigin>,
    /// The label of everything that led to the call: integrity and readers, such as `untrusted/agent`.
    pub context: String,
    /// The digest of tool and arguments.
    pub action: Digest,
    /// The digest of everything that was judged; a call with another one is another call.
    pub binding: Digest,
    /// The files that its program could execute, to which the binding holds it; absent where it runs no program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<ExecutableFiles>,
}

/// When it was asked for, and until when it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalTimes {
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Until when the run waits for it.
    pub holds_until: Timestamp,
    /// Until when it may be answered.
    pub expires_at: Timestamp,
    /// When the call becomes allowed by itself, unless a person refuses it first; absent where only a person allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<Timestamp>,
    /// How many seconds are left until then; absent once it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_in_seconds: Option<u64>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalOutcome {
    /// Whether the server refused it at once, because `approvals.unattended` lists the platform of its session. Such a
    /// request never waited for an answer, and takes none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unattended: bool,
    /// Who answered, `engine` where the delay ran out; absent before an answer, and for an unattended request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// The reason that the approver gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_reason: Option<String>,
    /// The run in which the call began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<RunId>,
}

/// What is known of one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArgumentOrigin {
    /// The argument's name.
    pub name: String,
    /// What it means to the gate, if the tool says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ArgumentRole>,
    /// Where its value came from.
    pub origin: OriginKind,
    /// The label of the text that contains it, or of everything that led to it.
    pub label: String,
    /// The text around it there, some 160 bytes, with `…` where it is cut off; absent where no text contains it. Its
    /// content may be untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
}

/// How far an approval goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachKind {
    /// This one call.
    #[default]
    Once,
    /// This call, and the very same one as often as it comes in this session.
    Session,
    /// This call, and whatever `rule` matches of its agent. It needs the scope `admin`.
    Always,
}

/// Answers an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerApproval {
    /// Whether the call may begin.
    pub approve: bool,
    /// How far the approval goes.
    #[serde(default)]
    pub reach: ReachKind,
    /// The rule that answers from now on, with the reach `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it is refused, for the agent and for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Other approvals of the same run for which the answer holds too: all of them are answered, or none. None with the reach
    /// `always`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = dromia_contracts::approval::ALSO_MAX))]
    pub also: Vec<ApprovalId>,
}

/// Adds a rule that answers approvals, or changes the one of this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetApprovalRule {
    /// What it answers.
    pub answer: RuleAnswer,
    /// Which calls it answers: a tool, and patterns for its arguments, such as `file.write path=notes/**`.
    pub rule: String,
    /// The one agent whose calls it answers, by id or handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The one session in which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// After how many seconds it answers nothing any more; 90 days at most, and if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A rule that answers approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalRuleResource {
    /// Its name.
    pub name: String,
    /// What it answers.
    pub answer: RuleAnswer,
    /// Which calls it answers, as it matches.
    pub rule: String,
    /// The one agent whose calls it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The one session in which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Who made it; `dromia.yaml` for one that the configuration file declares.
    pub owner: String,
    /// When; for one that the configuration file declares, when it was looked up.
    pub created_at: Timestamp,
    /// From when on it answers nothing; the end of time for one that the configuration file declares.
    pub expires_at: Timestamp,
    /// Whether the configuration file declares it, for every tenant. Its name is its place there, such as
    /// `approvals.deny.0`, and no request changes it.
    #[serde(default)]
    pub declared: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_answer_has_defaults_and_refuses_unknown_words() {
        let answer: AnswerApproval = serde_json::from_str(r#"{"approve":true}"#).expect("it is one");
        assert_eq!((answer.reach, answer.rule, answer.also), (ReachKind::Once, None, Vec::new()));
        for wrong in [
            r#"{"approve":true,"also":["run_1"]}"#,
            r#"{"approve":"yes"}"#,
            r#"{"approve":true,"reach":"forever"}"#,
            r#"{"yes":true}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<AnswerApproval>(wrong).is_err(), "{wrong}");
        }
    }
}
