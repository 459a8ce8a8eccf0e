//! The port of the reference store: each read looks at the rows through its scope first, so what a scope cannot see is not
//! there for the rest of the function.
//!
//! No read writes, but for the page of an erasure. What takes more than a look lies beside this file, by what it is about.

mod outgoing;
mod rights;
mod talk;

use bytes::Bytes;
use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::Capability;
use dromia_contracts::delivery::{Delivery, DeliveryRecord, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::run::Run;
use dromia_contracts::session::{InboxItem, InboxOwner, Session, SessionKey};
use dromia_contracts::store::KeyedItem;
use dromia_contracts::store::{
    ApprovalFilter, Batch, Commit, CoolingApproval, DeliveryFilter, OpenRun, Page, PendingSession, Read,
    RunFilter, RunSpending, SessionTail, StateEntry, Store, StoreHealth, StoreStats, StoredEntry, TailLimits,
    TokenOwner,
};
use dromia_contracts::token::Token;
use dromia_contracts::vault::SealedSecret;
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, CapabilityId, DeliveryId, Digest, Operator, RunId, Scope, SessionId,
    TenantId, TokenId,
};

use super::ReferenceStore;
use super::seen::{answer, page};

impl Store for ReferenceStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        // Written before the future is polled: the work goes on if the future is dropped.
        let commit = self.apply(&batch);
        Box::pin(std::future::ready(commit))
    }

    fn tenants<'a>(&'a self, _: &'a Operator, asked: Page<TenantId>) -> Read<'a, Vec<Tenant>> {
        answer(self.state().tenants(asked))
    }

    fn tenant_by_handle<'a>(&'a self, _: &'a Operator, handle: &'a Handle) -> Read<'a, Option<Tenant>> {
        answer(self.state().tenant_by_handle(handle))
    }

    fn token<'a>(&'a self, _: &'a Operator, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        answer(self.state().token(hash))
    }

    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        asked: Page<TokenId>,
    ) -> Read<'a, Vec<Token>> {
        self.seen(scope, |rows| rows.list_tokens(scope, name, asked))
    }

    fn approval<'a>(&'a self, scope: &'a Scope, id: ApprovalId) -> Read<'a, Option<Approval>> {
        self.seen(scope, |rows| {
            rows.approvals.get(&id).filter(|approval| rows.sees(scope, approval.agent)).cloned()
        })
    }

    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        asked: Page<ApprovalId>,
    ) -> Read<'a, Vec<Approval>> {
        self.seen(scope, |rows| rows.list_approvals(scope, filter, asked))
    }

    fn cooling_approvals<'a>(
        &'a self,
        _: &'a Operator,
        open_at: jiff::Timestamp,
        skip: usize,
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>> {
        answer(self.state().cooling_approvals(open_at, skip, limit))
    }

    fn approval_rules<'a>(&'a self, scope: &'a Scope) -> Read<'a, Vec<ApprovalRule>> {
        self.seen(scope, |rows| {
            if scope.agent().is_some() { Vec::new() } else { rows.approval_rules.values().cloned().collect() }
        })
    }

    fn budgets<'a>(&'a self, scope: &'a Scope, at: jiff::Timestamp) -> Read<'a, Vec<BudgetUse>> {
        self.seen(scope, |rows| if scope.agent().is_some() { Vec::new() } else { rows.budget_uses(at) })
    }

    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<Token>> {
        self.seen(scope, |rows| {
            let row = rows.tokens.get(&token).filter(|_| scope.agent().is_none());
            row.map(|row| row.token.clone())
        })
    }

    fn open_runs<'a>(&'a self, _: &'a Operator, asked: Page<(TenantId, RunId)>) -> Read<'a, Vec<OpenRun>> {
        answer(self.state().open_runs(asked))
    }

    fn parked_runs<'a>(
        &'a self,
        _: &'a Operator,
        asked: Page<(jiff::Timestamp, TenantId, RunId)>,
    ) -> Read<'a, Vec<OpenRun>> {
        answer(self.state().parked_runs(asked))
    }

    fn pending_sessions<'a>(
        &'a self,
        _: &'a Operator,
        asked: Page<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>> {
        answer(self.state().pending_sessions(asked))
    }

    fn deleting_agents<'a>(&'a self, _: &'a Operator) -> Read<'a, Vec<(TenantId, AgentId)>> {
        answer(self.state().deleting_agents())
    }

    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        state: Option<AgentState>,
        asked: Page<AgentId>,
    ) -> Read<'a, Vec<Agent>> {
        self.seen(scope, |rows| rows.list_agents(scope, state, asked))
    }

    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<Agent>> {
        self.seen(scope, |rows| rows.agents.get(&agent).filter(|agent| rows.sees(scope, agent.id)).cloned())
    }

    fn agent_by_handle<'a>(&'a self, scope: &'a Scope, handle: &'a Handle) -> Read<'a, Option<Agent>> {
        self.seen(scope, |rows| {
            rows.agents.values().find(|agent| agent.handle == *handle && rows.sees(scope, agent.id)).cloned()
        })
    }

    fn revision<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        digest: Digest,
    ) -> Read<'a, Option<Revision>> {
        self.seen(scope, |rows| {
            let config = rows.revisions.get(&(agent, digest)).filter(|_| rows.sees(scope, agent))?;
            Some(Revision { digest, config: config.clone() })
        })
    }

    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<Session>> {
        self.seen(scope, |rows| rows.seen_session(scope, session).cloned())
    }

    fn session_by_key<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        key: &'a SessionKey,
    ) -> Read<'a, Option<Session>> {
        self.seen(scope, |rows| rows.find_session(scope, agent, key))
    }

    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        asked: Page<SessionId>,
    ) -> Read<'a, Vec<Session>> {
        self.seen(scope, |rows| rows.list_sessions(scope, agent, asked))
    }

    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        limits: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        self.seen(scope, |rows| rows.tail(scope, session, limits))
    }

    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<Run>> {
        self.seen(scope, |rows| rows.seen_run(scope, run).cloned())
    }

    fn runs<'a>(&'a self, scope: &'a Scope, filter: RunFilter, asked: Page<RunId>) -> Read<'a, Vec<Run>> {
        self.seen(scope, |rows| rows.list_runs(scope, filter, asked))
    }

    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        asked: Page<RunId>,
    ) -> Read<'a, Vec<RunSpending>> {
        let runs = self.runs(scope, filter, asked);
        Box::pin(async move {
            let runs = runs.await?;
            let rows = self.seen(scope, |rows| {
                runs.into_iter().map(|run| RunSpending { models: rows.models(run.id), run }).collect()
            });
            rows.await
        })
    }

    fn journal<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>> {
        self.seen(scope, |rows| rows.list_entries(scope, run, after, limit))
    }

    fn inbox<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        self.seen(scope, |rows| rows.list_items(scope, owner, after, limit))
    }

    fn keyed<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        at: jiff::Timestamp,
    ) -> Read<'a, Option<KeyedItem>> {
        self.seen(scope, |rows| rows.find_keyed(scope, key, at))
    }

    fn pin<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>> {
        self.seen(scope, |rows| rows.pins.get(&digest).cloned())
    }

    fn state<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        page: Page<&'a str>,
    ) -> Read<'a, Vec<StateEntry>> {
        self.seen(scope, |rows| rows.list_state(scope, session, page))
    }

    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>> {
        self.seen(scope, |rows| rows.find_state(scope, session, name))
    }

    fn delivery<'a>(&'a self, scope: &'a Scope, delivery: DeliveryId) -> Read<'a, Option<DeliveryRecord>> {
        self.seen(scope, |rows| rows.find_delivery(scope, delivery))
    }

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        wanted: Page<DeliveryId>,
    ) -> Read<'a, Vec<Delivery>> {
        self.seen(scope, |rows| rows.list_deliveries(scope, &filter, wanted))
    }

    fn outbox<'a>(
        &'a self,
        _: &'a Operator,
        wanted: Page<(TenantId, String)>,
    ) -> Read<'a, Vec<OpenDelivery>> {
        answer(self.state().outbox(wanted))
    }

    fn outbox_waiting<'a>(&'a self, _: &'a Operator, tenant: TenantId, target: &'a str) -> Read<'a, u64> {
        answer(self.state().outbox_waiting(tenant, target))
    }

    fn unnumbered<'a>(
        &'a self,
        _: &'a Operator,
        after: Option<TenantId>,
        limit: usize,
    ) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        answer(self.state().unnumbered(after, limit))
    }

    fn feed<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>> {
        self.seen(scope, |rows| rows.list_feed(scope, after, limit))
    }

    fn vault_key<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<Bytes>> {
        self.seen(scope, |rows| rows.vault_key.clone())
    }

    fn secrets<'a>(&'a self, scope: &'a Scope, asked: Page<&'a str>) -> Read<'a, Vec<SealedSecret>> {
        self.seen(scope, |rows| {
            let secrets = rows.secrets.iter().map(|(name, sealed)| (name.as_str(), sealed.clone()));
            page(secrets, asked, false)
        })
    }

    fn secret<'a>(&'a self, scope: &'a Scope, name: &'a str) -> Read<'a, Option<SealedSecret>> {
        self.seen(scope, |rows| rows.secrets.get(name).cloned())
    }

    fn capabilities<'a>(&'a self, scope: &'a Scope, asked: Page<CapabilityId>) -> Read<'a, Vec<Capability>> {
        self.seen(scope, |rows| rows.list_capabilities(scope, asked))
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        self.seen(scope, |rows| rows.find_file(scope, agent, path))
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        asked: Page<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        self.seen(scope, |rows| rows.list_files(scope, agent, asked))
    }

    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState> {
        self.seen(scope, |rows| rows.find_feed_state(scope))
    }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (Erased, bool)> {
        let mut state = self.state();
        let rows = state.tenants.get_mut(&scope.tenant());
        let deleting = rows.filter(|rows| {
            let found = rows.agents.get(&agent).filter(|_| scope.sees(agent));
            found.is_some_and(|agent| agent.state == AgentState::Deleting)
        });
        answer((deleting.map(|rows| rows.erase(agent)).unwrap_or_default(), true))
    }

    fn health(&self) -> StoreHealth {
        StoreHealth { read_only: None, damaged: None, wal_bytes: 0, file_bytes: 0 }
    }

    fn stats(&self) -> StoreStats {
        self.state().stats
    }
}
