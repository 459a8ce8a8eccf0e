//! A summary as a request shows it, and how it is found.
//!
//! It follows from the input and the answer of its compaction run, which never change, so it need not be stored once more.

use std::sync::Arc;

use dromia_contracts::compaction::{CompactionRange, SummarySection};
use dromia_contracts::content::{AssistantMessage, ContentPart};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::redacted_history::READ;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, ReadError, RunFilter, Store};
use dromia_contracts::{AgentId, RunId, Scope, SessionId, TenantId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::compaction_key;
use crate::journal_reads::{read_journal, read_run_start};

/// What takes the place of the oldest part of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConversationSummary {
    run: RunId,
    sections: Vec<SummarySection>,
    kept: Vec<ContentPart>,
}

impl ConversationSummary {
    /// The run that wrote it.
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// The position of the last item whose place it takes.
    pub(crate) fn upto(&self) -> u64 {
        self.sections.last().map_or(0, |section| section.upto)
    }

    /// The summaries that it is made of, oldest first.
    pub(crate) fn sections(&self) -> &[SummarySection] {
        &self.sections
    }

    /// Writes it as a request shows it.
    pub(crate) fn request_parts(&self) -> Vec<ContentPart> {
        let fact = |text: String| ContentPart::new_text(text, Label::PUBLIC_FACT);
        let from = self.sections.first().map_or(1, |section| section.from);
        let mut parts = vec![fact(format!(
            "[Summary of inputs {from} to {} of this conversation, which are not repeated. {READ} reads the words themselves: \
             handle 7 is input 7, 7/step_1 what you said first about it, 7/call_1_0 the result of your first call.]",
            self.upto()
        ))];
        for section in &self.sections {
            if self.sections.len() > 1 {
                parts.push(fact(format!("[Inputs {} to {}:]", section.from, section.upto)));
            }
            parts.extend(section.parts.iter().cloned());
        }
        if !self.kept.is_empty() {
            parts.push(fact("[Word for word from the end of that part:]".to_owned()));
            parts.extend(self.kept.iter().cloned());
        }
        parts
    }

    /// Reads what a compaction run wrote; `None` if its words were erased, or it has no answer.
    pub(crate) async fn read_run(
        store: &dyn Store,
        scope: &Scope,
        run: RunId,
    ) -> Result<Option<Arc<Self>>, ReadError> {
        let Some(range) = Self::read_range(store, scope, run).await? else { return Ok(None) };
        let journal = read_journal(store, scope, run).await?;
        let reply = journal.iter().rev().find(|stored| stored.kind == "model_replied");
        let body = reply.and_then(|stored| stored.body.as_deref());
        let Some(message) = body.and_then(|body| serde_json::from_slice::<AssistantMessage>(body).ok())
        else {
            return Ok(None);
        };
        let CompactionRange { from, upto, mut earlier, kept, .. } = range;
        earlier.push(SummarySection { from, upto, run, parts: message.parts });
        Ok(Some(Arc::new(Self { run, sections: earlier, kept })))
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
    pub(crate) async fn read_newest(
        store: &dyn Store,
        scope: &Scope,
        agent: AgentId,
        session: SessionId,
    ) -> Result<Option<Arc<Self>>, ReadError> {
        let Some(place) = store.session_by_key(scope, agent, &compaction_key(session)).await? else {
            return Ok(None);
        };
        let filter =
            RunFilter { session: Some(place.id), status: Some(RunStatus::Completed), ..RunFilter::default() };
        let runs = store.runs(scope, filter, PageRequest::first_page(1)).await?;
        match runs.first() {
            Some(run) => Self::read_run(store, scope, run.id).await,
            None => Ok(None),
        }
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
        let parts = summary.iter().flat_map(|summary| {
            summary.sections.iter().flat_map(|section| &section.parts).chain(&summary.kept)
        });
        96 + parts.map(|part| 64 + part.byte_count() as u64).sum::<u64>()
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
        let found = ConversationSummary::read_newest(store, scope, agent, session).await?;
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
