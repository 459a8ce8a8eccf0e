//! How a summary is found: it follows from the input and the answer of its compaction run, which never change, so it need not
//! be stored once more.

use std::sync::Arc;

use dromia_contracts::compaction::{CompactionRange, PLATFORM};
use dromia_contracts::content::AssistantMessage;
use dromia_contracts::input::InputBody;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, SessionKey};
use dromia_contracts::store::{PageRequest, ReadError, RunFilter, Store};
use dromia_contracts::{Actor, AgentId, RunId, Scope, SessionId, TenantId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::context::summary::ConversationSummary;
use crate::journal_reads::{read_journal, read_run_start};

/// The key of the session in which another one is summarized.
pub(crate) fn compaction_key(session: SessionId) -> SessionKey {
    SessionKey {
        platform: PLATFORM.to_owned(),
        channel: session.to_string(),
        actor: Actor::new("engine:compaction"),
    }
}

/// Reads what a compaction run wrote; `None` if its words were erased, or it has no answer.
pub(crate) async fn read_summary(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
) -> Result<Option<Arc<ConversationSummary>>, ReadError> {
    let Some(range) = read_range(store, scope, run).await? else { return Ok(None) };
    let journal = read_journal(store, scope, run).await?;
    let reply = journal.iter().rev().find(|stored| stored.kind == "model_replied");
    let body = reply.and_then(|stored| stored.body.as_deref());
    let Some(message) = body.and_then(|body| serde_json::from_slice::<AssistantMessage>(body).ok()) else {
        return Ok(None);
    };
    Ok(Some(Arc::new(ConversationSummary::new(run, range, message.parts))))
}

/// Reads which part a compaction run summarizes.
pub(crate) async fn read_range(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
) -> Result<Option<CompactionRange>, ReadError> {
    let Some(started) = read_run_start(store, scope, run).await? else { return Ok(None) };
    let owner = InboxOwner::Session(started.session);
    let items = store.inbox_items(scope, owner, started.after, 1).await?;
    let body = items.first().and_then(|item| item.body.as_deref());
    let body = body.and_then(|body| InputBody::decode(body).ok());
    Ok(body.and_then(|body| body.compaction).map(|range| *range))
}

/// Reads the newest summary of a session.
pub(crate) async fn read_newest_summary(
    store: &dyn Store,
    scope: &Scope,
    agent: AgentId,
    session: SessionId,
) -> Result<Option<Arc<ConversationSummary>>, ReadError> {
    let Some(place) = store.session_by_key(scope, agent, &compaction_key(session)).await? else {
        return Ok(None);
    };
    let filter =
        RunFilter { session: Some(place.id), status: Some(RunStatus::Completed), ..RunFilter::default() };
    let runs = store.runs(scope, filter, PageRequest::first_page(1)).await?;
    match runs.first() {
        Some(run) => read_summary(store, scope, run.id).await,
        None => Ok(None),
    }
}

/// The newest summaries of sessions, and which sessions have none. What it says may be old: a turn then has a longer past.
#[derive(Debug)]
pub(crate) struct SummaryCache {
    known: Cache<(TenantId, SessionId), Option<Arc<ConversationSummary>>, SummaryWeight>,
}

/// The most bytes of summaries in memory.
const CACHED_BYTES_MAX: u64 = 16 << 20;

/// How many summaries are expected in memory.
const CACHED_ITEMS: usize = 16 << 10;

/// What a summary weighs in memory.
#[derive(Debug, Clone)]
struct SummaryWeight;

impl Weighter<(TenantId, SessionId), Option<Arc<ConversationSummary>>> for SummaryWeight {
    fn weight(&self, _: &(TenantId, SessionId), summary: &Option<Arc<ConversationSummary>>) -> u64 {
        96 + summary.as_ref().map_or(0, |summary| summary.held_bytes())
    }
}

impl SummaryCache {
    pub(crate) fn new() -> Self {
        Self { known: Cache::with_weighter(CACHED_ITEMS, CACHED_BYTES_MAX, SummaryWeight) }
    }

    /// Returns the newest summary of a session, from memory where possible.
    pub(crate) async fn newest_summary(
        &self,
        store: &dyn Store,
        scope: &Scope,
        agent: AgentId,
        session: SessionId,
    ) -> Result<Option<Arc<ConversationSummary>>, ReadError> {
        if let Some(known) = self.known.get(&(scope.tenant(), session)) {
            return Ok(known);
        }
        let found = read_newest_summary(store, scope, agent, session).await?;
        self.put(scope.tenant(), session, found.clone());
        Ok(found)
    }

    pub(crate) fn put(
        &self,
        tenant: TenantId,
        session: SessionId,
        summary: Option<Arc<ConversationSummary>>,
    ) {
        self.known.insert((tenant, session), summary);
    }

    /// Forgets a session, because a compaction of it has ended.
    pub(crate) fn forget(&self, tenant: TenantId, session: SessionId) {
        self.known.remove(&(tenant, session));
    }

    /// Forgets all, because words were erased.
    pub(crate) fn forget_all(&self) {
        self.known.clear();
    }
}
