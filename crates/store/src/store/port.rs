//! The port: each read goes to a reader with what its scope sees, each write to the store.
//!
//! Nothing is decided, no row is read and no SQL is written here; `crate::read` and the writer do that on threads of their
//! own.

use bytes::Bytes;

use dromia_contracts::BoxFuture;
use dromia_contracts::agent::{
    AgentRecord, AgentRevision, AgentState, ErasureCounts, HandleSlug, TenantRecord,
};
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::delivery::{DeliveryRecord, DeliverySummary, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::digest::Digest;
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::id::{
    AgentId, ApprovalId, CapabilityId, DeliveryId, RunId, SessionId, TenantId, TokenId,
};
use dromia_contracts::run::RunRecord;
use dromia_contracts::scope::{OperatorScope, Scope};
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use dromia_contracts::store::KeyedItem;
use dromia_contracts::store::{
    ApprovalFilter, CommitOutcome, CoolingApproval, DeliveryFilter, OpenRun, PageRequest, PendingSession,
    Read, RunFilter, RunSpending, SessionTail, StateEntry, Store, StoreHealth, StoreStats, StoredEntry,
    TailLimits, TokenOwner, WriteBatch,
};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::vault::SealedSecret;

use super::SqliteStore;
use crate::read::{self, ScopeView};

impl Store for SqliteStore {
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        self.submit_batch(batch)
    }

    fn tenants<'a>(
        &'a self,
        _: &'a OperatorScope,
        page: PageRequest<TenantId>,
    ) -> Read<'a, Vec<TenantRecord>> {
        self.read_for_node(move |r| read::tenant::list_tenants(&r.db, page))
    }

    fn tenant_by_handle<'a>(
        &'a self,
        _: &'a OperatorScope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<TenantRecord>> {
        let handle = handle.clone();
        self.read_for_node(move |r| read::tenant::by_handle(&r.db, &handle))
    }

    fn find_token_owner<'a>(&'a self, _: &'a OperatorScope, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        self.read_for_node(move |r| read::token::find_token_owner(&r.db, hash))
    }

    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        page: PageRequest<TokenId>,
    ) -> Read<'a, Vec<TokenRecord>> {
        let (view, name) = (ScopeView::for_scope(scope), name.map(str::to_owned));
        self.read_of(view.tenant, move |r| read::token::list_tokens(&r.db, view, name.as_deref(), page))
    }

    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<TokenRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::token::by_id(&r.db, view, token))
    }

    fn budgets<'a>(&'a self, scope: &'a Scope, at: jiff::Timestamp) -> Read<'a, Vec<BudgetUse>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::budget::list_budgets(&r.db, view, at))
    }

    fn approval<'a>(&'a self, scope: &'a Scope, approval: ApprovalId) -> Read<'a, Option<ApprovalRequest>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::approval::by_id(&r.db, view, approval))
    }

    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        page: PageRequest<ApprovalId>,
    ) -> Read<'a, Vec<ApprovalRequest>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::approval::list_approvals(&r.db, view, filter, page))
    }

    fn cooling_approvals<'a>(
        &'a self,
        _: &'a OperatorScope,
        open_at: jiff::Timestamp,
        skip: usize,
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>> {
        self.read_for_node(move |r| read::approval::list_delayed(&r.db, open_at, skip, limit))
    }

    fn approval_rules<'a>(&'a self, scope: &'a Scope) -> Read<'a, Vec<ApprovalRuleRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::approval::list_rules(&r.db, view))
    }

    fn open_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        page: PageRequest<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        self.read_for_node(move |r| read::run::list_open_runs(&r.db, page))
    }

    fn parked_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        page: PageRequest<(jiff::Timestamp, TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        self.read_for_node(move |r| read::run::list_parked_runs(&r.db, page))
    }

    fn pending_sessions<'a>(
        &'a self,
        _: &'a OperatorScope,
        page: PageRequest<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>> {
        self.read_for_node(move |r| read::session::list_pending(&r.db, page))
    }

    fn deleting_agents<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<(TenantId, AgentId)>> {
        self.read_for_node(move |r| read::agent::list_deleting(&r.db))
    }

    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        state: Option<AgentState>,
        page: PageRequest<AgentId>,
    ) -> Read<'a, Vec<AgentRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::agent::list_agents(&r.db, view, state, page))
    }

    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<AgentRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::agent::by_id(&r.db, view, agent))
    }

    fn agent_by_handle<'a>(
        &'a self,
        scope: &'a Scope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<AgentRecord>> {
        let (view, handle) = (ScopeView::for_scope(scope), handle.clone());
        self.read_of(view.tenant, move |r| read::agent::by_handle(&r.db, view, &handle))
    }

    fn agent_revision<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        digest: Digest,
    ) -> Read<'a, Option<AgentRevision>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::agent::find_revision(&r.db, view, agent, digest))
    }

    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<SessionRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::session::by_id(&r.db, view, session))
    }

    fn session_by_key<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        key: &'a SessionKey,
    ) -> Read<'a, Option<SessionRecord>> {
        let (view, key) = (ScopeView::for_scope(scope), key.clone());
        self.read_of(view.tenant, move |r| read::session::by_key(&r.db, view, agent, &key))
    }

    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        page: PageRequest<SessionId>,
    ) -> Read<'a, Vec<SessionRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::session::list_sessions(&r.db, view, agent, page))
    }

    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::tail::read_tail(r, view, session, limits))
    }

    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::run::by_id(&r.db, view, run))
    }

    fn runs<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        page: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::run::list_runs(&r.db, view, filter, page))
    }

    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        page: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunSpending>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::cost::list_spending(&r.db, view, filter, page))
    }

    fn journal_entries<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::journal::journal_page(r, view, run, after, limit))
    }

    fn inbox_items<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::session::read_inbox(r, view, owner, after, limit))
    }

    fn find_keyed_item<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        at: jiff::Timestamp,
    ) -> Read<'a, Option<KeyedItem>> {
        let (view, key) = (ScopeView::for_scope(scope), key.to_owned());
        self.read_of(view.tenant, move |r| read::key::find_visible_key(&r.db, view, &key, at))
    }

    fn pinned_text<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::session::find_pin(&r.db, view, digest))
    }

    fn session_state<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<StateEntry>> {
        let view = ScopeView::for_scope(scope);
        let (after, limit) = (page.after.map(str::to_owned), page.limit);
        self.read_of(view.tenant, move |r| {
            read::session::list_state(&r.db, view, session, after.as_deref(), limit)
        })
    }

    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>> {
        let view = ScopeView::for_scope(scope);
        let name = name.to_owned();
        self.read_of(view.tenant, move |r| read::session::state_entry(&r.db, view, session, &name))
    }

    fn delivery_record<'a>(
        &'a self,
        scope: &'a Scope,
        delivery: DeliveryId,
    ) -> Read<'a, Option<DeliveryRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::delivery::by_id(&r.db, view, delivery))
    }

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        page: PageRequest<DeliveryId>,
    ) -> Read<'a, Vec<DeliverySummary>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::delivery::list_deliveries(&r.db, view, &filter, page))
    }

    fn open_deliveries<'a>(
        &'a self,
        _: &'a OperatorScope,
        page: PageRequest<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>> {
        self.read_for_node(move |r| read::delivery::list_outbox(&r.db, &page))
    }

    fn outbox_waiting<'a>(
        &'a self,
        _: &'a OperatorScope,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, u64> {
        let target = target.to_owned();
        self.read_of(tenant, move |r| read::delivery::count_waiting(&r.db, tenant, &target))
    }

    fn unnumbered_deliveries<'a>(
        &'a self,
        _: &'a OperatorScope,
        after: Option<TenantId>,
        limit: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        self.read_for_node(move |r| read::delivery::list_unnumbered(&r.db, after, limit))
    }

    fn feed_items<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::delivery::read_feed(&r.db, view, after, limit))
    }

    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::delivery::feed_state(&r.db, view))
    }

    fn vault_key<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<Bytes>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::vault::find_vault_key(&r.db, view))
    }

    fn secrets<'a>(&'a self, scope: &'a Scope, page: PageRequest<&'a str>) -> Read<'a, Vec<SealedSecret>> {
        let view = ScopeView::for_scope(scope);
        let (after, limit) = (page.after.map(str::to_owned), page.limit);
        self.read_of(view.tenant, move |r| {
            read::vault::list_secrets(&r.db, view, &PageRequest { after: after.as_deref(), limit })
        })
    }

    fn secret<'a>(&'a self, scope: &'a Scope, name: &'a str) -> Read<'a, Option<SealedSecret>> {
        let view = ScopeView::for_scope(scope);
        let name = name.to_owned();
        self.read_of(view.tenant, move |r| read::vault::by_name(&r.db, view, &name))
    }

    fn capabilities<'a>(
        &'a self,
        scope: &'a Scope,
        page: PageRequest<CapabilityId>,
    ) -> Read<'a, Vec<CapabilityRecord>> {
        let view = ScopeView::for_scope(scope);
        self.read_of(view.tenant, move |r| read::capability::list_capabilities(&r.db, view, &page))
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        let (view, path) = (ScopeView::for_scope(scope), path.to_owned());
        self.read_of(view.tenant, move |r| read::file::find_known_file(&r.db, view, agent, &path))
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        let (view, after) = (ScopeView::for_scope(scope), page.after.map(str::to_owned));
        self.read_of(view.tenant, move |r| {
            let page = PageRequest { after: after.as_deref(), limit: page.limit };
            read::file::list_files(&r.db, view, agent, &page)
        })
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        self.erase_page(scope, agent)
    }

    fn store_health(&self) -> StoreHealth {
        let length = |path| std::fs::metadata(path).as_ref().map_or(0, std::fs::Metadata::len);
        StoreHealth {
            read_only: self.gauge.read_only(),
            damaged: self.gauge.known_damage(),
            wal_bytes: length(self.config.wal_path()),
            file_bytes: length(self.config.database_path()),
        }
    }

    fn store_stats(&self) -> StoreStats {
        self.gauge.stats()
    }
}
