//! What was judged before: the verdicts on requests to a model and on replies, which come with every turn and differ in little.
//!
//! A policy has no clock, no randomness and no state, so the same question has the same answer for as long as the same files
//! count. What it refuses to do: know a verdict on a call of a tool, whose arguments differ each time, keep one of a policy
//! that broke, which may have been the machine, and keep more than [`VERDICTS_MAX`].

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{GateAction, Principal};
use dromia_contracts::id::{AgentId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::scope::Actor;
use quick_cache::sync::Cache;

use super::PolicyDecision;

/// The most verdicts that are known at a time.
const VERDICTS_MAX: usize = 4096;

/// Everything of a question that a verdict may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct VerdictKey {
    policy: Digest,
    tenant: TenantId,
    agent: Option<AgentId>,
    author: Actor,
    capability: String,
    context: Label,
    is_sensitive: bool,
    what: VerdictSubject,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum VerdictSubject {
    Model(String),
    /// Into this session, where a policy of the operator's own may look at it.
    Reply(Option<SessionId>),
}

impl VerdictKey {
    /// Takes a question, if it is one whose verdict may be known. `own` tells whether the operator has policies of his own: the
    /// built-in one does not look at the session of a reply.
    pub(super) fn from_action(
        principal: Principal<'_>,
        action: GateAction<'_>,
        capability: &str,
        policy: Digest,
        own: bool,
    ) -> Option<Self> {
        let what = match action {
            GateAction::Model { model } => VerdictSubject::Model(model.to_owned()),
            GateAction::Reply { session } => VerdictSubject::Reply(own.then_some(session)),
            GateAction::Tool(_) => return None,
        };
        Some(Self {
            policy,
            tenant: principal.scope.tenant(),
            agent: principal.scope.agent(),
            author: principal.author.clone(),
            capability: capability.to_owned(),
            context: principal.context,
            is_sensitive: !principal.plan.sources.is_empty(),
            what,
        })
    }
}

/// The verdicts that are known; the cache evicts by use and holds at most [`VERDICTS_MAX`].
#[derive(Debug)]
pub(super) struct VerdictCache(Cache<VerdictKey, PolicyDecision>);

impl Default for VerdictCache {
    fn default() -> Self {
        Self(Cache::new(VERDICTS_MAX))
    }
}

impl VerdictCache {
    /// Returns what was judged, if it is known.
    pub(super) fn find_verdict(&self, key: &VerdictKey) -> Option<PolicyDecision> {
        self.0.get(key)
    }

    /// Keeps what was judged.
    pub(super) fn keep_verdict(&self, key: VerdictKey, verdict: PolicyDecision) {
        self.0.insert(key, verdict);
    }
}
