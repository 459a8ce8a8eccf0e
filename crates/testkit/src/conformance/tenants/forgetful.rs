//! A store that forgets the scope of one read: a planted fault that the tests must notice.
//!
//! It wraps another store. The read whose scope it forgets finds rows of either tenant, those of the other tenant
//! first; all others go through. If it forgets [`KEYS`], both tenants share the keys that clients choose. No correct
//! store does so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dromia_contracts::agent::{
    AgentRecord, AgentRevision, AgentState, ErasureCounts, HandleSlug, TenantRecord,
};
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::delivery::{DeliveryRecord, DeliverySummary, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use dromia_contracts::store::{
    ApprovalFilter, CommitOutcome, CommitRefusal, CoolingApproval, DeliveryFilter, InboxPut, KeyedItem,
    Mutation, OpenRun, PageRequest, PendingSession, Read, RunFilter, RunSpending, SessionTail, StateEntry,
    Store, StoreHealth, StoreStats, StoredEntry, TailLimits, TokenOwner, WriteBatch,
};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::vault::SealedSecret;
use dromia_contracts::{
    Actor, AgentId, ApprovalId, BoxFuture, CapabilityId, DeliveryId, Digest, OperatorScope, RunId, Scope,
    ScopeAuthority, SessionId, TenantId, TokenId,
};
use jiff::Timestamp;

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

impl Store for ForgetfulStore {
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

    pass_through! {
        fn tenants(operator: &'a OperatorScope, page: PageRequest<TenantId>) -> Vec<TenantRecord>;
        fn tenant_by_handle(operator: &'a OperatorScope, handle: &'a HandleSlug) -> Option<TenantRecord>;
        fn open_runs(operator: &'a OperatorScope, page: PageRequest<(TenantId, RunId)>) -> Vec<OpenRun>;
        fn parked_runs(operator: &'a OperatorScope, page: PageRequest<(Timestamp, TenantId, RunId)>) -> Vec<OpenRun>;
        fn pending_sessions(operator: &'a OperatorScope, page: PageRequest<(TenantId, SessionId)>) -> Vec<PendingSession>;
        fn deleting_agents(operator: &'a OperatorScope) -> Vec<(TenantId, AgentId)>;
        fn cooling_approvals(operator: &'a OperatorScope, open_at: Timestamp, skip: usize, limit: usize) -> Vec<CoolingApproval>;
        fn open_deliveries(operator: &'a OperatorScope, page: PageRequest<(TenantId, String)>) -> Vec<OpenDelivery>;
        fn unnumbered_deliveries(operator: &'a OperatorScope, after: Option<TenantId>, limit: usize) -> Vec<(TenantId, DeliveryId)>;
        fn erase_agent_page(scope: &'a Scope, agent: AgentId) -> (ErasureCounts, bool);
    }

    forgettable! {
        fn tokens(name: Option<&'a str>, page: PageRequest<TokenId>) -> Vec<TokenRecord>;
        fn token_by_id(token: TokenId) -> Option<TokenRecord>;
        fn budgets(at: Timestamp) -> Vec<BudgetUse>;
        fn approval(approval: ApprovalId) -> Option<ApprovalRequest>;
        fn approvals(filter: ApprovalFilter, page: PageRequest<ApprovalId>) -> Vec<ApprovalRequest>;
        fn approval_rules() -> Vec<ApprovalRuleRecord>;
        fn agents(state: Option<AgentState>, page: PageRequest<AgentId>) -> Vec<AgentRecord>;
        fn agent(agent: AgentId) -> Option<AgentRecord>;
        fn agent_by_handle(handle: &'a HandleSlug) -> Option<AgentRecord>;
        fn agent_revision(agent: AgentId, digest: Digest) -> Option<AgentRevision>;
        fn session(session: SessionId) -> Option<SessionRecord>;
        fn session_by_key(agent: AgentId, key: &'a SessionKey) -> Option<SessionRecord>;
        fn sessions(agent: Option<AgentId>, page: PageRequest<SessionId>) -> Vec<SessionRecord>;
        fn session_tail(session: SessionId, limits: TailLimits) -> Option<SessionTail>;
        fn run(run: RunId) -> Option<RunRecord>;
        fn runs(filter: RunFilter, page: PageRequest<RunId>) -> Vec<RunRecord>;
        fn run_spending(filter: RunFilter, page: PageRequest<RunId>) -> Vec<RunSpending>;
        fn journal_entries(run: RunId, after: u64, limit: usize) -> Vec<StoredEntry>;
        fn inbox_items(owner: InboxOwner, after: u64, limit: usize) -> Vec<InboxItem>;
        fn find_keyed_item(key: &'a str, at: Timestamp) -> Option<KeyedItem>;
        fn pinned_text(digest: Digest) -> Option<Bytes>;
        fn session_state(session: SessionId, page: PageRequest<&'a str>) -> Vec<StateEntry>;
        fn state_entry(session: SessionId, name: &'a str) -> Option<StateEntry>;
        fn delivery_record(delivery: DeliveryId) -> Option<DeliveryRecord>;
        fn feed_items(after: u64, limit: usize) -> Vec<FeedItem>;
        fn feed_state() -> FeedState;
        fn vault_key() -> Option<Bytes>;
        fn secrets(page: PageRequest<&'a str>) -> Vec<SealedSecret>;
        fn secret(name: &'a str) -> Option<SealedSecret>;
        fn capabilities(page: PageRequest<CapabilityId>) -> Vec<CapabilityRecord>;
        fn file_label(agent: AgentId, path: &'a str) -> KnownFile;
        fn file_labels(agent: AgentId, page: PageRequest<&'a str>) -> Vec<(String, FileLabel)>;
    }

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

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Read<'a, Vec<DeliverySummary>> {
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

    fn store_health(&self) -> StoreHealth {
        self.inner.store_health()
    }

    fn store_stats(&self) -> StoreStats {
        self.inner.store_stats()
    }
}
