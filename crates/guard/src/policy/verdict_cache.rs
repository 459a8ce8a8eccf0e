//! What was judged before: the verdicts on requests to a model and on replies, which come with every turn and differ in little.
//!
//! A policy has no clock, no randomness and no state, so the same question has the same answer for as long as the same files
//! count. What it refuses to do: know a verdict on a call of a tool, whose arguments differ each time, keep one of a policy
//! that broke, which may have been the machine, and keep more than [`KEPT_MAX`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{GateAction, Principal};
use dromia_contracts::id::{AgentId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::scope::Actor;

use super::PolicyDecision;

/// The most verdicts that are known at a time.
pub(super) const KEPT_MAX: usize = 4096;

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

/// The verdicts that are known, in two halves: when the newer is full it becomes the older, which goes.
#[derive(Debug, Default)]
pub(super) struct VerdictCache {
    halves: Mutex<CacheGenerations>,
}

#[derive(Debug, Default)]
struct CacheGenerations {
    newer: HashMap<VerdictKey, PolicyDecision>,
    older: HashMap<VerdictKey, PolicyDecision>,
}

impl VerdictCache {
    /// Returns what was judged, if it is known.
    pub(super) fn find_verdict(&self, asked: &VerdictKey) -> Option<PolicyDecision> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judged) = halves.newer.get(asked) {
            return Some(judged.clone());
        }
        let judged = halves.older.get(asked)?.clone();
        halves.insert_verdict(asked.clone(), judged.clone());
        Some(judged)
    }

    /// Keeps what was judged.
    pub(super) fn keep_verdict(&self, asked: VerdictKey, judged: PolicyDecision) {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner).insert_verdict(asked, judged);
    }
}

impl CacheGenerations {
    fn insert_verdict(&mut self, asked: VerdictKey, judged: PolicyDecision) {
        if self.newer.len() >= KEPT_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(asked, judged);
    }
}
