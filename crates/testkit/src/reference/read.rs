//! The port of the reference store: each read looks at the rows through its scope first, so what a scope cannot see is not
//! there for the rest of the function.
//!
//! No read writes, but for the page of an erasure.

use std::collections::BTreeMap;

use bytes::Bytes;
use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::Capability;
use dromia_contracts::delivery::{Delivery, DeliveryRecord, FeedItem, FeedState, OpenDelivery};
use dromia_contracts::file::{FileLabel, KnownFile};
use dromia_contracts::run::{Run, RunStatus};
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
        self.seen(scope, |rows| {
            let tokens = rows.tokens.values().map(|row| row.token.clone());
            let named = tokens.filter(|token| name.is_none_or(|name| token.name == name));
            let seen = named.filter(|_| scope.agent().is_none());
            page(seen.map(|token| (token.id, token)), asked, false)
        })
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
        let wanted = |approval: &&Approval| {
            filter.agent.is_none_or(|agent| agent == approval.agent)
                && filter.open_at.is_none_or(|now| approval.state_at(now).is_open())
        };
        self.seen(scope, |rows| {
            let seen = rows.approvals.values().filter(|approval| rows.sees(scope, approval.agent));
            page(seen.filter(wanted).rev().map(|approval| (approval.id, approval.clone())), asked, true)
        })
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

    fn parked_runs<'a>(&'a self, _: &'a Operator, limit: usize) -> Read<'a, Vec<OpenRun>> {
        answer(self.state().parked_runs(limit))
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
        self.seen(scope, |rows| {
            let wanted = rows
                .agents
                .values()
                .filter(|agent| rows.sees(scope, agent.id) && state.is_none_or(|state| state == agent.state));
            page(wanted.map(|agent| (agent.id, agent.clone())), asked, false)
        })
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
        self.seen(scope, |rows| {
            let id = rows.session_keys.get(&(agent, key.clone()))?;
            rows.seen_session(scope, *id).cloned()
        })
    }

    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        asked: Page<SessionId>,
    ) -> Read<'a, Vec<Session>> {
        self.seen(scope, |rows| {
            let wanted = rows.sessions.values().rev().filter(|session| {
                rows.sees(scope, session.agent) && agent.is_none_or(|agent| agent == session.agent)
            });
            page(wanted.map(|session| (session.id, session.clone())), asked, true)
        })
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
        let RunFilter { session, agent, status } = filter;
        let wanted = move |run: &&Run| {
            session.is_none_or(|session| session == run.session)
                && agent.is_none_or(|agent| agent == run.agent)
                && status.is_none_or(|status: RunStatus| status == run.head.status)
        };
        self.seen(scope, |rows| {
            let seen = rows.runs.values().rev().filter(|run| rows.sees(scope, run.agent)).filter(wanted);
            page(seen.map(|run| (run.id, run.clone())), asked, true)
        })
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
        self.seen(scope, |rows| {
            let entries = rows.seen_run(scope, run).map_or(&[][..], |run| rows.journal(run.id));
            let wanted = entries.iter().filter(|entry| entry.seq > after);
            wanted.take(limit.min(Page::<RunId>::LIMIT_MAX)).cloned().collect()
        })
    }

    fn inbox<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        self.seen(scope, |rows| {
            let seen = rows.owner_agent(owner).is_some_and(|agent| rows.sees(scope, agent));
            let items = if seen { rows.inbox(owner) } else { &[] };
            let wanted = items.iter().filter(|item| item.position > after);
            wanted.take(limit.min(Page::<RunId>::LIMIT_MAX)).cloned().collect()
        })
    }

    fn keyed<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        at: jiff::Timestamp,
    ) -> Read<'a, Option<KeyedItem>> {
        self.seen(scope, |rows| {
            let row = rows.item_keys.get(key).filter(|_| scope.agent().is_none())?;
            row.expires_at.is_none_or(|end| at < end).then_some(KeyedItem {
                item: row.item,
                owner: row.owner,
                position: row.position,
                request: row.key.request,
            })
        })
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
        self.seen(scope, |rows| {
            let seen = rows.seen_session(scope, session).is_some();
            let entries = rows.states.iter().filter(|((of, _), _)| seen && *of == session);
            let wanted =
                entries.filter(|((_, name), _)| page.after.is_none_or(|after| name.as_str() > after));
            let wanted = wanted.take(page.limit.min(Page::<RunId>::LIMIT_MAX));
            wanted.map(|((_, name), row)| row.entry(name)).collect()
        })
    }

    fn state_entry<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        name: &'a str,
    ) -> Read<'a, Option<StateEntry>> {
        self.seen(scope, |rows| {
            let seen = rows.seen_session(scope, session).is_some();
            let found = rows.states.get(&(session, name.to_owned())).filter(|_| seen);
            found.map(|row| row.entry(name))
        })
    }

    fn delivery<'a>(&'a self, scope: &'a Scope, delivery: DeliveryId) -> Read<'a, Option<DeliveryRecord>> {
        self.seen(scope, |rows| {
            let row = rows.deliveries.get(&delivery).filter(|row| rows.sees(scope, row.delivery.agent))?;
            let surplus = row.attempts.len().saturating_sub(Page::<DeliveryId>::LIMIT_MAX);
            let attempts = row.attempts.values().skip(surplus).map(|(_, attempt)| attempt.clone()).collect();
            Some(DeliveryRecord { delivery: row.delivery.clone(), body: row.body.clone(), attempts })
        })
    }

    fn deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        filter: DeliveryFilter,
        wanted: Page<DeliveryId>,
    ) -> Read<'a, Vec<Delivery>> {
        self.seen(scope, |rows| {
            let found = rows.seen_deliveries(scope).map(|row| &row.delivery).rev().filter(|delivery| {
                filter.state.is_none_or(|state| delivery.state == state)
                    && filter.target.as_ref().is_none_or(|target| delivery.target == *target)
            });
            page(found.map(|delivery| (delivery.id, delivery.clone())), wanted, true)
        })
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

    fn unnumbered<'a>(&'a self, _: &'a Operator, limit: usize) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        answer(self.state().unnumbered(limit))
    }

    fn feed<'a>(&'a self, scope: &'a Scope, after: u64, limit: usize) -> Read<'a, Vec<FeedItem>> {
        self.seen(scope, |rows| {
            let numbered = rows.seen_deliveries(scope).filter_map(|row| Some((row.delivery.feed?, row)));
            let numbered: BTreeMap<_, _> = numbered.filter(|(number, _)| *number > after).collect();
            let (mut items, mut bytes) = (Vec::new(), 0);
            for (number, row) in numbered.into_iter().take(limit.min(Page::<DeliveryId>::LIMIT_MAX)) {
                bytes += row.body.len();
                items.push(FeedItem { number, delivery: row.delivery.clone(), body: row.body.clone() });
                if bytes > 1 << 20 {
                    break;
                }
            }
            items
        })
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
        self.seen(scope, |rows| {
            let held = rows.capabilities.iter().filter(|(_, row)| rows.sees(scope, row.holder));
            page(held.map(|(id, row)| (*id, row.clone())), asked, false)
        })
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        self.seen(scope, |rows| {
            if !rows.sees(scope, agent) {
                return KnownFile::default();
            }
            let file = rows.files.get(&agent).and_then(|files| files.get(path)).cloned();
            let rest = rows.files_rest.get(&agent).copied();
            KnownFile { file, rest: rest.unwrap_or(KnownFile::default().rest) }
        })
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        asked: Page<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        self.seen(scope, |rows| {
            let files = rows.files.get(&agent).filter(|_| rows.sees(scope, agent));
            let files = files.into_iter().flatten();
            let files = files.map(|(path, file)| (path.as_str(), (path.clone(), file.clone())));
            page(files, asked, false)
        })
    }

    fn feed_state<'a>(&'a self, scope: &'a Scope) -> Read<'a, FeedState> {
        self.seen(scope, |rows| {
            let subscribers = rows.subscribers.values().filter(|_| scope.agent().is_none());
            FeedState { last: rows.feed_last, subscribers: subscribers.cloned().collect() }
        })
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
        StoreHealth { read_only: None, wal_bytes: 0, file_bytes: 0 }
    }

    fn stats(&self) -> StoreStats {
        self.state().stats
    }
}
