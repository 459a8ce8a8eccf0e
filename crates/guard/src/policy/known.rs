//! What was judged before: the verdicts on requests to a model and on replies, which come with every turn and differ in little.
//!
//! A policy has no clock, no randomness and no state, so the same question has the same answer for as long as the same files
//! count. What it refuses to do: know a verdict on a call of a tool, whose arguments differ each time, keep one of a policy
//! that broke, which may have been the machine, and keep more than [`KEPT_MAX`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{Action, Principal};
use dromia_contracts::id::{AgentId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::scope::Actor;

use super::Judged;

/// The most verdicts that are known at a time.
pub(super) const KEPT_MAX: usize = 4096;

/// Everything of a question that a verdict may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    policy: Digest,
    tenant: TenantId,
    agent: Option<AgentId>,
    author: Actor,
    capability: String,
    context: Label,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Model(String),
    /// Into this session, where a policy of the operator's own may look at it.
    Reply(Option<SessionId>),
}

impl Asked {
    /// Takes a question, if it is one whose verdict may be known. `own` tells whether the operator has policies of his own: the
    /// built-in one does not look at the session of a reply.
    pub(super) fn of(
        principal: Principal<'_>,
        action: Action<'_>,
        capability: &str,
        policy: Digest,
        own: bool,
    ) -> Option<Self> {
        let what = match action {
            Action::Model { model } => What::Model(model.to_owned()),
            Action::Reply { session } => What::Reply(own.then_some(session)),
            Action::Tool(_) => return None,
        };
        Some(Self {
            policy,
            tenant: principal.scope.tenant(),
            agent: principal.scope.agent(),
            author: principal.author.clone(),
            capability: capability.to_owned(),
            context: principal.context,
            what,
        })
    }
}

/// The verdicts that are known, in two halves: when the newer is full it becomes the older, which goes.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    newer: HashMap<Asked, Judged>,
    older: HashMap<Asked, Judged>,
}

impl Verdicts {
    /// Returns what was judged, if it is known.
    pub(super) fn of(&self, asked: &Asked) -> Option<Judged> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judged) = halves.newer.get(asked) {
            return Some(judged.clone());
        }
        let judged = halves.older.get(asked)?.clone();
        halves.keep(asked.clone(), judged.clone());
        Some(judged)
    }

    /// Keeps what was judged.
    pub(super) fn keep(&self, asked: Asked, judged: Judged) {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner).keep(asked, judged);
    }
}

impl Halves {
    fn keep(&mut self, asked: Asked, judged: Judged) {
        if self.newer.len() >= KEPT_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(asked, judged);
    }
}
