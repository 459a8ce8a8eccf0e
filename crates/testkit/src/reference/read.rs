//! The reads of the reference store. Each looks at the rows through its scope first, so what a scope cannot see
//! is not there for the rest of the function.

use std::collections::BTreeMap;

use bytes::Bytes;
use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Revision, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule};
use dromia_contracts::budget::BudgetUse;
use dromia_contracts::capability::Capability;
use dromia_contracts::cost::{Ledger, Spent};
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
use super::deliver::DeliveryRow;
use super::rows::TenantRows;

impl ReferenceStore {
    /// Looks at the rows of the scope's tenant; a tenant that is not there has none.
    fn seen<'a, T: Default + Send + 'a>(
        &self,
        scope: &Scope,
        look: impl FnOnce(&TenantRows) -> T,
    ) -> Read<'a, T> {
        answer(self.state().tenants.get(&scope.tenant()).map(look).unwrap_or_default())
    }
}

fn answer<'a, T: Send + 'a>(value: T) -> Read<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

#[expect(clippy::needless_pass_by_value, reason = "a page is a small value, given away by every caller")]
fn page<T, Id: PartialOrd>(
    rows: impl Iterator<Item = (Id, T)>,
    page: Page<Id>,
    newest_first: bool,
) -> Vec<T> {
    let follows = |id: &Id| match &page.after {
        None => true,
        Some(after) if newest_first => id < after,
        Some(after) => id > after,
    };
    rows.filter(|(id, _)| follows(id))
        .map(|(_, row)| row)
        .take(page.limit.min(Page::<Id>::LIMIT_MAX))
        .collect()
}

impl TenantRows {
    /// Tells whether a scope sees an agent; one that is being erased is not seen.
    fn sees(&self, scope: &Scope, agent: AgentId) -> bool {
        scope.sees(agent) && self.agents.get(&agent).is_some_and(|agent| agent.state != AgentState::Deleting)
    }

    fn seen_session(&self, scope: &Scope, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).filter(|session| self.sees(scope, session.agent))
    }

    fn seen_run(&self, scope: &Scope, id: RunId) -> Option<&Run> {
        self.runs.get(&id).filter(|run| self.sees(scope, run.agent))
    }

    fn tail(&self, scope: &Scope, id: SessionId, limits: TailLimits) -> Option<SessionTail> {
        let session = self.seen_session(scope, id)?.clone();
        let inbox = self.inbox(InboxOwner::Session(id));
        let (taken, waiting) =
            inbox.split_at(inbox.partition_point(|item| item.position <= session.head.taken));
        let (mut items_left, mut bytes_left) = (limits.items, limits.bytes);
        let mut from = taken.len();
        // From the newest run to older ones, whole runs only.
        for group in taken.chunk_by(|a, b| a.taken_by == b.taken_by).rev() {
            let said = group.iter().filter_map(|item| item.body.as_ref());
            let run = group.first().and_then(|item| item.taken_by);
            let told =
                run.map_or(&[][..], |run| self.journal(run)).iter().filter_map(|entry| entry.body.as_ref());
            let bytes: usize = said.chain(told).map(Bytes::len).sum();
            if group.len() > items_left || bytes > bytes_left {
                break;
            }
            items_left -= group.len();
            bytes_left -= bytes;
            from -= group.len();
        }
        let runs = taken[from..].chunk_by(|a, b| a.taken_by == b.taken_by);
        let runs = runs.filter_map(|group| group[0].taken_by).map(|run| (run, self.journal(run).to_vec()));
        let waiting = waiting.iter().take(Page::<SessionId>::LIMIT_MAX);
        Some(SessionTail {
            runs: runs.collect(),
            items: taken[from..].iter().chain(waiting).cloned().collect(),
            session,
        })
    }

    /// Lists the deliveries that a scope sees.
    fn seen_deliveries<'a>(&'a self, scope: &'a Scope) -> impl DoubleEndedIterator<Item = &'a DeliveryRow> {
        self.deliveries.values().filter(move |row| self.sees(scope, row.delivery.agent))
    }

    /// Sums up the attempts of a run by model.
    fn models(&self, run: RunId) -> Vec<(String, Spent)> {
        let mut ledger = Ledger::default();
        let mut models = BTreeMap::<String, Spent>::new();
        let entries = self.journal(run).iter().filter_map(|stored| Some((stored, stored.decode().ok()?)));
        let ended: Vec<_> =
            entries.filter_map(|(stored, entry)| ledger.take(stored.seq, stored.at, &entry)).collect();
        for attempt in ended.iter().chain(ledger.open()) {
            models.entry(attempt.model.clone()).or_default().add(Spent::from(attempt));
        }
        models.into_iter().collect()
    }

    /// Erases everything of an agent.
    fn erase(&mut self, agent: AgentId) -> Erased {
        let mut erased = Erased::default();
        let sessions: Vec<_> =
            self.sessions.values().filter(|row| row.agent == agent).map(|row| row.id).collect();
        let runs: Vec<_> = self.runs.values().filter(|row| row.agent == agent).map(|row| row.id).collect();
        let owners = sessions.iter().copied().map(InboxOwner::Session);
        for owner in owners.chain(runs.iter().copied().map(InboxOwner::Run)) {
            for item in self.inboxes.remove(&owner).unwrap_or_default() {
                erased.items += 1;
                erased.bodies += u64::from(item.body.is_some());
                self.items.remove(&item.id);
                self.item_keys.retain(|_, row| row.item != item.id);
            }
        }
        for run in &runs {
            let journal = self.journals.remove(run).unwrap_or_default();
            erased.entries += journal.len() as u64;
            erased.bodies += journal.iter().filter(|entry| entry.body.is_some()).count() as u64;
            self.runs.remove(run);
            self.takeovers.retain(|(of, _), _| of != run);
            self.reserved.remove(run);
            self.forget_subject(&run.to_string());
        }
        let before = self.deliveries.len();
        self.deliveries.retain(|_, row| row.delivery.agent != agent);
        erased.deliveries = (before - self.deliveries.len()) as u64;
        for session in &sessions {
            self.sessions.remove(session);
            self.states.retain(|(of, _), _| of != session);
            self.forget_subject(&session.to_string());
        }
        self.session_keys.retain(|(of, _), _| *of != agent);
        self.revisions.retain(|(of, _), _| *of != agent);
        self.approvals.retain(|_, approval| approval.agent != agent);
        self.approval_rules.retain(|_, rule| rule.agent != Some(agent));
        self.agents.remove(&agent);
        self.forget_subject(&agent.to_string());
        self.capabilities.retain(|_, row| row.holder != agent);
        self.files.remove(&agent);
        self.files_rest.remove(&agent);
        erased.sessions = sessions.len() as u64;
        erased.runs = runs.len() as u64;
        erased
    }
}

impl Store for ReferenceStore {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        // Written before the future is polled: the work goes on if the future is dropped.
        let commit = self.apply(&batch);
        Box::pin(std::future::ready(commit))
    }

    fn tenants<'a>(&'a self, _: &'a Operator, asked: Page<TenantId>) -> Read<'a, Vec<Tenant>> {
        let state = self.state();
        let rows = state.tenants.iter().map(|(id, rows)| {
            (*id, Tenant { id: *id, handle: rows.handle.clone(), created_at: rows.created_at })
        });
        answer(page(rows, asked, false))
    }

    fn tenant_by_handle<'a>(&'a self, _: &'a Operator, handle: &'a Handle) -> Read<'a, Option<Tenant>> {
        let state = self.state();
        let found = state.tenants.iter().find(|(_, rows)| rows.handle == *handle);
        answer(found.map(|(id, rows)| Tenant {
            id: *id,
            handle: rows.handle.clone(),
            created_at: rows.created_at,
        }))
    }

    fn token<'a>(&'a self, _: &'a Operator, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        let state = self.state();
        let found = state.tenants.iter().find_map(|(id, rows)| {
            let row = rows.tokens.values().find(|row| row.hash == hash)?;
            let tenant = Tenant { id: *id, handle: rows.handle.clone(), created_at: rows.created_at };
            Some(TokenOwner { tenant, token: row.token.clone() })
        });
        answer(found)
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
        limit: usize,
    ) -> Read<'a, Vec<CoolingApproval>> {
        let state = self.state();
        let rows = state.tenants.iter().flat_map(|(tenant, rows)| {
            let seen =
                |agent| rows.agents.get(agent).is_some_and(|agent| agent.state != AgentState::Deleting);
            let seen = rows.approvals.values().filter(move |approval| seen(&approval.agent));
            seen.filter_map(move |approval| {
                let until = approval.cooling_at(open_at)?;
                Some(CoolingApproval { tenant: *tenant, approval: approval.id, until })
            })
        });
        let mut rows: Vec<CoolingApproval> = rows.collect();
        rows.sort_by_key(|row| (row.until, row.tenant, row.approval));
        rows.truncate(limit.min(Page::<ApprovalId>::LIMIT_MAX));
        answer(rows)
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
        let state = self.state();
        let rows = state.tenants.iter().flat_map(|(tenant, rows)| {
            let open = rows.runs.values().filter(|run| !run.head.status.is_terminal());
            open.map(|run| ((*tenant, run.id), OpenRun { tenant: *tenant, run: run.clone() }))
        });
        answer(page(rows, asked, false))
    }

    fn parked_runs<'a>(&'a self, _: &'a Operator, limit: usize) -> Read<'a, Vec<OpenRun>> {
        let state = self.state();
        let runs = state.tenants.iter().flat_map(|(tenant, rows)| {
            let parked = rows.runs.values().filter(|run| run.head.wake_at.is_some());
            parked.map(|run| OpenRun { tenant: *tenant, run: run.clone() })
        });
        let mut runs: Vec<OpenRun> = runs.collect();
        runs.sort_by_key(|open| (open.run.head.wake_at, open.tenant, open.run.id));
        runs.truncate(limit.min(Page::<RunId>::LIMIT_MAX));
        answer(runs)
    }

    fn pending_sessions<'a>(
        &'a self,
        _: &'a Operator,
        asked: Page<(TenantId, SessionId)>,
    ) -> Read<'a, Vec<PendingSession>> {
        let state = self.state();
        let rows = state.tenants.iter().flat_map(|(tenant, rows)| {
            let running = |id| rows.agents.get(id).is_some_and(|agent| agent.state == AgentState::Running);
            let pending = rows.sessions.values().filter(move |session| {
                session.head.active.is_none()
                    && session.head.last > session.head.taken
                    && running(&session.agent)
            });
            pending.map(|session| {
                let row = PendingSession { tenant: *tenant, agent: session.agent, session: session.id };
                ((*tenant, session.id), row)
            })
        });
        answer(page(rows, asked, false))
    }

    fn deleting_agents<'a>(&'a self, _: &'a Operator) -> Read<'a, Vec<(TenantId, AgentId)>> {
        let state = self.state();
        let rows = state.tenants.iter().flat_map(|(tenant, rows)| {
            let deleting = rows.agents.values().filter(|agent| agent.state == AgentState::Deleting);
            deleting.map(|agent| (*tenant, agent.id))
        });
        answer(rows.collect())
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
        let state = self.state();
        let mut heads = BTreeMap::<(TenantId, String), &Delivery>::new();
        for (tenant, rows) in &state.tenants {
            let open = rows.deliveries.values().map(|row| &row.delivery).filter(|row| row.state.is_open());
            for delivery in open {
                let head = heads.entry((*tenant, delivery.target.clone())).or_insert(delivery);
                if delivery.position < head.position {
                    *head = delivery;
                }
            }
        }
        let heads = heads.into_iter().map(|(place, delivery)| {
            let tenant = place.0;
            (place, OpenDelivery { tenant, delivery: delivery.clone() })
        });
        answer(page(heads, wanted, false))
    }

    fn outbox_waiting<'a>(&'a self, _: &'a Operator, tenant: TenantId, target: &'a str) -> Read<'a, u64> {
        let state = self.state();
        let rows = state.tenants.get(&tenant).into_iter().flat_map(|rows| rows.deliveries.values());
        let open = rows.filter(|row| row.delivery.target == target && row.delivery.state.is_open());
        answer(open.count() as u64)
    }

    fn unnumbered<'a>(&'a self, _: &'a Operator, limit: usize) -> Read<'a, Vec<(TenantId, DeliveryId)>> {
        let state = self.state();
        let mut found = Vec::new();
        for (tenant, rows) in &state.tenants {
            let of_tenant = rows.deliveries.values().map(|row| &row.delivery);
            let mut waiting: Vec<_> = of_tenant.filter(|delivery| delivery.feed.is_none()).collect();
            waiting.sort_by(|a, b| (&a.target, a.position).cmp(&(&b.target, b.position)));
            found.extend(waiting.into_iter().map(|delivery| (*tenant, delivery.id)));
        }
        found.truncate(limit.min(Page::<DeliveryId>::LIMIT_MAX));
        answer(found)
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
