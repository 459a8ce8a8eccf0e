//! How a caller learns of the end of the run that takes its input: at once if it has ended, or when it does.
//!
//! An agent that is terminated or erased takes no more input, so a caller that waits behind a turn of it gets at once
//! the fault that no answer will come. Beyond that, and a bound for each tenant, every caller may wait here, as long as
//! it wants; one that hangs up is forgotten.

use dromia_contracts::agent::AgentState;
use dromia_contracts::content::ContentPart;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::RunOutcome;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::{AgentId, BoxFuture, ErrorCode, Fault, ItemId, RunId, Scope};

use crate::agents::read_fault;
use crate::context::transcript::ConversationTranscript;
use crate::core::EngineCore;
use crate::journal_reads::read_journal;
use crate::notifications::InboxPosition;
use crate::refusal::{agent_ended, run_erased};
use crate::state::RunState;

/// Answers the callers that wait for the end of a run.
pub(crate) struct RunOutcomes<'a> {
    core: &'a EngineCore,
}

impl<'a> RunOutcomes<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { core }
    }

    /// Waits for the run that takes an item.
    pub(crate) fn wait_for(
        &self,
        scope: &Scope,
        agent: AgentId,
        item: ItemId,
    ) -> BoxFuture<'static, Result<RunOutcome, Fault>> {
        let waiting = self.core.hub.register_waiter((scope.tenant(), agent), item);
        Box::pin(async move {
            waiting.wait_for_answer().await.unwrap_or_else(|| {
                Err(Fault::new(ErrorCode::ShuttingDown, "the server stopped waiting; the input is durable"))
            })
        })
    }

    /// Reads the outcome of a run that has ended.
    pub(crate) async fn ended_outcome(
        &self,
        scope: &Scope,
        run: RunId,
    ) -> Result<Option<BoxFuture<'static, Result<RunOutcome, Fault>>>, Fault> {
        let row = self.core.ports.store.run(scope, run).await.map_err(read_fault)?;
        // The inbox showed that the run took the item, so the run can only have been erased since.
        let row = row.ok_or_else(|| run_erased(run))?;
        if !row.head.status.is_terminal() {
            return Ok(None);
        }
        let (outcome, _) = self.read_outcome(scope, &row).await?;
        Ok(Some(Box::pin(std::future::ready(Ok(outcome)))))
    }

    /// Remembers that a caller waits behind a turn, and answers it at once if the agent has ended meanwhile.
    ///
    /// Remember first and read then: the end of an agent is made durable first and looks for callers then, so one of
    /// the two sees the other.
    pub(crate) async fn wait_in_line(
        &self,
        scope: &Scope,
        agent: AgentId,
        item: ItemId,
        place: InboxPosition,
    ) {
        self.core.hub.note_queued(item, place);
        self.answer_if_ended(scope, agent).await;
    }

    /// Answers the callers that wait behind a turn of an agent, if the agent has ended.
    pub(crate) async fn answer_if_ended(&self, scope: &Scope, agent: AgentId) {
        match self.core.caches.agents.agent_snapshot(scope, agent).await {
            Ok(found) if !matches!(found.state, AgentState::Terminated | AgentState::Deleting) => {}
            Ok(_) => self.answer_queued(scope, agent).await,
            // What is being erased is not found any more.
            Err(fault) if fault.code == ErrorCode::AgentNotFound => self.answer_queued(scope, agent).await,
            Err(fault) if fault.code == ErrorCode::StoreUnavailable => self.core.request_rescan(),
            // It cannot be read at all, so nothing is known to have ended.
            Err(fault) => tracing::warn!(%agent, %fault, "an agent cannot be read, so its callers wait"),
        }
    }

    /// Answers the callers that wait behind a turn of an agent that has ended, durably. What a run took is answered by
    /// that run; nothing more is taken.
    pub(crate) async fn answer_queued(&self, scope: &Scope, agent: AgentId) {
        for (item, place) in self.core.hub.asked_of(agent) {
            let Some(InboxPosition { session, position }) = place else { continue };
            let owner = InboxOwner::Session(session);
            match self.core.ports.store.inbox_items(scope, owner, position.saturating_sub(1), 1).await {
                Ok(found) if found.first().is_some_and(|found| found.taken_by.is_some()) => {}
                Ok(_) => self.core.hub.resolve_waiters(&[item], &Err(agent_ended(agent, item))),
                Err(error) => {
                    tracing::warn!(%item, %error, "it must be checked later whether an input was taken");
                    self.core.request_rescan();
                }
            }
        }
    }

    /// Checks every agent behind whose turn a caller waits: the notification of its end may have been missed.
    pub(crate) async fn answer_queued_everywhere(&self) {
        for (tenant, agent) in self.core.hub.queued_agents() {
            self.answer_if_ended(&self.core.recovery_scope(tenant), agent).await;
        }
    }

    /// Reads how a run that has ended ended, and which items it took: an owner that was lost may have been about to take more.
    pub(crate) async fn read_outcome(
        &self,
        scope: &Scope,
        row: &RunRecord,
    ) -> Result<(RunOutcome, Vec<ItemId>), Fault> {
        let journal = read_journal(&*self.core.ports.store, scope, row.id).await.map_err(read_fault)?;
        let mut story = ConversationTranscript::new(0);
        let mut state = RunState::default();
        for stored in &journal {
            let entry = stored.decode();
            let entry = entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            crate::state::apply_entry(&mut state, &entry);
            story
                .add_entry(&entry, stored.body.as_deref())
                .map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        }
        let outcome = RunOutcome {
            run: row.id,
            last_seq: row.last_seq,
            head: row.head,
            reply: answer_parts(row.head.status, &story).map(<[ContentPart]>::to_vec),
            failure: state.failure_fault(),
        };
        Ok((outcome, state.taken_items()))
    }
}

/// Returns the answer of a run for others: only a reply that the gate allowed, of a run that completed or concluded at its limit.
/// The last text of a run that ended in another way was refused or not judged; the journal keeps it.
pub(crate) fn answer_parts(status: RunStatus, story: &ConversationTranscript) -> Option<&[ContentPart]> {
    let is_allowed = match status {
        RunStatus::Completed => true,
        RunStatus::Yielded => story.concluded,
        _ => false,
    };
    is_allowed.then_some(story.reply.as_slice())
}
