//! Compaction: when a conversation fills its model's window, a run beside it summarizes the oldest part.
//!
//! Nothing waits for it. A turn that ends looks how full its last request was; from [`BEGIN_PERCENT`] on, the input of a
//! compaction becomes durable in a session of its own. Its run is an ordinary one: one request without tools, whose answer
//! is the summary. The next turn that begins afterwards shows the summary in the place of what it summarizes, and its
//! `run_started` names it. A turn in flight keeps its past.
//!
//! A crash before the input is durable loses nothing but time: the next turn that ends looks again. The words themselves are
//! never changed.

mod context_use;
mod material;
mod range;

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::compaction::{CompactionAnswer, CompactionRange, PLATFORM, SECTIONS_MAX};
use dromia_contracts::content::InputMessage;
use dromia_contracts::identity_document::PromptKind;
use dromia_contracts::input::InputBody;
use dromia_contracts::model_route::RouteFacts;
use dromia_contracts::run::{RunKind, RunRecord, RunStatus};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionRecord};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, InboxPut, ItemKey, KeyLifetime, Mutation, PageRequest, RunFilter,
    SessionOpen, TailLimits, WriteBatch,
};
use dromia_contracts::{Actor, Digest, ErrorCode, Fault, Scope, SessionId};

use crate::agents::{AgentSnapshot, read_fault};
use crate::context::transcript::{ConversationTranscript, StoryError, TranscriptStart};
use crate::core::EngineCore;
use crate::refusal::commit_fault;
use crate::scheduler::ReadyWork;
use crate::summary_reads::{compaction_key, read_newest_summary, read_range};
use crate::window_use::{PAST_BYTES_MAX, PAST_ITEMS_MAX, WindowUse};

pub(crate) use self::context_use::SessionContext;

/// How full a window is when the oldest three quarters are summarized, in percent.
const HASTEN_PERCENT: u32 = 85;

/// After so many compactions in a row that failed, none begins until the window is fuller by [`REST_PERCENT`].
const FAILURES_MAX: usize = 3;

/// See [`FAILURES_MAX`].
const REST_PERCENT: u32 = 10;

/// A session whose oldest part may be summarized.
pub(crate) struct CompactedSession {
    pub(crate) scope: Scope,
    pub(crate) agent: Arc<AgentSnapshot>,
    pub(crate) session: SessionId,
    pub(crate) used: WindowUse,
}

impl CompactedSession {
    /// Has the oldest part of the session summarized, if that is due.
    pub(crate) async fn compact_if_due(&self, core: &Arc<EngineCore>) {
        match self.begin_compaction(core, false).await {
            Ok(CompactionAnswer::Planned(planned)) => {
                tracing::info!(session = %self.session, from = planned.from, upto = planned.upto,
                               percent = self.used.percent(), "the oldest part of a session is summarized");
            }
            Ok(CompactionAnswer::UnderWay | CompactionAnswer::NothingToDo) => {}
            Err(fault) => {
                tracing::warn!(session = %self.session, %fault, "a session was not compacted; its next turn looks again");
            }
        }
    }

    /// Makes the input of a compaction durable and queues its run. `by_hand` summarizes the oldest half however full the
    /// window is.
    pub(crate) async fn begin_compaction(
        &self,
        core: &Arc<EngineCore>,
        by_hand: bool,
    ) -> Result<CompactionAnswer, Fault> {
        let (place, input) = match self.plan_input(core, by_hand).await? {
            CompactionPlan::UnderWay => return Ok(CompactionAnswer::UnderWay),
            CompactionPlan::NothingToDo => return Ok(CompactionAnswer::NothingToDo),
            CompactionPlan::Chosen { place, input } => (place, input),
        };
        let CompactionInput { range, author, body } = *input;
        let runtime = &core.ports.runtime;
        let (session, after) =
            place.as_ref().map_or_else(|| (runtime.session_id(), 0), |place| (place.id, place.head.last));
        let mut batch = WriteBatch::new(self.scope.tenant());
        if place.is_none() {
            batch.mutations.push(Mutation::SessionOpen(SessionOpen {
                session,
                agent: self.agent.id,
                key: compaction_key(self.session),
                at: runtime.clock.now(),
                believes: false,
                importing: false,
                origin: None,
            }));
        }
        // Two turns that end at the same time make one compaction.
        let key = format!("compaction:{}:{}", self.session, after + 1);
        batch.mutations.push(Mutation::InboxPut(InboxPut {
            owner: InboxOwner::Session(session),
            item: runtime.item_id(),
            at: runtime.clock.now(),
            kind: ItemKind::Input,
            author,
            key: Some(ItemKey {
                key,
                request: Digest::from_bytes(*blake3::hash(&body).as_bytes()),
                lifetime: KeyLifetime::Forever,
            }),
            body,
        }));
        match core.ports.store.commit(batch).await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(CommitRefusal::KeyTaken { .. } | CommitRefusal::SessionExists { .. }) => {
                return Ok(CompactionAnswer::UnderWay);
            }
            other => return Err(commit_fault(other)),
        }
        core.enqueue_ready(self.scope.tenant(), ReadyWork::Session(session));
        Ok(CompactionAnswer::Planned(range.planned(Some(session))))
    }

    /// Says what would be summarized now, without doing it.
    pub(crate) async fn preview(&self, core: &Arc<EngineCore>) -> Result<CompactionAnswer, Fault> {
        Ok(match self.plan_input(core, true).await? {
            CompactionPlan::UnderWay => CompactionAnswer::UnderWay,
            CompactionPlan::NothingToDo => CompactionAnswer::NothingToDo,
            CompactionPlan::Chosen { input, .. } => CompactionAnswer::Planned(input.range.planned(None)),
        })
    }

    /// Chooses the part and writes the input that has it summarized.
    async fn plan_input(&self, core: &Arc<EngineCore>, by_hand: bool) -> Result<CompactionPlan, Fault> {
        let store = &*core.ports.store;
        let (scope, agent) = (&self.scope, self.agent.id);
        let place =
            store.session_by_key(scope, agent, &compaction_key(self.session)).await.map_err(read_fault)?;
        if place.as_ref().is_some_and(|it| it.head.active.is_some() || it.head.last > it.head.taken) {
            return Ok(CompactionPlan::UnderWay);
        }
        let earlier = read_newest_summary(store, scope, agent, self.session).await.map_err(read_fault)?;
        core.caches.summaries.put(scope.tenant(), self.session, earlier.clone());
        if let (Some(place), false) = (&place, by_hand)
            && self.rests_after_failures(core, place).await?
        {
            return Ok(CompactionPlan::NothingToDo);
        }
        let after = earlier.as_ref().map_or(0, |summary| summary.upto());
        // The whole of what a request may hold, and not only what fits this model: a part that does not fit is summarized too.
        let limits = TailLimits { after, items: PAST_ITEMS_MAX, bytes: PAST_BYTES_MAX, until: None };
        let tail = store.session_tail(scope, self.session, limits).await.map_err(read_fault)?;
        let Some(tail) = tail else { return Ok(CompactionPlan::NothingToDo) };
        if tail.session.origin.as_ref().is_some_and(|origin| origin.kind == RunKind::Branch) {
            // Its requests begin with the transcript of its parent, and it has one turn.
            return Ok(CompactionPlan::NothingToDo);
        }
        let share = if self.used.percent() >= HASTEN_PERCENT && !by_hand { (3, 4) } else { (1, 2) };
        let room = range::material_bytes(self.used_by_compaction(core));
        let Some(chosen) = range::choose_range(&tail, share, room) else {
            return Ok(CompactionPlan::NothingToDo);
        };
        let part = range::cut_tail(&tail, chosen.upto);
        let story = ConversationTranscript::from_tail(
            &part,
            None,
            core.config().tainted_past,
            TranscriptStart::Session(None),
        );
        let mut story = story.map_err(|error| unreadable_fault(&error))?;
        story.close_past();
        let sections = earlier.as_ref().map(|summary| summary.sections().to_vec()).unwrap_or_default();
        // The next summary takes the place of all earlier ones, so that they do not become a conversation of their own.
        let (rolled, kept) =
            if sections.len() >= SECTIONS_MAX { (sections, Vec::new()) } else { (Vec::new(), sections) };
        let material = material::write_material(&story, &rolled, room);
        let range = CompactionRange {
            session: self.session,
            from: rolled.first().map_or(chosen.from, |first| first.from),
            upto: chosen.upto,
            last_run: chosen.last_run,
            chain: chosen.chain,
            bytes: chosen.bytes as u64,
            percent: self.used.percent(),
            earlier: kept,
            kept: material::kept_words(&story, self.used),
        };
        // The person whose conversation it is pays for it.
        let author = tail.session.key.actor;
        let message = InputMessage { author: author.clone(), parts: material, hops: 0 };
        let body =
            InputBody { compaction: Some(Box::new(range.clone())), ..InputBody::from_message(message) };
        let body = body.encode().map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let input = Box::new(CompactionInput { range, author, body: Bytes::from(body) });
        Ok(CompactionPlan::Chosen { place, input })
    }

    /// Returns the window as the model has it that summarizes, which may be a smaller one.
    fn used_by_compaction(&self, core: &EngineCore) -> WindowUse {
        let facts = RouteFacts {
            kind: PromptKind::Compaction,
            role: None,
            platform: PLATFORM,
            input_bytes: 0,
            pictures: false,
            untrusted: true,
        };
        let routed = core.ports.model.route_alias(&self.agent.config.model, &facts);
        let window =
            routed.map_or(self.used.window, |alias| core.window_tokens(&alias).min(self.used.window));
        WindowUse { window, ..self.used }
    }

    /// Returns whether the last compactions failed and the window is not much fuller since.
    async fn rests_after_failures(
        &self,
        core: &Arc<EngineCore>,
        place: &SessionRecord,
    ) -> Result<bool, Fault> {
        let store = &*core.ports.store;
        let filter = RunFilter { session: Some(place.id), ..RunFilter::default() };
        let page = PageRequest::first_page(FAILURES_MAX);
        let runs: Vec<RunRecord> = store.runs(&self.scope, filter, page).await.map_err(read_fault)?;
        if runs.len() < FAILURES_MAX || runs.iter().any(|run| run.head.status == RunStatus::Completed) {
            return Ok(false);
        }
        let last = read_range(store, &self.scope, runs[0].id).await.map_err(read_fault)?;
        let percent = last.map_or(0, |range| range.percent);
        Ok(self.used.percent() < percent.saturating_add(REST_PERCENT))
    }
}

/// What a look at a session leads to.
enum CompactionPlan {
    /// A compaction of the session has not ended.
    UnderWay,
    /// Too little is there, or the last compactions failed.
    NothingToDo,
    /// A part is to be summarized.
    Chosen {
        /// The session in which that happens, if there is one already.
        place: Option<SessionRecord>,
        input: Box<CompactionInput>,
    },
}

/// The input of a compaction.
struct CompactionInput {
    range: CompactionRange,
    /// The actor of the summarized session.
    author: Actor,
    body: Bytes,
}

fn unreadable_fault(error: &StoryError) -> Fault {
    Fault::new(ErrorCode::JournalUnreadable, error.to_string())
}
