//! A store that forgets the scope of one read, to see that somebody notices.
//!
//! It stands before another store. The read that it forgets finds rows of either tenant, those of the stranger first; all
//! others go through. Where it forgets [`KEYS`], a key that a client chose stands for both tenants. No honest store does so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::Capability;
use dromia_contracts::delivery::{Delivery, DeliveryRecord, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::run::Run;
use dromia_contracts::session::{InboxItem, InboxOwner, Session, SessionKey};
use dromia_contracts::store::{
    ApprovalFilter, Batch, Commit, CoolingApproval, DeliveryFilter, InboxPut, KeyedItem, Mutation, OpenRun,
    Page, PendingSession, Read, Refusal, RunFilter, RunSpending, SessionTail, StateEntry, Store, StoreHealth,
    StoreStats, StoredEntry, TailLimits, TokenOwner,
};
use dromia_contracts::token::Token;
use dromia_contracts::vault::SealedSecret;
use dromia_contracts::{
    Actor, AgentId, ApprovalId, Authority, BoxFuture, CapabilityId, DeliveryId, Digest, Operator, RunId,
    Scope, SessionId, TenantId, TokenId,
};
use jiff::Timestamp;

use crate::conformance::random::tenant_id;

/// What a store forgets whose keys of clients are not a tenant's own.
pub const KEYS: &str = "keys";

/// A store that forgets one thing.
#[derive(Debug)]
pub struct Forgetful {
    inner: Arc<dyn Store>,
    forgets: &'static str,
    keys: Mutex<HashMap<String, (TenantId, InboxPut)>>,
    /// The hashes of all tokens, and whose they are.
    tokens: Mutex<Vec<(TenantId, Digest)>>,
}

impl Forgetful {
    /// Forgets the scope of a read, by its name, or [`KEYS`].
    pub fn new(inner: Arc<dyn Store>, forgets: &'static str) -> Self {
        Self { inner, forgets, keys: Mutex::default(), tokens: Mutex::default() }
    }

    /// Finds the key of a batch that another tenant has used, and keeps those that nobody has.
    fn taken(&self, batch: &Batch) -> Option<Refusal> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for mutation in &batch.mutations {
            let Mutation::InboxPut(put) = mutation else { continue };
            let Some(key) = &put.key else { continue };
            let (tenant, first) = keys.entry(key.key.clone()).or_insert_with(|| (batch.tenant, put.clone()));
            if *tenant != batch.tenant {
                return Some(Refusal::KeyTaken {
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
fn other(tenant: TenantId) -> TenantId {
    if tenant == tenant_id(0) { tenant_id(1) } else { tenant_id(0) }
}

/// A scope that sees all of the other tenant.
fn elsewhere(scope: &Scope) -> Scope {
    Authority::claim().scope(other(scope.tenant()), Actor::new("test:forgetful"))
}

/// What a read finds that does not ask whose a row is.
trait Mixed {
    fn mixed_with(self, strange: Self) -> Self;
}

impl<T> Mixed for Option<T> {
    fn mixed_with(self, strange: Self) -> Self {
        strange.or(self)
    }
}

impl<T> Mixed for Vec<T> {
    fn mixed_with(self, mut strange: Self) -> Self {
        strange.extend(self);
        strange
    }
}

impl Mixed for KnownFile {
    fn mixed_with(self, strange: Self) -> Self {
        Self { file: strange.file.or(self.file), rest: strange.rest }
    }
}

impl Mixed for FeedState {
    fn mixed_with(self, strange: Self) -> Self {
        Self {
            last: self.last.max(strange.last),
            subscribers: strange.subscribers.mixed_with(self.subscribers),
        }
    }
}

/// Reads of the whole node, which go through.
macro_rules! pass_through {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)+) => {
        $(fn $name<'a>(&'a self, $($argument: $kind),*) -> Read<'a, $output> {
            self.inner.$name($($argument),*)
        })+
    };
}

/// Reads of a tenant, one of which is forgotten.
macro_rules! forgettable {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)+) => {
        $(fn $name<'a>(&'a self, scope: &'a Scope, $($argument: $kind),*) -> Read<'a, $output> {
            if self.forgets != stringify!($name) {
                return self.inner.$name(scope, $($argument),*);
            }
            Box::pin(async move {
                let other = elsewhere(scope);
                let own = self.inner.$name(scope, $($argument),*).await?;
                let strange = self.inner.$name(&other, $($argument),*).await?;
                Ok(own.mixed_with(strange))
            })
        })+
    };
}

impl Store for Forgetful {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        if self.forgets == KEYS
            && let Some(refusal) = self.taken(&batch)
        {
            return Box::pin(std::future::ready(Commit::Refused(refusal)));
        }
        let made = batch.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::TokenCreate(create) => Some((batch.tenant, create.hash)),
            _ => None,
        });
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        self.inner.commit(batch)
    }

    pass_through! {
        fn tenants(operator: &'a Operator, page: Page<TenantId>) -> Vec<Tenant>;
        fn tenant_by_handle(operator: &'a Operator, handle: &'a Handle) -> Option<Tenant>;
        fn open_runs(operator: &'a Operator, page: Page<(TenantId, RunId)>) -> Vec<OpenRun>;
        fn parked_runs(operator: &'a Operator, page: Page<(Timestamp, TenantId, RunId)>) -> Vec<OpenRun>;
        fn pending_sessions(operator: &'a Operator, page: Page<(TenantId, SessionId)>) -> Vec<PendingSession>;
        fn deleting_agents(operator: &'a Operator) -> Vec<(TenantId, AgentId)>;
        fn cooling_approvals(operator: &'a Operator, open_at: Timestamp, skip: usize, limit: usize) -> Vec<CoolingApproval>;
        fn outbox(operator: &'a Operator, page: Page<(TenantId, String)>) -> Vec<OpenDelivery>;
        fn unnumbered(operator: &'a Operator, after: Option<TenantId>, limit: usize) -> Vec<(TenantId, DeliveryId)>;
        fn erase_agent_page(scope: &'a Scope, agent: AgentId) -> (Erased, bool);
    }

    forgettable! {
        fn tokens(name: Option<&'a str>, page: Page<TokenId>) -> Vec<Token>;
        fn token_by_id(token: TokenId) -> Option<Token>;
        fn budgets(at: Timestamp) -> Vec<BudgetUse>;
        fn approval(approval: ApprovalId) -> Option<Approval>;
        fn approvals(filter: ApprovalFilter, page: Page<ApprovalId>) -> Vec<Approval>;
        fn approval_rules() -> Vec<ApprovalRule>;
        fn agents(state: Option<AgentState>, page: Page<AgentId>) -> Vec<Agent>;
        fn agent(agent: AgentId) -> Option<Agent>;
        fn agent_by_handle(handle: &'a Handle) -> Option<Agent>;
        fn revision(agent: AgentId, digest: Digest) -> Option<Revision>;
        fn session(session: SessionId) -> Option<Session>;
        fn session_by_key(agent: AgentId, key: &'a SessionKey) -> Option<Session>;
        fn sessions(agent: Option<AgentId>, page: Page<SessionId>) -> Vec<Session>;
        fn session_tail(session: SessionId, limits: TailLimits) -> Option<SessionTail>;
        fn run(run: RunId) -> Option<Run>;
        fn runs(filter: RunFilter, page: Page<RunId>) -> Vec<Run>;
        fn run_spending(filter: RunFilter, page: Page<RunId>) -> Vec<RunSpending>;
        fn journal(run: RunId, after: u64, limit: usize) -> Vec<StoredEntry>;
        fn inbox(owner: InboxOwner, after: u64, limit: usize) -> Vec<InboxItem>;
        fn keyed(key: &'a str, at: Timestamp) -> Option<KeyedItem>;
        fn pin(digest: Digest) -> Option<Bytes>;
        fn state(session: SessionId, page: Page<&'a str>) -> Vec<StateEntry>;
        fn state_entry(session: SessionId, name: &'a str) -> Option<StateEntry>;
        fn delivery(delivery: DeliveryId) -> Option<DeliveryRecord>;
        fn feed(after: u64, limit: usize) -> Vec<FeedItem>;
        fn feed_state() -> FeedState;
        fn vault_key() -> Option<Bytes>;
        fn secrets(page: Page<&'a str>) -> Vec<SealedSecret>;
        fn secret(name: &'a str) -> Option<SealedSecret>;
        fn capabilities(page: Page<CapabilityId>) -> Vec<Capability>;
        fn file_label(agent: AgentId, path: &'a str) -> KnownFile;
        fn file_labels(agent: AgentId, page: Page<&'a str>) -> Vec<(String, FileLabel)>;
    }

    /// Where it forgets, whoever asks for a token is told of one of the other tenant.
    fn token<'a>(&'a self, operator: &'a Operator, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        if self.forgets != "token" {
            return self.inner.token(operator, hash);
        }
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = tokens.iter().find(|(_, known)| *known == hash).map(|(tenant, _)| *tenant);
        let strange = tokens.iter().find(|(tenant, _)| Some(*tenant) != owner).map(|(_, hash)| *hash);
        drop(tokens);
        Box::pin(async move {
            let own = self.inner.token(operator, hash).await?;
            let strange = self.inner.token(operator, strange.unwrap_or(hash)).await?;
            Ok(own.mixed_with(strange))
        })
    }

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        page: Page<DeliveryId>,
    ) -> Read<'a, Vec<Delivery>> {
        if self.forgets != "deliveries" {
            return self.inner.deliveries(scope, filter, page);
        }
        Box::pin(async move {
            let other = elsewhere(scope);
            let own = self.inner.deliveries(scope, filter.clone(), page).await?;
            let strange = self.inner.deliveries(&other, filter, page).await?;
            Ok(own.mixed_with(strange))
        })
    }

    fn outbox_waiting<'a>(
        &'a self,
        operator: &'a Operator,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, u64> {
        if self.forgets != "outbox_waiting" {
            return self.inner.outbox_waiting(operator, tenant, target);
        }
        Box::pin(async move {
            let own = self.inner.outbox_waiting(operator, tenant, target).await?;
            Ok(own + self.inner.outbox_waiting(operator, other(tenant), target).await?)
        })
    }

    fn health(&self) -> StoreHealth {
        self.inner.health()
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }
}
