//! A store that forgets the scope of one read: a planted fault that the tests must notice.
//!
//! It wraps another store. The read whose scope it forgets finds rows of either tenant, those of the other tenant
//! first; all others go through. If it forgets [`KEYS`], both tenants share the keys that clients choose. No correct
//! store does so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::agent::TenantCounts;
use dromia_contracts::delivery::FeedState;
use dromia_contracts::file::KnownFile;
use dromia_contracts::retention::IdlePage;
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, InboxPut, Mutation, Read, SpendingSum, Store, StoreWrapper, TokenOwner,
    WriteBatch,
};
use dromia_contracts::{
    Actor, BoxFuture, Digest, OperatorScope, Scope, ScopeAuthority, TenantId, replay_store_reads,
};

use crate::conformance::random::tenant_id;

/// What a store forgets whose keys of clients are not a tenant's own.
pub const KEYS: &str = "keys";

/// A store that forgets one thing.
#[derive(Debug)]
pub struct ForgetfulStore {
    inner: Arc<dyn Store>,
    forgets: &'static str,
    keys: Mutex<HashMap<String, (TenantId, InboxPut)>>,
    /// The hashes of all tokens, and whose they are.
    tokens: Mutex<Vec<(TenantId, Digest)>>,
}

impl ForgetfulStore {
    /// Forgets the scope of a read, by its name, or [`KEYS`].
    pub fn new(inner: Arc<dyn Store>, forgets: &'static str) -> Self {
        Self { inner, forgets, keys: Mutex::default(), tokens: Mutex::default() }
    }

    /// Finds the key of a batch that another tenant has used, and keeps the unused ones.
    fn taken_key(&self, batch: &WriteBatch) -> Option<CommitRefusal> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for mutation in &batch.mutations {
            let Mutation::InboxPut(put) = mutation else { continue };
            let Some(key) = &put.key else { continue };
            let (tenant, first) = keys.entry(key.key.clone()).or_insert_with(|| (batch.tenant, put.clone()));
            if *tenant != batch.tenant {
                return Some(CommitRefusal::KeyTaken {
                    item: first.item,
                    owner: first.owner,
                    position: 1,
                    request: key.request,
                });
            }
        }
        None
    }
}

/// The other one of the two tenants.
fn other_tenant(tenant: TenantId) -> TenantId {
    if tenant == tenant_id(0) { tenant_id(1) } else { tenant_id(0) }
}

/// A scope that sees all of the other tenant.
fn elsewhere(scope: &Scope) -> Scope {
    ScopeAuthority::claim().issue_scope(other_tenant(scope.tenant()), Actor::new("test:forgetful"))
}

/// What a read finds that does not ask whose a row is.
trait MixedRead {
    fn mixed_with(self, strange: Self) -> Self;
}

impl<T> MixedRead for Option<T> {
    fn mixed_with(self, strange: Self) -> Self {
        strange.or(self)
    }
}

impl<T> MixedRead for Vec<T> {
    fn mixed_with(self, mut strange: Self) -> Self {
        strange.extend(self);
        strange
    }
}

impl MixedRead for SpendingSum {
    fn mixed_with(mut self, strange: Self) -> Self {
        self.runs += strange.runs;
        self.spent.add(strange.spent);
        self
    }
}

impl MixedRead for TenantCounts {
    fn mixed_with(self, strange: Self) -> Self {
        Self {
            agents: self.agents + strange.agents,
            sessions: self.sessions + strange.sessions,
            open_runs: self.open_runs + strange.open_runs,
        }
    }
}

impl MixedRead for IdlePage {
    fn mixed_with(self, strange: Self) -> Self {
        Self { due: strange.due.mixed_with(self.due), next: strange.next }
    }
}

impl MixedRead for KnownFile {
    fn mixed_with(self, strange: Self) -> Self {
        Self { file: strange.file.or(self.file), rest: strange.rest }
    }
}

impl MixedRead for FeedState {
    fn mixed_with(self, strange: Self) -> Self {
        Self {
            last: self.last.max(strange.last),
            subscribers: strange.subscribers.mixed_with(self.subscribers),
        }
    }
}

/// A read of a tenant answers for either tenant, if it is the one whose scope is forgotten. Reads of the whole node go on to
/// the wrapped store, except the two that the store defines itself.
macro_rules! forgettable_read {
    (OperatorScope $($read:tt)*) => {};
    (Scope $name:ident($scope:ident $(, $argument:ident: $kind:ty)*) -> $output:ty) => {
        fn $name<'a>(&'a self, $scope: &'a Scope $(, $argument: $kind)*) -> Read<'a, $output> {
            if self.forgets != stringify!($name) {
                return self.inner.$name($scope $(, $argument)*);
            }
            Box::pin(async move {
                let other = elsewhere($scope);
                let own = self.inner.$name($scope $(, Clone::clone(&$argument))*).await?;
                let strange = self.inner.$name(&other $(, $argument)*).await?;
                Ok(own.mixed_with(strange))
            })
        }
    };
}

macro_rules! forgettable_reads {
    ($($(#[$text:meta])*
    fn $name:ident($scope:ident: $reach:ident $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        $(forgettable_read! { $reach $name($scope $(, $argument: $kind)*) -> $output })+
    };
}

impl StoreWrapper for ForgetfulStore {
    fn wrapped_store(&self) -> &dyn Store {
        &*self.inner
    }

    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        if self.forgets == KEYS
            && let Some(refusal) = self.taken_key(&batch)
        {
            return Box::pin(std::future::ready(CommitOutcome::Refused(refusal)));
        }
        let made = batch.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::TokenCreate(create) => Some((batch.tenant, create.hash)),
            _ => None,
        });
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        self.inner.commit(batch)
    }

    replay_store_reads! { forgettable_reads }

    /// If it forgets this read, it answers with a token of the other tenant.
    fn find_token_owner<'a>(
        &'a self,
        operator: &'a OperatorScope,
        hash: Digest,
    ) -> Read<'a, Option<TokenOwner>> {
        if self.forgets != "find_token_owner" {
            return self.inner.find_token_owner(operator, hash);
        }
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = tokens.iter().find(|(_, known)| *known == hash).map(|(tenant, _)| *tenant);
        let strange = tokens.iter().find(|(tenant, _)| Some(*tenant) != owner).map(|(_, hash)| *hash);
        drop(tokens);
        Box::pin(async move {
            let own = self.inner.find_token_owner(operator, hash).await?;
            let strange = self.inner.find_token_owner(operator, strange.unwrap_or(hash)).await?;
            Ok(own.mixed_with(strange))
        })
    }

    fn outbox_waiting<'a>(
        &'a self,
        operator: &'a OperatorScope,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, u64> {
        if self.forgets != "outbox_waiting" {
            return self.inner.outbox_waiting(operator, tenant, target);
        }
        Box::pin(async move {
            let own = self.inner.outbox_waiting(operator, tenant, target).await?;
            Ok(own + self.inner.outbox_waiting(operator, other_tenant(tenant), target).await?)
        })
    }
}
