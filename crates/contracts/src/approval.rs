//! Approvals: a call that a person must allow, asked for durably, answered once and used once.
//!
//! An [`ApprovalRequest`] is the request and its state: the exact call, what it is bound to, who may answer and until
//! when. Its `binding` covers all that the person was shown and all that was judged; a call with another binding is
//! another call. The store moves an approval with the entries of the runs that it concerns ([`approval_transition`],
//! [`ApprovalRequest::apply_transition`]), in the same commit, so none is used twice and none is forgotten. A
//! [`ParsedRule`] answers in a person's place.
//!
//! A delayed call is a request with a time to cool ([`ApprovalDeadlines::cools_until`]): the engine approves it after
//! that time, unless it was answered earlier. The row is its own timer, so no crash loses one. To the store it is an
//! answer like any other.
//!
//! ```text
//! holding --release--> waiting            the run let go; the call will be a run of its own
//! holding, waiting --answer--> approved | denied
//! approved --use--> used                  with the `ToolStarted` that it allows
//! holding, approved --withdraw--> withdrawn    with the end of its call, or of its agent where no run has its call yet
//! holding, approved --retract--> withdrawn     with the start of a call that needs no approval any more
//! ```
//! No row says that an approval has expired: that follows from the time ([`ApprovalRequest::state_at`]). A tenant has at most
//! [`OPEN_MAX`] that are open and keeps at most [`KEPT_MAX`] others; the store sees to both where one is asked for.

mod admissible;
mod answer;
mod binding;
mod call;
mod hidden;
mod limits;
mod origin;
mod rule;
mod standing_answer;
mod standing_rule;
mod state;
mod suggest;
mod transition;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{AgentId, ApprovalId, CallId, RunId, SessionId};
use crate::label::Label;
use crate::plan::CallProvenance;
use crate::scope::{Actor, Scope};

pub use crate::executable_files::{BoundFiles, ExecutableFiles};

pub use self::admissible::{RuleRejection, RuleTool};
pub use self::answer::{AnswerBody, AnswerRecord, ApprovalReach};
pub use self::binding::BoundParts;
pub use self::call::{ApprovedBody, ApprovedCall, PLATFORM};
pub use self::hidden::{escape_hidden, is_hidden_char};
pub use self::limits::{
    ALSO_MAX, ARGUMENTS_BYTES_MAX, KEPT_MAX, OPEN_MAX, QUOTE_BYTES_MAX, REASON_BYTES_MAX, RULES_MAX,
    SWEEP_LOOKS_MAX, SWEPT_MAX, WAITING_MAX, sweep_looks,
};
pub use self::origin::{ArgumentOrigin, OriginKind};
pub use self::rule::{ParsedRule, RuleError};
pub use self::standing_answer::{DeclaredRule, RuledCall};
pub use self::standing_rule::{ApprovalRuleRecord, RULE_NAME, RuleAnswer, is_rule_name};
pub use self::state::ApprovalState;
pub use self::suggest::{AnsweredCall, RuleSuggestion, suggest_rules};
pub use self::transition::{ApprovalTransition, approval_transition};

/// A request for approval and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// Its id.
    pub id: ApprovalId,
    /// Whose call it is.
    #[serde(flatten)]
    pub source: CallSource,
    /// What was judged.
    #[serde(flatten)]
    pub judged: JudgedCall,
    /// The rule that asks.
    pub rule: String,
    /// Why it asks.
    pub reason: String,
    /// Who may answer; where the list is empty, every actor with the scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Actor>,
    /// When it was asked for, and until when it counts.
    #[serde(flatten)]
    pub deadlines: ApprovalDeadlines,
    /// Its state as the row has it; never [`ApprovalState::Expired`].
    pub state: ApprovalState,
    /// Whether the run let go of it before it was answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerRecord>,
    /// The run whose call began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<RunId>,
}

/// Which call of which run asks for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSource {
    /// The agent whose call it is.
    pub agent: AgentId,
    /// The session in which it asked.
    pub session: SessionId,
    /// The run that asked.
    pub run: RunId,
    /// The call.
    pub call: CallId,
    /// On whose input the run worked.
    pub author: Actor,
    /// How many agents in a row led to that input.
    pub hops: u32,
}

/// A call as the gate judged it, and the digests that bind the answer to exactly this call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedCall {
    /// The join of the labels of everything that led to the call.
    pub context: Label,
    /// What of the call was typed and planned when it was asked for.
    pub provenance: CallProvenance,
    /// The tool.
    pub tool: String,
    /// The canonical arguments, byte for byte what would be executed.
    pub arguments: String,
    /// The digest of tool and arguments.
    pub action: Digest,
    /// BLAKE3 of everything that was judged: action, tool, destination, limits, files, principal, rule and policy.
    pub binding: Digest,
    /// The parts of which the binding is made.
    pub bound: BoundParts,
    /// Where the arguments came from, in their order.
    pub origins: Vec<ArgumentOrigin>,
}

/// Until when an approval may be answered, and what time does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDeadlines {
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Until when the run waits for it.
    pub holds_until: Timestamp,
    /// Until when it may be answered.
    pub expires_at: Timestamp,
    /// When the engine allows it, unless it was answered earlier; absent where only a person can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<Timestamp>,
}

impl ApprovalRequest {
    /// Returns the verdict that asked for it and its rule: `ask RULE`, or `delay RULE` where time allows the call too.
    pub fn asked_by(&self) -> String {
        format!("{} {}", if self.deadlines.cools_until.is_some() { "delay" } else { "ask" }, self.rule)
    }

    /// Returns its state at a time.
    pub fn state_at(&self, now: Timestamp) -> ApprovalState {
        if self.state.is_open() && now >= self.deadlines.expires_at {
            ApprovalState::Expired
        } else {
            self.state
        }
    }

    /// Returns whether it counts as open at a time, in the milliseconds in which stores count.
    pub fn is_open_at(&self, at: Timestamp) -> bool {
        self.state.is_open() && self.deadlines.expires_at.as_millisecond() > at.as_millisecond()
    }

    /// Returns whether nothing moves it any more from this time on, once its [runs](Self::concerned_runs) have ended.
    pub fn is_over_at(&self, at: Timestamp) -> bool {
        match self.state {
            ApprovalState::Holding | ApprovalState::Waiting => !self.is_open_at(at),
            ApprovalState::Approved => false,
            ApprovalState::Denied
            | ApprovalState::Used
            | ApprovalState::Withdrawn
            | ApprovalState::Expired => true,
        }
    }

    /// Lists the runs that look at it while they go on: the one that asked, and the one whose call began.
    pub fn concerned_runs(&self) -> impl Iterator<Item = RunId> {
        std::iter::once(self.source.run).chain(self.used_by)
    }

    /// Returns when it becomes allowed by itself, while it is unanswered.
    pub fn cooling_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.deadlines.cools_until.filter(|_| self.state_at(now).is_open())
    }

    /// Returns whether its time to cool is over without an answer.
    pub fn has_cooled(&self, now: Timestamp) -> bool {
        self.cooling_at(now).is_some_and(|until| until <= now)
    }

    /// Returns whether a caller may answer it, besides having the scope. A token is named by its id: any admin of the
    /// tenant can give its name to another one.
    pub fn may_be_answered_by(&self, scope: &Scope) -> bool {
        let is_named = |approver: &Actor| match approver.as_str().strip_prefix("token:") {
            Some(id) => scope.token_id().is_some_and(|token| id == token.to_string()),
            None => scope.token_id().is_none() && approver == scope.actor(),
        };
        self.approvers.is_empty() || self.approvers.iter().any(is_named)
    }

    /// Returns whether an answer repeats the given one: same actor, verdict and reach. Without a reach it is a refusal.
    pub fn is_answered_so(&self, by: &Actor, reach: Option<&ApprovalReach>) -> bool {
        self.answer.as_ref().is_some_and(|known| known.by == *by && known.reach.as_ref() == reach)
    }
}

#[cfg(test)]
mod tests;
