//! How a caller learns of the end of the run that takes its input: at once if it has ended, or when it does.
//!
//! An agent that is terminated or erased takes no more input, so whoever waits behind a turn of it is told at once that
//! no answer will come. Beyond that, and a bound for each tenant, nobody is kept from waiting here; how long a caller waits
//! is the caller's own affair, and one that hangs up is forgotten.

use dromia_contracts::agent::AgentState;
use dromia_contracts::content::Part;
use dromia_contracts::run::{Run, RunStatus};
use dromia_contracts::runs::Outcome;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::{AgentId, BoxFuture, ErrorCode, Fault, ItemId, RunId, Scope};

use crate::agents::read_fault;
use crate::core::Core;
use crate::live::Place;
use crate::refusal::{agent_ended, run_erased};
use crate::state::RunState;
use crate::story::Story;

impl Core {
    /// Waits for the run that takes an item.
    pub(crate) fn wait_for(
        &self,
        scope: &Scope,
        agent: AgentId,
        item: ItemId,
    ) -> BoxFuture<'static, Result<Outcome, Fault>> {
        let waiting = self.hub.wait((scope.tenant(), agent), item);
        Box::pin(async move {
            waiting.answer().await.unwrap_or_else(|| {
                Err(Fault::new(ErrorCode::ShuttingDown, "the server stopped waiting; the input is durable"))
            })
        })
    }

    /// Reads the outcome of a run that has ended.
    pub(crate) async fn ended(
        &self,
        scope: &Scope,
        run: RunId,
    ) -> Result<Option<BoxFuture<'static, Result<Outcome, Fault>>>, Fault> {
        let row = self.ports.store.run(scope, run).await.map_err(read_fault)?;
        // The inbox said that the run took the item, so it can only have been erased since.
        let row = row.ok_or_else(|| run_erased(run))?;
        if !row.head.status.is_terminal() {
            return Ok(None);
        }
        let outcome = self.outcome(scope, &row).await?;
        Ok(Some(Box::pin(std::future::ready(Ok(outcome)))))
    }

    /// Remembers that a caller waits behind a turn, and answers it at once if the agent has ended meanwhile.
    ///
    /// Remember first and look then: whoever ends the agent makes that durable first and looks for callers then, so
    /// one of the two sees the other.
    pub(crate) async fn wait_in_line(&self, scope: &Scope, agent: AgentId, item: ItemId, place: Place) {
        self.hub.queue(item, place);
        self.answer_if_ended(scope, agent).await;
    }

    /// Answers whoever waits behind a turn of an agent, if the agent has ended.
    pub(crate) async fn answer_if_ended(&self, scope: &Scope, agent: AgentId) {
        match self.snapshot(scope, agent).await {
            Ok(found) if !matches!(found.state, AgentState::Terminated | AgentState::Deleting) => {}
            Ok(_) => self.answer_queued(scope, agent).await,
            // What is being erased is not found any more.
            Err(fault) if fault.code == ErrorCode::AgentNotFound => self.answer_queued(scope, agent).await,
            Err(fault) if fault.code == ErrorCode::StoreUnavailable => self.request_rescan(),
            // It cannot be read at all, so nothing is known to have ended.
            Err(fault) => tracing::warn!(%agent, %fault, "an agent cannot be read; its callers wait"),
        }
    }

    /// Answers whoever waits behind a turn of an agent that has ended, durably. What a run took is answered by that
    /// run; nothing more is taken.
    pub(crate) async fn answer_queued(&self, scope: &Scope, agent: AgentId) {
        for (item, place) in self.hub.asked_of(agent) {
            let Some(Place { session, position }) = place else { continue };
            let owner = InboxOwner::Session(session);
            match self.ports.store.inbox(scope, owner, position.saturating_sub(1), 1).await {
                Ok(found) if found.first().is_some_and(|found| found.taken_by.is_some()) => {}
                Ok(_) => self.hub.resolve(&[item], &Err(agent_ended(agent, item))),
                Err(error) => {
                    tracing::warn!(%item, %error, "whether an input was taken must be looked up later");
                    self.request_rescan();
                }
            }
        }
    }

    /// Looks after callers of every agent behind whose turn somebody waits: an end may have gone unheard.
    pub(crate) async fn answer_queued_everywhere(&self) {
        for (tenant, agent) in self.hub.queued_agents() {
            self.answer_if_ended(&self.recovery_scope(tenant), agent).await;
        }
    }

    /// Reads how a run that has ended ended.
    pub(crate) async fn outcome(&self, scope: &Scope, row: &Run) -> Result<Outcome, Fault> {
        let journal = crate::recover::journal(self, scope, row.id).await.map_err(read_fault)?;
        let mut story = Story::new(0);
        let mut state = RunState::default();
        for stored in &journal {
            let entry = stored.decode();
            let entry = entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            crate::state::apply(&mut state, &entry);
            story
                .add_entry(&entry, stored.body.as_deref())
                .map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        }
        Ok(Outcome {
            run: row.id,
            last_seq: row.last_seq,
            head: row.head,
            reply: answer(row.head.status, &story).map(<[Part]>::to_vec),
            failure: state.fault(),
        })
    }
}

/// Returns what others are given as the answer of a run: what the gate let leave, and nothing else. The last words of a run
/// that ended in another way were refused, or nobody judged them; the journal has them as a record.
pub(crate) fn answer(status: RunStatus, story: &Story) -> Option<&[Part]> {
    (status == RunStatus::Completed).then_some(story.reply.as_slice())
}
