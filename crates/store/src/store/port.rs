//! The port: each read goes to a reader with what its scope sees, each write to the store.
//!
//! Nothing is decided, no row is read and no SQL is written here; `crate::read` and the writer do that on threads of their
//! own.

use bytes::Bytes;

use dromia_contracts::BoxFuture;
use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::Capability;
use dromia_contracts::delivery::{Delivery, DeliveryRecord, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::digest::Digest;
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::id::{
    AgentId, ApprovalId, CapabilityId, DeliveryId, RunId, SessionId, TenantId, TokenId,
};
use dromia_contracts::run::Run;
use dromia_contracts::scope::{Operator, Scope};
use dromia_contracts::session::{InboxItem, InboxOwner, Session, SessionKey};
use dromia_contracts::store::KeyedItem;
use dromia_contracts::store::{
    ApprovalFilter, Batch, Commit, CoolingApproval, DeliveryFilter, OpenRun, Page, PendingSession, Read,
    RunFilter, RunSpending, SessionTail, StateEntry, Store, StoreHealth, StoreStats, StoredEntry, TailLimits,
    TokenOwner,
};
use dromia_contracts::token::Token;
use dromia_contracts::vault::SealedSecret;

use super::SqliteStore;
use crate::read::{self, View};

impl Store for SqliteStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        self.write(batch)
    }

    fn tenants<'a>(&'a self, _: &'a Operator, page: Page<TenantId>) -> Read<'a, Vec<Tenant>> {
        self.read(move |r| read::tenant::list(&r.db, page))
    }

    fn tenant_by_handle<'a>(&'a self, _: &'a Operator, handle: &'a Handle) -> Read<'a, Option<Tenant>> {
        let handle = handle.clone();
        self.read(move |r| read::tenant::by_handle(&r.db, &handle))
    }

    fn token<'a>(&'a self, _: &'a Operator, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        self.read(move |r| read::token::owner(&r.db, hash))
    }

    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        page: Page<TokenId>,
    ) -> Read<'a, Vec<Token>> {
        let (view, name) = (View::of(scope), name.map(str::to_owned));
        self.read(move |r| read::token::list(&r.db, view, name.as_deref(), page))
    }

    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<Token>> {
        let view = View::of(scope);
        self.read(move |r| read::token::by_id(&r.db, view, token))
    }

    fn budgets<'a>(&'a self, scope: &'a Scope, at: jiff::Timestamp) -> Read<'a, Vec<BudgetUse>> {
        let view = View::of(scope);
        self.read(move |r| read::budget::list(&r.db, view, at))
    }

    fn approval<'a>(&'a self, scope: &'a Scope, approval: ApprovalId) -> Read<'a, Option<Approval>> {
        let view = View::of(scope);
        self.read(move |r| read::approval::by_id(&r.db, view, approval))
    }

    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        page: Page<ApprovalId>,
    ) -> Read<'a, Vec<Approval>> {
        let view = View::of(scope);
        self.read(move |r| read::approval::list(&r.db, view, filter, page))
    }

    fn cooling_approvals<'a>(
        &'a self,
        _: &'a Operator,
        open_at: jiff::Timestamp,
        skip: usize,
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>> {
        self.read(move |r| read::approval::cooling(&r.db, open_at, skip, limit))
    }

    fn approval_rules<'a>(&'a self, scope: &'a Scope) -> Read<'a, Vec<ApprovalRule>> {
        let view = View::of(scope);
        self.read(move |r| read::approval::rules(&r.db, view))
    }

    fn open_runs<'a>(&'a self, _: &'a Operator, page: Page<(TenantId, RunId)>) -> Read<'a, Vec<OpenRun>> {
        self.read(move |r| read::run::open(&r.db, page))
    }

    fn parked_runs<'a>(
        &'a self,
        _: &'a Operator,
        page: Page<(jiff::Timestamp, TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        self.read(move |r| read::run::parked(&r.db, page))
    }

    fn pending_sessions<'a>(
        &'a self,
        _: &'a Operator,
        page: Page<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>> {
        self.read(move |r| read::session::pending(&r.db, page))
    }

    fn deleting_agents<'a>(&'a self, _: &'a Operator) -> Read<'a, Vec<(TenantId, AgentId)>> {
        self.read(move |r| read::agent::deleting(&r.db))
    }

    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        state: Option<AgentState>,
        page: Page<AgentId>,
    ) -> Read<'a, Vec<Agent>> {
        let view = View::of(scope);
        self.read(move |r| read::agent::list(&r.db, view, state, page))
    }

    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<Agent>> {
        let view = View::of(scope);
        self.read(move |r| read::agent::by_id(&r.db, view, agent))
    }

    fn agent_by_handle<'a>(&'a self, scope: &'a Scope, handle: &'a Handle) -> Read<'a, Option<Agent>> {
        let (view, handle) = (View::of(scope), handle.clone());
        self.read(move |r| read::agent::by_handle(&r.db, view, &handle))
    }

    fn revision<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        digest: Digest,
    ) -> Read<'a, Option<Revision>> {
        let view = View::of(scope);
        self.read(move |r| read::agent::revision(&r.db, view, agent, digest))
    }

    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<Session>> {
        let view = View::of(scope);
        self.read(move |r| read::session::by_id(&r.db, view, session))
    }

    fn session_by_key<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        key: &'a SessionKey,
    ) -> Read<'a, Option<Session>> {
        let (view, key) = (View::of(scope), key.clone());
        self.read(move |r| read::session::by_key(&r.db, view, agent, &key))
    }

    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        page: Page<SessionId>,
    ) -> Read<'a, Vec<Session>> {
        let view = View::of(scope);
        self.read(move |r| read::session::list(&r.db, view, agent, page))
    }

    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        let view = View::of(scope);
        self.read(move |r| read::tail::read(r, view, session, limits))
    }

    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<Run>> {
        let view = View::of(scope);
        self.read(move |r| read::run::by_id(&r.db, view, run))
    }

    fn runs<'a>(&'a self, scope: &'a Scope, filter: RunFilter, page: Page<RunId>) -> Read<'a, Vec<Run>> {
        let view = View::of(scope);
        self.read(move |r| read::run::list(&r.db, view, filter, page))
    }

    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        page: Page<RunId>,
    ) -> Read<'a, Vec<RunSpending>> {
        let view = View::of(scope);
        self.read(move |r| read::cost::list(&r.db, view, filter, page))
    }

    fn journal<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>> {
        let view = View::of(scope);
        self.read(move |r| read::journal::page(r, view, run, after, limit))
    }

    fn inbox<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        let view = View::of(scope);
        self.read(move |r| read::session::inbox(r, view, owner, after, limit))
    }

    fn keyed<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        at: jiff::Timestamp,
    ) -> Read<'a, Option<KeyedItem>> {
        let (view, key) = (View::of(scope), key.to_owned());
        self.read(move |r| read::key::seen(&r.db, view, &key, at))
    }

    fn pin<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>> {
        let view = View::of(scope);
        self.read(move |r| read::session::pin(&r.db, view, digest))
    }

    fn state<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        page: Page<&'a str>,
    ) -> Read<'a, Vec<StateEntry>> {
        let view = View::of(scope);
        let (after, limit) = (page.after.map(str::to_owned), page.limit);
        self.read(move |r| read::session::state(&r.db, view, session, after.as_deref(), limit))
    }

    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>> {
        let view = View::of(scope);
        let name = name.to_owned();
        self.read(move |r| read::session::state_entry(&r.db, view, session, &name))
    }

    fn delivery<'a>(&'a self, scope: &'a Scope, delivery: DeliveryId) -> Read<'a, Option<DeliveryRecord>> {
        let view = View::of(scope);
        self.read(move |r| read::delivery::by_id(&r.db, view, delivery))
    }

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        page: Page<DeliveryId>,
    ) -> Read<'a, Vec<Delivery>> {
        let view = View::of(scope);
        self.read(move |r| read::delivery::list(&r.db, view, &filter, page))
    }

    fn outbox<'a>(&'a self, _: &'a Operator, page: Page<(TenantId, String)>) -> Read<'a, Vec<OpenDelivery>> {
        self.read(move |r| read::delivery::outbox(&r.db, &page))
    }

    fn outbox_waiting<'a>(&'a self, _: &'a Operator, tenant: TenantId, target: &'a str) -> Read<'a, u64> {
        let target = target.to_owned();
        self.read(move |r| read::delivery::waiting(&r.db, tenant, &target))
    }

    fn unnumbered<'a>(
        &'a self,
        _: &'a Operator,
        after: Option<TenantId>,
        limit: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        self.read(move |r| read::delivery::unnumbered(&r.db, after, limit))
    }

    fn feed<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>> {
        let view = View::of(scope);
        self.read(move |r| read::delivery::feed(&r.db, view, after, limit))
    }

    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState> {
        let view = View::of(scope);
        self.read(move |r| read::delivery::feed_state(&r.db, view))
    }

    fn vault_key<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<Bytes>> {
        let view = View::of(scope);
        self.read(move |r| read::vault::key(&r.db, view))
    }

    fn secrets<'a>(&'a self, scope: &'a Scope, page: Page<&'a str>) -> Read<'a, Vec<SealedSecret>> {
        let view = View::of(scope);
        let (after, limit) = (page.after.map(str::to_owned), page.limit);
        self.read(move |r| read::vault::list(&r.db, view, &Page { after: after.as_deref(), limit }))
    }

    fn secret<'a>(&'a self, scope: &'a Scope, name: &'a str) -> Read<'a, Option<SealedSecret>> {
        let view = View::of(scope);
        let name = name.to_owned();
        self.read(move |r| read::vault::by_name(&r.db, view, &name))
    }

    fn capabilities<'a>(&'a self, scope: &'a Scope, page: Page<CapabilityId>) -> Read<'a, Vec<Capability>> {
        let view = View::of(scope);
        self.read(move |r| read::capability::list(&r.db, view, &page))
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        let (view, path) = (View::of(scope), path.to_owned());
        self.read(move |r| read::file::known(&r.db, view, agent, &path))
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        page: Page<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        let (view, after) = (View::of(scope), page.after.map(str::to_owned));
        self.read(move |r| {
            let page = Page { after: after.as_deref(), limit: page.limit };
            read::file::list(&r.db, view, agent, &page)
        })
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (Erased, bool)> {
        self.erase_page(scope, agent)
    }

    fn health(&self) -> StoreHealth {
        let length = |path| std::fs::metadata(path).as_ref().map_or(0, std::fs::Metadata::len);
        StoreHealth {
            read_only: self.gauge.read_only(),
            damaged: self.gauge.damaged(),
            wal_bytes: length(self.config.wal()),
            file_bytes: length(self.config.database()),
        }
    }

    fn stats(&self) -> StoreStats {
        self.gauge.stats()
    }
}
