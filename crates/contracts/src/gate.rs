//! The gate: one function through which every tool call, every model request and every outgoing message goes.
//!
//! Deny is final, and whatever no grant covers is denied.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::digest::Digest;
use crate::id::{AgentId, SessionId, TenantId};
use crate::label::Label;
use crate::plan::PlanContext;
use crate::scope::{Actor, Scope};
use crate::tool::{EffectSink, PreparedCall};
use crate::tool_catalogue::ToolCatalogue;

/// The rule that denies what no grant covers.
pub const DEFAULT_DENY: &str = "default deny";

/// On whose behalf an action would happen.
#[derive(Debug, Clone, Copy)]
pub struct Principal<'a> {
    /// The tenant and the agent.
    pub scope: &'a Scope,
    /// Whose input the run works on.
    pub author: &'a Actor,
    /// What the agent's configuration grants: tool names, `file.*`, `model`, `reply`, `net:HOST`, `secret:NAME`; and what
    /// the operator says beside it.
    pub grants: &'a [String],
    /// The join of the labels of everything that led here; [`Label::PUBLIC_FACT`] where nothing did.
    pub context: Label,
    /// The arguments of a tool call, by their names, whose value an authenticated actor typed word for word or is the
    /// tool's default.
    pub endorsed: &'a [String],
    /// How a tool call relates to the plan of its turn; [`PlanContext::OPEN`] for whatever is no call of a turn.
    pub plan: PlanContext<'a>,
}

/// What is about to happen.
#[derive(Debug, Clone, Copy)]
pub enum GateAction<'a> {
    /// A tool call in canonical form.
    Tool(&'a PreparedCall),
    /// A request to a model, which is a sink like any other.
    Model {
        /// The alias of the model.
        model: &'a str,
    },
    /// The answer of a run to its session.
    Reply {
        /// The session that would receive it.
        session: SessionId,
    },
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum GateVerdict {
    /// It may happen.
    Allow {
        /// The rule that allowed it.
        rule: String,
        /// The policy that was asked, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Digest>,
    },
    /// It may happen once a person has allowed it, and never otherwise. Only tool calls can wait for a person.
    Ask {
        /// The rule that asks.
        rule: String,
        /// The reason, in words that the model and the person may read.
        reason: String,
        /// The policy that was asked, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Digest>,
    },
    /// It may happen once a time to cool is over, unless a person refuses it before; a person may also allow it earlier.
    /// Only tool calls can wait.
    Delay {
        /// The rule that delays it.
        rule: String,
        /// The reason, in words that the model and the person may read.
        reason: String,
        /// The policy that was asked, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Digest>,
    },
    /// It may not happen; no later layer can change that.
    Deny {
        /// The rule that denied it.
        rule: String,
        /// The reason, in words that the model and the person may read.
        reason: String,
        /// The policy that was asked, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Digest>,
    },
}

/// Which policy counts for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivePolicy {
    /// Its digest, as decisions name it.
    pub digest: Digest,
    /// The files that are asked beside the built-in policy, those of every tenant included.
    pub files: Vec<String>,
    /// What lies there instead and does not count, if anything does.
    pub refused: Option<PolicyRefused>,
}

/// Policies that cannot count, so that the last good ones go on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRefused {
    /// The file, the line, the column and what is wrong.
    pub problem: String,
    /// When it was found that they are wrong; of several in a row, the first.
    pub since: Timestamp,
}

/// Holds what a gate knows of an agent's current rights. A run holds one as long as its list of grants counts.
#[derive(Clone)]
pub struct RightsHold(Option<Arc<dyn Any + Send + Sync>>);

impl RightsHold {
    /// A hold of nothing, of a gate that knows no current rights.
    pub const NOTHING: Self = Self(None);

    /// Holds something until the last copy is dropped.
    pub fn new(held: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Some(held))
    }
}

impl fmt::Debug for RightsHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RightsHold").field(&self.0.is_some()).finish()
    }
}

/// What a word among a run's grants begins with that says whose they are. What comes before it is what the run began with
/// and counts as far as the agent's current configuration grants it; what comes after it is the operator's. No
/// configuration of an agent may hold it.
pub const RIGHTS_OF: &str = "rights-of:";

/// Spells the word that says whose grants come before it.
pub fn rights_word(tenant: TenantId, agent: AgentId) -> String {
    format!("{RIGHTS_OF}{tenant}/{agent}")
}

/// The port to the gate.
///
/// Guarantee: pure and total; under the same policy the same principal and action get the same verdict, and an error is
/// a deny.
pub trait Gate: Send + Sync + fmt::Debug {
    /// Says what is wrong with a list of grants, if anything is: one for a tool that is not among these, for example. An agent
    /// with bad grants is not registered.
    fn check_grants(&self, grants: &[String], tools: &ToolCatalogue) -> Result<(), String>;

    /// Judges one action. It may take a while: rules of an operator's own are evaluated apart from this process.
    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict>;

    /// Notes what an agent's configuration grants now, by the number of its revision; an older one than is known changes
    /// nothing. From then on grants that [`rights_word`] marks as the agent's count no further than that.
    fn note_rights(&self, tenant: TenantId, agent: AgentId, number: u64, grants: &[String]) -> RightsHold;

    /// Returns what a list of grants and a bound both cover, as far as their spelling shows it, with what either takes away.
    /// Without more knowledge that is what both spell alike.
    fn share_grants(&self, grants: &[String], bound: &[String]) -> Vec<String> {
        grants.iter().filter(|grant| bound.contains(grant)).cloned().collect()
    }

    /// Waits until these grants cover a call no longer, and returns the rule that denies it. Policies are not asked: they
    /// judge what begins.
    fn await_withdrawal<'a>(
        &'a self,
        scope: &'a Scope,
        grants: &'a [String],
        call: &'a PreparedCall,
    ) -> BoxFuture<'a, String>;

    /// Returns where the effect of a call is seen, as policies see it; `Outside` where that is unknown.
    fn call_sink(&self, call: &PreparedCall) -> EffectSink;

    /// Returns whether a call cannot be undone: it changes something where others see it. Where that is unknown, it
    /// counts as outside.
    fn is_irreversible(&self, call: &PreparedCall) -> bool;

    /// Returns which policy counts for a tenant; nothing where none is asked.
    fn tenant_policy(&self, _tenant: TenantId) -> Option<ActivePolicy> {
        None
    }
}
