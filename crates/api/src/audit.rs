//! The audit on the wire: records of who did and decided what, and why one of them is as it is.
//!
//! No secret travels here: what is said in a journal is no part of a record, and what looks like a secret is taken out of
//! the words that are.

use dromia_contracts::{AgentId, CallId, Digest, RunId, SessionId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The event of a stream that carries a record. Its id is the record's `place`.
pub const EVENT_RECORD: &str = "record";

/// The event with which a stream begins.
pub const EVENT_BEGUN: &str = "begun";

/// Where a stream begins, so that a reader that is cut off before its first record knows what to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditBegun")]
pub struct AuditStreamStart {
    /// The place; what follows it comes.
    pub place: String,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuditDecision")]
pub enum AuditDecision {
    /// It may happen.
    Allow,
    /// It may not happen.
    Deny,
}

impl AuditDecision {
    /// Returns the decision as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// One record: a decision, an effect, or a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
pub struct AuditRecord {
    /// Its id: `RUN:ENTRY`, for a request to another host `RUN:ENTRY:N`, for a change `act:SEAL`.
    pub id: String,
    /// Its position in the tenant's chain; send it as `after` to read what follows. `0.0.0` where one record was asked
    /// for by its id.
    pub place: String,
    /// When it happened.
    pub at: Timestamp,
    /// What it is: the kind of the journal's entry, `egress`, or the kind of the change.
    pub kind: String,
    /// Who did it, where the record names an actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Whether the input that says who did it is damaged or gone. A list of one actor's records has such a record too, because
    /// it may be that actor's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub actor_unread: bool,
    /// The agent that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The session in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The run that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The call that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// What it is about: a tool, a model, a host, a handle, a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What was decided, where something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<AuditDecision>,
    /// The rule that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How it ended, or the new state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The digest of the canonical action that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Digest>,
    /// The chain up to it: the journal's, or the tenant's for a change.
    pub chain: Digest,
}

/// One fact that a record rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditFact")]
pub struct AuditFact {
    /// What it says: `author`, `agent`, `revision`, `grants`, `signal`.
    pub name: String,
    /// What it is.
    pub value: String,
}

/// Why a record is as it is: who asked, by what right, what was decided, and what is no longer known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditExplained")]
pub struct RecordExplanation {
    /// The record.
    pub record: AuditRecord,
    /// Which rule decided it and why, in words.
    pub why: String,
    /// Who asked and by what right, in order.
    pub facts: Vec<AuditFact>,
    /// What is missing that would say more.
    pub missing: Vec<String>,
}

/// What a file of records says about itself, in its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportAbout {
    /// The tenant's handle.
    pub tenant: String,
    /// When it was written.
    pub at: Timestamp,
    /// The place in the chain behind which nothing was there at that time.
    pub until_place: String,
    /// The filters, as they were asked for.
    pub filters: String,
}
