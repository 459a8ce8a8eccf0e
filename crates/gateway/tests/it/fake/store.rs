//! The store of the tests: lists behind a lock, filtered by tenant, over the reference store.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use dromia_contracts::agent::{
    AgentRecord, AgentRevision, AgentState, HandleSlug, TenantCounts, TenantRecord,
};
use dromia_contracts::approval::ApprovalRequest;
use dromia_contracts::cost::{CostLedger, CostTotals};
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::revision::RevisionRecord;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{InboxItem, InboxOwner, SessionRecord};
use dromia_contracts::store::{
    ApprovalFilter, CommitOutcome, KeyedItem, Mutation, PageRequest, Read, ReadError, RunFilter, RunSpending,
    SessionTail, SpendingSum, Store, StoreHealth, StoreStats, StoreWrapper, StoredEntry, TailLimits,
    TokenOwner, WriteBatch,
};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, Digest, OperatorScope, RunId, Scope, SessionId, TenantId, TokenId,
};

use jiff::Timestamp;

use super::Rooms;

fn ready<'a, T: Send + 'a>(value: T) -> Read<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

fn page<T: Clone, Id: PartialOrd>(rows: &[T], page: &PageRequest<Id>, id: impl Fn(&T) -> Id) -> Vec<T> {
    let after = rows.iter().filter(|row| page.after.as_ref().is_none_or(|after| id(row) > *after));
    after.take(page.limit).cloned().collect()
}

impl Rooms {
    fn models(&self, run: RunId) -> Vec<(String, CostTotals)> {
        let inner = self.lock();
        let mut ledger = CostLedger::default();
        let mut models = BTreeMap::<String, CostTotals>::new();
        for stored in inner.journals.get(&run).into_iter().flatten() {
            if let Some(attempt) = ledger.apply_entry(stored.seq, stored.at, &stored.decode().unwrap()) {
                models.entry(attempt.model.clone()).or_default().add(CostTotals::from(&attempt));
            }
        }
        models.into_iter().collect()
    }
}

/// What the gateway writes of messages.
fn is_of_the_outbox(mutation: &Mutation) -> bool {
    matches!(
        mutation,
        Mutation::DeliveryStart(_)
            | Mutation::DeliverySettle(_)
            | Mutation::DeliveryDrop(_)
            | Mutation::DeliveryRedrive(_)
            | Mutation::FeedNumber(_)
            | Mutation::CursorMove(_)
            | Mutation::AnswerPut(_)
    )
}

impl StoreWrapper for Rooms {
    fn wrapped_store(&self) -> &dyn Store {
        &self.outgoing
    }

    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        for mutation in batch.mutations.iter().filter(|mutation| !is_of_the_outbox(mutation)) {
            let Mutation::StatePut(put) = mutation else { panic!("the gateway writes nothing else") };
            let is_mine =
                |(tenant, row): &(TenantId, SessionRecord)| *tenant == batch.tenant && row.id == put.session;
            assert!(self.lock().sessions.iter().any(is_mine), "the gateway looked first");
        }
        self.wrapped_store().commit(batch)
    }

    fn tenants<'a>(
        &'a self,
        _: &'a OperatorScope,
        wanted: PageRequest<TenantId>,
    ) -> Read<'a, Vec<TenantRecord>> {
        ready(page(&self.lock().tenants, &wanted, |tenant| tenant.id))
    }

    fn tenant_by_handle<'a>(
        &'a self,
        _: &'a OperatorScope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<TenantRecord>> {
        ready(self.lock().tenants.iter().find(|tenant| tenant.handle == *handle).cloned())
    }

    fn tenant_record<'a>(&'a self, scope: &'a Scope) -> Read<'a, Option<TenantRecord>> {
        ready(self.lock().tenants.iter().find(|tenant| tenant.id == scope.tenant()).cloned())
    }

    fn tenant_counts<'a>(&'a self, scope: &'a Scope) -> Read<'a, TenantCounts> {
        let inner = self.lock();
        let count =
            |rows: &mut dyn Iterator<Item = TenantId>| rows.filter(|id| *id == scope.tenant()).count() as u64;
        ready(TenantCounts {
            agents: count(&mut inner.agents.iter().map(|(tenant, ..)| *tenant)),
            sessions: count(&mut inner.sessions.iter().map(|(tenant, _)| *tenant)),
            open_runs: count(
                &mut inner
                    .runs
                    .iter()
                    .filter(|(_, run)| !run.head.status.is_terminal())
                    .map(|(tenant, _)| *tenant),
            ),
        })
    }

    fn find_token_owner<'a>(&'a self, _: &'a OperatorScope, hash: Digest) -> Read<'a, Option<TokenOwner>> {
        let mut inner = self.lock();
        inner.token_reads += 1;
        if inner.tokens_fail {
            let cause = "the disk is slow".to_owned();
            return Box::pin(std::future::ready(Err(ReadError::Unavailable { cause })));
        }
        let found = inner.tokens.get(&hash).cloned();
        match inner.token_waits.take() {
            None => ready(found),
            Some(waits) => Box::pin(async move {
                drop(waits.await);
                Ok(found)
            }),
        }
    }

    fn approval<'a>(&'a self, scope: &'a Scope, id: ApprovalId) -> Read<'a, Option<ApprovalRequest>> {
        let inner = self.lock();
        let mine = inner.approvals.iter().find(|(tenant, row)| *tenant == scope.tenant() && row.id == id);
        ready(mine.map(|(_, row)| row.clone()))
    }

    fn approvals<'a>(
        &'a self,
        scope: &'a Scope,
        filter: ApprovalFilter,
        wanted: PageRequest<ApprovalId>,
    ) -> Read<'a, Vec<ApprovalRequest>> {
        let inner = self.lock();
        let mine = inner.approvals.iter().filter(|(tenant, _)| *tenant == scope.tenant()).map(|(_, row)| row);
        let mine = mine.filter(|row| {
            filter.agent.is_none_or(|agent| agent == row.source.agent)
                && filter.open_at.is_none_or(|now| row.state_at(now).is_open())
        });
        let mut rows: Vec<ApprovalRequest> = mine.cloned().collect();
        rows.sort_by_key(|row| Reverse(row.id));
        ready(page(&rows, &PageRequest { after: wanted.after.map(Reverse), limit: wanted.limit }, |row| {
            Reverse(row.id)
        }))
    }

    fn tokens<'a>(
        &'a self,
        scope: &'a Scope,
        name: Option<&'a str>,
        wanted: PageRequest<TokenId>,
    ) -> Read<'a, Vec<TokenRecord>> {
        let inner = self.lock();
        let mine = inner.tokens.values().filter(|owner| owner.tenant.id == scope.tenant());
        let named = mine.filter(|owner| name.is_none_or(|name| owner.token.name == name));
        let mut tokens: Vec<_> = named.map(|owner| owner.token.clone()).collect();
        tokens.sort_by_key(|token| token.id);
        ready(page(&tokens, &wanted, |token| token.id))
    }

    fn token_by_id<'a>(&'a self, scope: &'a Scope, token: TokenId) -> Read<'a, Option<TokenRecord>> {
        let inner = self.lock();
        let mut mine = inner.tokens.values().filter(|owner| owner.tenant.id == scope.tenant());
        ready(mine.find(|owner| owner.token.id == token).map(|owner| owner.token.clone()))
    }

    fn agents<'a>(
        &'a self,
        scope: &'a Scope,
        _: Option<AgentState>,
        wanted: PageRequest<AgentId>,
    ) -> Read<'a, Vec<AgentRecord>> {
        let inner = self.lock();
        let mine = inner.agents.iter().filter(|(tenant, ..)| *tenant == scope.tenant());
        let mine: Vec<_> = mine.map(|(_, agent, _)| agent.clone()).collect();
        ready(page(&mine, &wanted, |agent| agent.id))
    }

    fn agent<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Option<AgentRecord>> {
        let inner = self.lock();
        let found = inner.agents.iter().find(|(tenant, row, _)| *tenant == scope.tenant() && row.id == agent);
        ready(found.map(|(_, row, _)| row.clone()))
    }

    fn agent_by_handle<'a>(
        &'a self,
        scope: &'a Scope,
        handle: &'a HandleSlug,
    ) -> Read<'a, Option<AgentRecord>> {
        let inner = self.lock();
        let found =
            inner.agents.iter().find(|(tenant, row, _)| *tenant == scope.tenant() && row.handle == *handle);
        ready(found.map(|(_, row, _)| row.clone()))
    }

    fn agent_revision<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        digest: Digest,
    ) -> Read<'a, Option<AgentRevision>> {
        let inner = self.lock();
        let found = inner.agents.iter().find(|(tenant, row, _)| *tenant == scope.tenant() && row.id == agent);
        ready(found.map(|(_, _, config)| AgentRevision { digest, config: config.clone() }))
    }

    /// Each agent has the same document.
    fn pinned_text<'a>(&'a self, scope: &'a Scope, digest: Digest) -> Read<'a, Option<Bytes>> {
        let has_agents = self.lock().agents.iter().any(|(tenant, _, _)| *tenant == scope.tenant());
        ready((has_agents && digest == Digest::default()).then(|| Bytes::from_static(b"You are kind.")))
    }

    fn agent_revisions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        _: PageRequest<u64>,
    ) -> Read<'a, Vec<RevisionRecord>> {
        let inner = self.lock();
        let found = inner.agents.iter().find(|(tenant, row, _)| *tenant == scope.tenant() && row.id == agent);
        ready(
            found
                .map(|(_, row, _)| RevisionRecord {
                    number: row.revision_number,
                    at: row.created_at,
                    by: None,
                    digest: row.revision,
                    changed: Vec::new(),
                })
                .into_iter()
                .collect(),
        )
    }

    fn session<'a>(&'a self, scope: &'a Scope, session: SessionId) -> Read<'a, Option<SessionRecord>> {
        let inner = self.lock();
        let found =
            inner.sessions.iter().find(|(tenant, row)| *tenant == scope.tenant() && row.id == session);
        ready(found.map(|(_, row)| row.clone()))
    }

    fn sessions<'a>(
        &'a self,
        scope: &'a Scope,
        agent: Option<AgentId>,
        wanted: PageRequest<SessionId>,
    ) -> Read<'a, Vec<SessionRecord>> {
        let inner = self.lock();
        let mine = inner.sessions.iter().filter(|(tenant, row)| {
            *tenant == scope.tenant() && agent.is_none_or(|agent| row.agent == agent)
        });
        let mine: Vec<_> = mine.map(|(_, row)| row.clone()).collect();
        ready(page(&mine, &wanted, |session| session.id))
    }

    fn session_tail<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
        _: TailLimits,
    ) -> Read<'a, Option<SessionTail>> {
        let inner = self.lock();
        let found =
            inner.sessions.iter().find(|(tenant, row)| *tenant == scope.tenant() && row.id == session);
        ready(found.map(|(_, row)| {
            SessionTail {
                session: row.clone(),
                items: inner
                    .items
                    .iter()
                    .filter(|(of, _)| *of == session)
                    .map(|(_, item)| item.clone())
                    .collect(),
                runs: inner
                    .runs
                    .iter()
                    .filter(|(_, run)| run.session == session)
                    .map(|(_, run)| (run.id, inner.journals.get(&run.id).cloned().unwrap_or_default().into()))
                    .collect(),
            }
        }))
    }

    fn ids_like<'a>(
        &'a self,
        scope: &'a Scope,
        kind: IdKind,
        fragment: IdFragment,
        limit: usize,
    ) -> Read<'a, Vec<[u8; 16]>> {
        let inner = self.lock();
        let mine = scope.tenant();
        let mut ids: Vec<[u8; 16]> = match kind {
            IdKind::Run => {
                let runs = inner.runs.iter().filter(|(tenant, _)| *tenant == mine);
                runs.map(|(_, run)| *run.id.as_bytes()).collect()
            }
            IdKind::Session => {
                let sessions = inner.sessions.iter().filter(|(tenant, _)| *tenant == mine);
                sessions.map(|(_, session)| *session.id.as_bytes()).collect()
            }
            _ => Vec::new(),
        };
        ids.retain(|id| fragment.fits_id(id));
        ids.sort_unstable_by_key(|id| Reverse(*id));
        ids.truncate(limit);
        ready(ids)
    }

    fn run<'a>(&'a self, scope: &'a Scope, run: RunId) -> Read<'a, Option<RunRecord>> {
        let inner = self.lock();
        let found = inner.runs.iter().find(|(tenant, row)| *tenant == scope.tenant() && row.id == run);
        ready(found.map(|(_, row)| row.clone()))
    }

    fn runs<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        wanted: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunRecord>> {
        let inner = self.lock();
        let mine = inner.runs.iter().filter(|(tenant, row)| {
            *tenant == scope.tenant()
                && filter.session.is_none_or(|session| row.session == session)
                && filter.agent.is_none_or(|agent| row.agent == agent)
                && filter.status.is_none_or(|status| row.head.status == status)
        });
        let mut mine: Vec<_> = mine.map(|(_, row)| row.clone()).collect();
        mine.sort_by_key(|run| Reverse(run.id));
        ready(page(&mine, &PageRequest { after: wanted.after.map(Reverse), limit: wanted.limit }, |run| {
            Reverse(run.id)
        }))
    }

    fn troubled_runs<'a>(
        &'a self,
        scope: &'a Scope,
        since: Timestamp,
        limit: usize,
    ) -> Read<'a, Vec<RunRecord>> {
        let inner = self.lock();
        let troubled = inner.runs.iter().filter(|(tenant, row)| {
            let ended = matches!(row.head.status, RunStatus::Yielded | RunStatus::Failed);
            *tenant == scope.tenant()
                && (row.head.status == RunStatus::Held || (ended && row.updated_at >= since))
        });
        let mut troubled: Vec<_> = troubled.map(|(_, row)| row.clone()).collect();
        troubled.sort_by_key(|run| Reverse((run.head.status == RunStatus::Held, run.updated_at)));
        troubled.truncate(limit);
        ready(troubled)
    }

    fn working_runs<'a>(&'a self, scope: &'a Scope, limit: usize) -> Read<'a, Vec<RunRecord>> {
        let inner = self.lock();
        let working = inner.runs.iter().filter(|(tenant, row)| {
            *tenant == scope.tenant() && matches!(row.head.status, RunStatus::Running | RunStatus::Parked)
        });
        let mut working: Vec<_> = working.map(|(_, row)| row.clone()).collect();
        working.sort_by_key(|run| (run.head.status, Reverse(run.id)));
        working.truncate(limit);
        ready(working)
    }

    fn spending_since<'a>(&'a self, scope: &'a Scope, first: RunId, limit: usize) -> Read<'a, SpendingSum> {
        let inner = self.lock();
        let mine = inner.runs.iter().filter(|(tenant, row)| *tenant == scope.tenant() && row.id >= first);
        let mut sum = SpendingSum::default();
        for (_, run) in mine.take(limit) {
            sum.runs += 1;
            sum.spent.add(CostTotals::from(run));
        }
        ready(sum)
    }

    fn run_spending<'a>(
        &'a self,
        scope: &'a Scope,
        filter: RunFilter,
        wanted: PageRequest<RunId>,
    ) -> Read<'a, Vec<RunSpending>> {
        let runs = StoreWrapper::runs(self, scope, filter, wanted);
        Box::pin(async move {
            let runs = runs.await?;
            Ok(runs.into_iter().map(|run| RunSpending { models: self.models(run.id), run }).collect())
        })
    }

    fn journal_entries<'a>(
        &'a self,
        scope: &'a Scope,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<StoredEntry>> {
        let inner = self.lock();
        let mine = inner.runs.iter().any(|(tenant, row)| *tenant == scope.tenant() && row.id == run);
        let entries = inner.journals.get(&run).filter(|_| mine);
        let after = entries.into_iter().flatten().filter(|entry| entry.seq > after);
        ready(after.take(limit).cloned().collect())
    }

    fn inbox_items<'a>(
        &'a self,
        scope: &'a Scope,
        owner: InboxOwner,
        after: u64,
        limit: usize,
    ) -> Read<'a, Vec<InboxItem>> {
        let inner = self.lock();
        let InboxOwner::Session(session) = owner else { return ready(vec![]) };
        let mine = inner.sessions.iter().any(|(tenant, row)| *tenant == scope.tenant() && row.id == session);
        let items = inner.items.iter().filter(|(of, item)| mine && *of == session && item.position > after);
        ready(items.take(limit).map(|(_, item)| item.clone()).collect())
    }

    fn find_keyed_item<'a>(
        &'a self,
        scope: &'a Scope,
        key: &'a str,
        _: jiff::Timestamp,
    ) -> Read<'a, Option<KeyedItem>> {
        let known = self.lock().keys.get(&(scope.tenant(), key.to_owned())).copied();
        ready(known.map(|(request, item, session, _)| KeyedItem {
            item,
            owner: InboxOwner::Session(session),
            position: 1,
            request,
        }))
    }

    fn store_health(&self) -> StoreHealth {
        let inner = self.lock();
        let (read_only, damaged) = (inner.read_only.clone(), inner.damaged.clone());
        StoreHealth { read_only, damaged, wal_bytes: 11, file_bytes: 4096 }
    }

    fn store_stats(&self) -> StoreStats {
        StoreStats { commits: 7, batches: 8, rows: 9, writer_micros: 10, bytes_written: 11 }
    }
}
