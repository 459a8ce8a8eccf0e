//! The port of the reference store: each read looks at the rows through its scope first, so what a scope cannot see is not
//! there for the rest of the function.
//!
//! No read writes, but for the page of an erasure. What takes more than a look lies beside this file, by what it is about.

mod ids;
mod outgoing;
mod runs;

use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::{
    AgentRecord, AgentRevision, AgentState, ErasureCounts, HandleSlug, TenantCounts, TenantRecord,
};
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::delivery::{DeliveryRecord, DeliverySummary, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::lease::NodeLife;
use dromia_contracts::retention::{IdlePage, SessionHold};
use dromia_contracts::revision::RevisionRecord;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use dromia_contracts::store::KeyedItem;
use dromia_contracts::store::{
    AnswerPut, ApprovalFilter, CommitOutcome, CoolingApproval, DeliveryFilter, OpenRun, PageRequest,
    PendingSession, Read, RunCheckpoint, RunFilter, RunSpending, SessionTail, SpendingSum, StateEntry, Store,
    StoreHealth, StoreStats, StoredEntry, TailLimits, TokenOwner, WriteBatch,
};
use dromia_contracts::task::ChildSession;
use dromia_contracts::token::TokenRecord;
use dromia_contracts::vault::SealedSecret;
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, CapabilityId, DeliveryId, Digest, OperatorScope, RunId, Scope, SessionId,
    TenantId, TokenId,
};

use super::ReferenceStore;
use super::page::page_rows;
use super::retention::SessionForest;
use super::scope_view::ready_read;

impl Store for ReferenceStore {
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        // Written before the future is polled: the work goes on if the future is dropped.
        let commit = self.apply_batch(&batch);
        Box::pin(std::future::ready(commit))
    }

    fn tenants<'a>(
        &'a self,
        _: &'a OperatorScope,
        asked: PageRequest<TenantId>,
    ) -> Read<'a, Vec<TenantRecord>> {
        ready_read(self.lock_state().list_tenants(asked))
    }

    fn tenant_by_handle<'a>(
        &'a self,
        _: &'a OperatorScope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<TenantRecord>> {
        ready_read(self.lock_state().tenant_by_handle(handle))
    }

    fn tenant_record<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<TenantRecord>> {
        let id = scope.tenant();
        ready_read(self.lock_state().tenants.get(&id).and_then(|rows| rows.seen_tenant(id)))
    }

    fn tenant_counts<'a>(&'a self, scope: &'a Scope) -> Read<'a, TenantCounts> {
        self.read_rows(scope, |rows| TenantCounts {
            agents: rows.agents.rows.len() as u64,
            sessions: rows.sessions.rows.len() as u64,
            open_runs: rows.runs.rows.values().filter(|run| !run.head.status.is_terminal()).count() as u64,
        })
    }

    fn find_token_owner<'a>(&'a self, _: &'a OperatorScope, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        ready_read(self.lock_state().find_token_owner(hash))
    }

    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        asked: PageRequest<TokenId>,
    ) -> Read<'a, Vec<TokenRecord>> {
        self.read_rows(scope, |rows| rows.tokens.list_tokens(scope, name, asked))
    }

    fn approval<'a>(&'a self, scope: &'a Scope, id: ApprovalId) -> Read<'a, Option<ApprovalRequest>> {
        self.read_rows(scope, |rows| {
            rows.approvals
                .rows
                .get(&id)
                .filter(|approval| rows.agents.is_seen(scope, approval.source.agent))
                .cloned()
        })
    }

    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        asked: PageRequest<ApprovalId>,
    ) -> Read<'a, Vec<ApprovalRequest>> {
        self.read_rows(scope, |rows| rows.approvals.list_approvals(scope, &rows.agents, filter, asked))
    }

    fn cooling_approvals<'a>(
        &'a self,
        _: &'a OperatorScope,
        open_at: jiff::Timestamp,
        skip: usize,
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>> {
        ready_read(self.lock_state().cooling_approvals(open_at, skip, limit))
    }

    fn approval_rules<'a>(&'a self, scope: &'a Scope) -> Read<'a, Vec<ApprovalRuleRecord>> {
        self.read_rows(scope, |rows| {
            if scope.agent().is_some() {
                Vec::new()
            } else {
                rows.approvals.rules.values().cloned().collect()
            }
        })
    }

    fn budgets<'a>(&'a self, scope: &'a Scope, at: jiff::Timestamp) -> Read<'a, Vec<BudgetUse>> {
        self.read_rows(
            scope,
            |rows| if scope.agent().is_some() { Vec::new() } else { rows.budgets.list_uses(at) },
        )
    }

    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<TokenRecord>> {
        self.read_rows(scope, |rows| {
            let row = rows.tokens.rows.get(&token).filter(|_| scope.agent().is_none());
            row.map(|row| row.token.clone())
        })
    }

    fn open_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        asked: PageRequest<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        ready_read(self.lock_state().open_runs(asked))
    }

    fn signalled_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        asked: PageRequest<(TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        ready_read(self.lock_state().signalled_runs(asked))
    }

    fn parked_runs<'a>(
        &'a self,
        _: &'a OperatorScope,
        asked: PageRequest<(jiff::Timestamp, TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        ready_read(self.lock_state().parked_runs(asked))
    }

    fn pending_sessions<'a>(
        &'a self,
        _: &'a OperatorScope,
        asked: PageRequest<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>> {
        ready_read(self.lock_state().pending_sessions(asked))
    }

    fn deleting_tenants<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<TenantId>> {
        ready_read(self.lock_state().deleting_tenants())
    }

    fn erasing_sessions<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<(TenantId, SessionId)>> {
        ready_read(self.lock_state().erasing_sessions())
    }

    fn session_hold<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<SessionHold>> {
        self.read_rows(scope, |rows| {
            let seen = rows.sessions.seen_session(scope, &rows.agents, session);
            seen.and_then(|session| rows.sessions.holds.get(&session.id).cloned())
        })
    }

    fn held_sessions<'a>(
        &'a self,
        scope: &'a Scope,
        asked: PageRequest<SessionId>,
    ) -> Read<'a, Vec<(SessionId, SessionHold)>> {
        self.read_rows(scope, |rows| rows.list_held(scope, asked))
    }

    fn idle_sessions<'a>(
        &'a self,
        scope: &'a Scope,
        before: jiff::Timestamp,
        asked: PageRequest<SessionId>,
    ) -> Read<'a, IdlePage> {
        self.read_rows(scope, |rows| SessionForest(rows).list_idle(scope, before, asked))
    }

    fn deleting_agents<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<(TenantId, AgentId)>> {
        ready_read(self.lock_state().deleting_agents())
    }

    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        state: Option<AgentState>,
        asked: PageRequest<AgentId>,
    ) -> Read<'a, Vec<AgentRecord>> {
        self.read_rows(scope, |rows| rows.agents.list_agents(scope, state, asked))
    }

    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<AgentRecord>> {
        self.read_rows(scope, |rows| {
            rows.agents.rows.get(&agent).filter(|agent| rows.agents.is_seen(scope, agent.id)).cloned()
        })
    }

    fn agent_by_handle<'a>(
        &'a self,
        scope: &'a Scope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<AgentRecord>> {
        self.read_rows(scope, |rows| {
            rows.agents
                .rows
                .values()
                .find(|agent| agent.handle == *handle && rows.agents.is_seen(scope, agent.id))
                .cloned()
        })
    }

    fn agent_revision<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        digest: Digest,
    ) -> Read<'a, Option<AgentRevision>> {
        self.read_rows(scope, |rows| {
            let config =
                rows.agents.find_config(agent, digest).filter(|_| rows.agents.is_seen(scope, agent))?;
            Some(AgentRevision { digest, config: config.clone() })
        })
    }

    fn agent_revisions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        asked: PageRequest<u64>,
    ) -> Read<'a, Vec<RevisionRecord>> {
        self.read_rows(scope, |rows| rows.agents.list_revisions(scope, agent, asked))
    }

    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<SessionRecord>> {
        self.read_rows(scope, |rows| rows.sessions.seen_session(scope, &rows.agents, session).cloned())
    }

    fn session_by_key<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        key: &'a SessionKey,
    ) -> Read<'a, Option<SessionRecord>> {
        self.read_rows(scope, |rows| rows.sessions.find_session(scope, &rows.agents, agent, key))
    }

    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        asked: PageRequest<SessionId>,
    ) -> Read<'a, Vec<SessionRecord>> {
        self.read_rows(scope, |rows| rows.sessions.list_sessions(scope, &rows.agents, agent, asked))
    }

    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        self.read_rows(scope, |rows| rows.session_tail(scope, session, limits))
    }

    fn ids_like<'a>(
        &'a self,
        scope: &'a Scope,
        kind: IdKind,
        fragment: IdFragment,
        limit: usize,
    ) -> Read<'a, Vec<[u8; 16]>> {
        self.read_rows(scope, |rows| rows.ids_like(scope, kind, fragment, limit))
    }

    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunRecord>> {
        self.read_rows(scope, |rows| rows.seen_run(scope, run).cloned())
    }

    fn runs<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        asked: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunRecord>> {
        self.read_rows(scope, |rows| rows.list_runs(scope, filter, asked))
    }

    fn troubled_runs<'a>(
        &'a self,
        scope: &'a Scope,
        since: jiff::Timestamp,
        limit: usize,
    ) -> Read<'a, Vec<RunRecord>> {
        self.read_rows(scope, |rows| rows.list_troubled(scope, since, limit))
    }

    fn working_runs<'a>(&'a self, scope: &'a Scope, limit: usize) -> Read<'a, Vec<RunRecord>> {
        self.read_rows(scope, |rows| rows.list_working(scope, limit))
    }

    fn spending_since<'a>(&'a self, scope: &'a Scope, first: RunId, limit: usize) -> Read<'a, SpendingSum> {
        self.read_rows(scope, |rows| rows.sum_since(scope, first, limit))
    }

    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        asked: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunSpending>> {
        let runs = self.runs(scope, filter, asked);
        Box::pin(async move {
            let runs = runs.await?;
            let rows = self.read_rows(scope, |rows| {
                runs.into_iter()
                    .map(|run| RunSpending { models: rows.runs.spent_by_model(run.id), run })
                    .collect()
            });
            rows.await
        })
    }

    fn child_sessions<'a>(
        &'a self,
        scope: &'a Scope,
        root: RunId,
        asked: PageRequest<SessionId>,
    ) -> Read<'a, Vec<ChildSession>> {
        self.read_rows(scope, |rows| rows.list_children(scope, |origin| origin.root == root, false, asked))
    }

    fn session_children<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        open: bool,
        asked: PageRequest<SessionId>,
    ) -> Read<'a, Vec<ChildSession>> {
        self.read_rows(scope, |rows| {
            rows.list_children(scope, |origin| origin.session == session, open, asked)
        })
    }

    fn journal_entries<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>> {
        self.read_rows(scope, |rows| rows.list_entries(scope, run, after, limit))
    }

    fn inbox_items<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        self.read_rows(scope, |rows| rows.list_items(scope, owner, after, limit))
    }

    fn opening_inputs<'a>(
        &'a self,
        scope: &'a Scope,
        owners: &'a [InboxOwner],
    ) -> Read<'a, Vec<Option<Bytes>>> {
        let openings = self.read_rows(scope, |rows| rows.opening_inputs(scope, owners));
        Box::pin(async move {
            let mut openings = openings.await?;
            // A tenant that is not there has no rows to ask.
            openings.resize(owners.len(), None);
            Ok(openings)
        })
    }

    fn find_keyed_item<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        at: jiff::Timestamp,
    ) -> Read<'a, Option<KeyedItem>> {
        self.read_rows(scope, |rows| rows.inbox.find_keyed(scope, key, at))
    }

    fn pinned_text<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>> {
        self.read_rows(scope, |rows| rows.pins.rows.get(&digest).cloned())
    }

    fn session_state<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<StateEntry>> {
        self.read_rows(scope, |rows| rows.sessions.list_state(scope, &rows.agents, session, page))
    }

    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>> {
        self.read_rows(scope, |rows| rows.sessions.find_state(scope, &rows.agents, session, name))
    }

    fn delivery_record<'a>(
        &'a self,
        scope: &'a Scope,
        delivery: DeliveryId,
    ) -> Read<'a, Option<DeliveryRecord>> {
        self.read_rows(scope, |rows| rows.outbox.find_delivery(scope, &rows.agents, delivery))
    }

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        wanted: PageRequest<DeliveryId>,
    ) -> Read<'a, Vec<DeliverySummary>> {
        self.read_rows(scope, |rows| rows.outbox.list_deliveries(scope, &rows.agents, &filter, wanted))
    }

    fn open_deliveries<'a>(
        &'a self,
        _: &'a OperatorScope,
        wanted: PageRequest<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>> {
        ready_read(self.lock_state().outbox_heads(wanted))
    }

    fn first_open_delivery<'a>(
        &'a self,
        _: &'a OperatorScope,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, Option<OpenDelivery>> {
        ready_read(self.lock_state().first_open_delivery(tenant, target))
    }

    fn outbox_waiting<'a>(
        &'a self,
        _: &'a OperatorScope,
        tenant: TenantId,
        target: &'a str,
    ) -> Read<'a, u64> {
        ready_read(self.lock_state().outbox_waiting(tenant, target))
    }

    fn unnumbered_deliveries<'a>(
        &'a self,
        _: &'a OperatorScope,
        after: Option<TenantId>,
        limit: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        ready_read(self.lock_state().unnumbered_deliveries(after, limit))
    }

    fn feed_items<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>> {
        self.read_rows(scope, |rows| rows.outbox.list_feed(scope, &rows.agents, after, limit))
    }

    fn kept_answer<'a>(&'a self, scope: &'a Scope, key: Digest) -> Read<'a, Option<AnswerPut>> {
        self.read_rows(scope, |rows| rows.answers.get(&key).filter(|_| scope.agent().is_none()).cloned())
    }

    fn run_checkpoint<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunCheckpoint>> {
        self.read_rows(scope, |rows| {
            rows.seen_run(scope, run).and_then(|run| rows.runs.checkpoints.get(&run.id)).cloned()
        })
    }

    fn vault_key<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<Bytes>> {
        self.read_rows(scope, |rows| rows.vault.key.clone())
    }

    fn secrets<'a>(&'a self, scope: &'a Scope, asked: PageRequest<&'a str>) -> Read<'a, Vec<SealedSecret>> {
        self.read_rows(scope, |rows| {
            let secrets = rows.vault.secrets.iter().map(|(name, sealed)| (name.as_str(), sealed.clone()));
            page_rows(secrets, asked, false)
        })
    }

    fn secret<'a>(&'a self, scope: &'a Scope, name: &'a str) -> Read<'a, Option<SealedSecret>> {
        self.read_rows(scope, |rows| rows.vault.secrets.get(name).cloned())
    }

    fn capabilities<'a>(
        &'a self,
        scope: &'a Scope,
        asked: PageRequest<CapabilityId>,
    ) -> Read<'a, Vec<CapabilityRecord>> {
        self.read_rows(scope, |rows| rows.capabilities.list_capabilities(scope, &rows.agents, asked))
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        self.read_rows(scope, |rows| rows.files.find_file(scope, &rows.agents, agent, path))
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        asked: PageRequest<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        self.read_rows(scope, |rows| rows.files.list_files(scope, &rows.agents, agent, asked))
    }

    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState> {
        self.read_rows(scope, |rows| rows.outbox.find_feed_state(scope))
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        let mut state = self.lock_state();
        let rows = state.tenants.get_mut(&scope.tenant());
        let deleting = rows.filter(|rows| {
            let found = rows.agents.rows.get(&agent).filter(|_| scope.sees_agent(agent));
            found.is_some_and(|agent| agent.state == AgentState::Deleting)
        });
        ready_read((deleting.map(|rows| rows.erase_agent(agent)).unwrap_or_default(), true))
    }

    fn erase_session_page<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
    ) -> Read<'a, (ErasureCounts, bool)> {
        let mut state = self.lock_state();
        let rows = state.tenants.get_mut(&scope.tenant());
        ready_read((rows.map(|rows| rows.erase_rest(session)).unwrap_or_default(), true))
    }

    fn begin_life<'a>(&'a self, _: &'a OperatorScope, life: &'a NodeLife, lasts: Duration) -> Read<'a, ()> {
        self.lock_state().leases.begin_life(life, lasts);
        ready_read(())
    }

    fn renew_life<'a>(&'a self, _: &'a OperatorScope, life: &'a NodeLife, lasts: Duration) -> Read<'a, bool> {
        ready_read(self.lock_state().leases.renew_life(life, lasts))
    }

    fn living_lives<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<NodeLife>> {
        ready_read(self.lock_state().leases.living_lives())
    }

    fn store_health(&self) -> StoreHealth {
        StoreHealth { read_only: None, damaged: None, wal_bytes: 0, file_bytes: 0 }
    }

    fn store_stats(&self) -> StoreStats {
        self.lock_state().stats
    }
}
