//! How the work of an agent is ended now: one run, one session's, or all of it.
//!
//! A run that is open gets a terminate signal, durably, and its owner drops what is in flight: with it go the programs
//! that a call started. A task that no run took yet is taken by a run that ends in the commit of its claim; so nothing
//! begins it later, its journal says who ended it, and its waiting callers get an answer. Items in sessions of other
//! platforms were sent by users and stay.
//!
//! Tasks are ended before runs: the next task would take the slot that an ended run left free.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{KillTarget, RunEndMode, RunOutcome};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionRecord};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, PageRequest, RunFilter, TurnClaim, WriteBatch,
};
use dromia_contracts::task::{self, TaskState};
use dromia_contracts::{AgentId, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use futures_util::{StreamExt as _, stream};

use crate::agents::{AgentSnapshot, read_fault};
use crate::core::EngineCore;
use crate::decide::{DecisionInput, decide};
use crate::journal_reads::find_run;
use crate::refusal::{commit_fault, run_not_found, session_not_found};
use crate::run_control::RunControl;
use crate::run_kinds::{EndedRun, RunPurpose};
use crate::scheduler::ReadyWork;
use crate::state::{RunState, apply_entry};

/// How many waiting items one run takes to end them; a batch holds them beside everything else.
const ITEMS_MAX: usize = 64;

/// How many runs or sessions of one request get their signal at a time: enough to become durable together, and few
/// enough that other tenants are served between them.
const KILLS_AT_ONCE: usize = 16;

/// How often the items behind an open run are polled, and the time between two polls.
const LOOKS: u32 = 200;
const LOOK: Duration = Duration::from_millis(10);

/// Ends runs now.
pub(crate) struct RunTermination<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> RunTermination<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Ends the target and returns the runs that got a signal, or ended.
    pub(crate) async fn kill_runs(
        &self,
        scope: &Scope,
        agent: AgentId,
        what: KillTarget,
    ) -> Result<Vec<RunId>, Fault> {
        let agent = self.core.caches.agents.agent_snapshot(scope, agent).await?;
        match what {
            KillTarget::Run(run) => {
                if find_run(&*self.core.ports.store, scope, run).await?.agent != agent.id {
                    return Err(run_not_found(run));
                }
                RunControl::new(self.core).end_run(scope.clone(), run, RunEndMode::Terminate).await?;
                Ok(vec![run])
            }
            KillTarget::Session(id) => {
                let session = self.session_of(scope, &agent, id).await?;
                self.end_session(scope, &agent, session).await
            }
            KillTarget::All => {
                let (mut ended, mut late) = (Vec::new(), None);
                let mut page = PageRequest::first_page(PageRequest::<SessionId>::LIMIT_MAX);
                loop {
                    let listed = self.core.ports.store.sessions(scope, Some(agent.id), page).await;
                    let sessions = listed.map_err(read_fault)?;
                    let next = sessions.last().map(|last| last.id).filter(|_| sessions.len() == page.limit);
                    let waiting = sessions.into_iter().filter(task_waits);
                    let waiting: Vec<_> =
                        waiting.map(|session| self.end_session(scope, &agent, session)).collect();
                    for answer in terminate_in_batches(waiting).await {
                        match answer {
                            Ok(runs) => ended.extend(runs),
                            // A run whose signal must be repeated does not keep the others from ending.
                            Err(fault) if fault.code == ErrorCode::Overloaded => late = Some(fault),
                            Err(fault) => return Err(fault),
                        }
                    }
                    match next {
                        Some(next) => page.after = Some(next),
                        None => break,
                    }
                }
                ended.extend(self.end_runs(scope, agent.id).await?);
                ended.sort_unstable();
                ended.dedup();
                late.map_or(Ok(ended), Err)
            }
        }
    }

    /// Puts a terminate signal into the inbox of every open run of an agent, and returns those runs.
    pub(crate) async fn end_runs(&self, scope: &Scope, agent: AgentId) -> Result<Vec<RunId>, Fault> {
        let mut ended = Vec::new();
        for status in [RunStatus::Running, RunStatus::Parked, RunStatus::Held] {
            let filter = RunFilter { session: None, agent: Some(agent), status: Some(status) };
            let mut page = PageRequest::first_page(PageRequest::<RunId>::LIMIT_MAX);
            loop {
                let runs = self.core.ports.store.runs(scope, filter, page).await.map_err(read_fault)?;
                let ends = runs.iter().map(|run| self.terminate_run(scope, run.id)).collect();
                for run in terminate_in_batches(ends).await {
                    // A run that ended since it was listed needs no signal.
                    ended.extend(run?);
                }
                match runs.last() {
                    Some(last) if runs.len() == page.limit => page.after = Some(last.id),
                    _ => break,
                }
            }
        }
        Ok(ended)
    }

    /// Finds a session of an agent.
    async fn session_of(
        &self,
        scope: &Scope,
        agent: &AgentSnapshot,
        id: SessionId,
    ) -> Result<SessionRecord, Fault> {
        let found = self.core.ports.store.session(scope, id).await.map_err(read_fault)?;
        found.filter(|session| session.agent == agent.id).ok_or_else(|| session_not_found(id))
    }

    /// Sends a run the signal to end now; a run that has ended gets none.
    pub(crate) async fn terminate_run(&self, scope: &Scope, run: RunId) -> Result<Option<RunId>, Fault> {
        match RunControl::new(self.core).signal_run(scope, run, ItemKind::Terminate).await {
            Ok(()) => Ok(Some(run)),
            Err(fault) if fault.code == ErrorCode::RunTerminal => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Ends the open run of a session and, if it is a task's session, its waiting items. Items behind an open run are
    /// ended when that run has freed the session.
    async fn end_session(
        &self,
        scope: &Scope,
        agent: &AgentSnapshot,
        mut session: SessionRecord,
    ) -> Result<Vec<RunId>, Fault> {
        let mut ended = Vec::new();
        for _ in 0..LOOKS {
            let open = session.head.active;
            if let Some(run) = open.filter(|run| !ended.contains(run)) {
                ended.extend(self.terminate_run(scope, run).await?);
            }
            // An agent that has ended begins nothing, so there is nothing to keep from beginning.
            if !task_waits(&session) || agent.state == AgentState::Terminated {
                return Ok(ended);
            }
            let taken = match open {
                Some(_) => None,
                None => self.end_waiting(scope, agent, &session).await?,
            };
            match taken {
                Some(run) => ended.push(run),
                // A run holds the session, or took what waits at this moment.
                None => self.pause_a_moment().await,
            }
            session = self.session_of(scope, agent, session.id).await?;
        }
        tracing::warn!(session = %session.id, "the waiting inputs of a task could not be ended in time");
        Err(Fault::new(ErrorCode::Overloaded, format!("{} still has waiting inputs", session.id))
            .with_hint("send the request again"))
    }

    async fn pause_a_moment(&self) {
        self.core.ports.runtime.clock.sleep(LOOK).await;
    }

    /// Claims a session for a run that takes the waiting items and ends at once; `None` if the claim is refused.
    async fn end_waiting(
        &self,
        scope: &Scope,
        agent: &AgentSnapshot,
        session: &SessionRecord,
    ) -> Result<Option<RunId>, Fault> {
        let after = session.head.taken;
        let owner = InboxOwner::Session(session.id);
        let waiting =
            self.core.ports.store.inbox_items(scope, owner, after, ITEMS_MAX).await.map_err(read_fault)?;
        let items: Vec<ItemId> = waiting.iter().map(|item| item.id).collect();
        if items.is_empty() {
            return Ok(None);
        }
        let run = self.core.ports.runtime.run_id();
        let at = self.core.ports.runtime.clock.now();
        let started = RunStarted {
            kind: RunPurpose::kind_of(&session.key.platform, None, session.origin.as_deref(), after),
            agent: agent.id,
            session: session.id,
            items: items.clone(),
            after,
            resumes: None,
            approved: None,
            origin: session.origin.clone(),
            workspace: None,
            summary: None,
            briefing: None,
            config: agent.revision,
            prompt: agent.prompt.digest,
            layers: Vec::new(),
            model: None,
            mind: agent.config.mind.unwrap_or_default(),
            woken: 0,
            model_calls_max: agent.config.model_calls_max.unwrap_or(self.core.config().model_calls_max),
            deadline: None,
        };
        let mut state = RunState::default();
        let mut entries = Vec::new();
        for input in [DecisionInput::Begin(started), DecisionInput::Ended { by: scope.actor().clone() }] {
            let decision = decide(&state, at, input);
            for new in &decision.entries {
                apply_entry(&mut state, &new.entry);
            }
            entries.extend(decision.entries);
        }
        let mut batch = WriteBatch::new(scope.tenant()).with_mutation(Mutation::PinPut(agent.prompt.clone()));
        let (head, take) = (state.run_head(), items.clone());
        let hops = waiting.first().and_then(|item| InputBody::decode(item.body.as_deref()?).ok());
        let ended = EndedRun {
            run,
            session: session.id,
            state: &state,
            author: scope.actor(),
            hops: hops.map_or(0, |body| body.message.hops),
            answer: &[],
            call: (false, Label::PUBLIC_FACT),
            saw: Label::PUBLIC_FACT,
            superseded: false,
        };
        let notice = ended.end_notice(&self.core.ports.runtime).map(Box::new);
        let told = notice.as_ref().map(|put| put.owner);
        let (session, agent, holder) = (session.id, agent.id, self.core.lease.holder());
        batch.claim = Some(TurnClaim { session, agent, run, holder, after, take, entries, head, notice });
        let mut answer = self.core.ports.store.commit(batch.clone()).await;
        if let (
            CommitOutcome::Refused(CommitRefusal::AgentState { .. } | CommitRefusal::NotFound(_)),
            Some(_),
            Some(claim),
        ) = (&answer, told, &mut batch.claim)
        {
            // The session that would hear of the end takes no input any more.
            claim.notice = None;
            answer = self.core.ports.store.commit(batch).await;
        }
        match answer {
            CommitOutcome::Done(receipt) if receipt.claimed => {
                if let Some(InboxOwner::Session(waits)) = told {
                    self.core.enqueue_ready(scope.tenant(), ReadyWork::Session(waits));
                }
                self.core.activity.counts.count_task(TaskState::of_run(head.status));
                let outcome = RunOutcome {
                    run,
                    last_seq: state.seq,
                    head,
                    reply: None,
                    failure: state.failure_fault(),
                };
                self.core.hub.resolve_waiters(&items, &Ok(outcome));
                Ok(Some(run))
            }
            CommitOutcome::Done(_) => Ok(None),
            answer => {
                if matches!(answer, CommitOutcome::Unknown { .. }) {
                    // It may have ended all the same, without an answer to its waiting callers.
                    self.core.hub.lose_unsure(scope.tenant(), run, &items);
                    self.core.request_rescan();
                }
                Err(commit_fault(answer))
            }
        }
    }
}

/// Ends so many runs or sessions, a batch of them at a time. All of them to their end: one that is dropped between its commit and
/// what follows it would leave a run that hears nothing.
async fn terminate_in_batches<E: Future>(ends: Vec<E>) -> Vec<E::Output> {
    stream::iter(ends).buffered(KILLS_AT_ONCE).collect().await
}

/// Returns whether a session is a task's and has a waiting item.
fn task_waits(session: &SessionRecord) -> bool {
    [task::PLATFORM, task::BRANCH_PLATFORM].contains(&session.key.platform.as_str())
        && session.head.last > session.head.taken
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use futures_util::FutureExt as _;
    use futures_util::future::{LocalBoxFuture, join_all};

    use super::*;

    /// How many runs of one request are told to end.
    const RUNS: usize = 1_024;

    /// Begins to end all runs in a store that answers nothing, and counts those that wait in its queue by then: as many stand
    /// before another tenant's next turn there.
    fn waiting_in_the_store<F: Future>(end_all: impl FnOnce(Vec<LocalBoxFuture<'static, ()>>) -> F) -> usize {
        let waiting = Rc::new(Cell::new(0));
        let end = |_| {
            let waiting = Rc::clone(&waiting);
            async move {
                waiting.set(waiting.get() + 1);
                std::future::pending::<()>().await;
            }
            .boxed_local()
        };
        let ended = end_all((0..RUNS).map(end).collect()).now_or_never();
        assert!(ended.is_none(), "the store answers nothing");
        waiting.get()
    }

    #[test]
    fn a_request_ends_a_bounded_number_of_runs_at_once() {
        assert_eq!(waiting_in_the_store(terminate_in_batches), KILLS_AT_ONCE);
    }

    #[test]
    fn a_request_ends_all_its_runs_and_answers_in_order() {
        let ends = (0..RUNS).map(|run| async move { run }).collect();
        assert_eq!(terminate_in_batches(ends).now_or_never(), Some((0..RUNS).collect()));
    }

    /// Planted fault: all of them at once.
    #[test]
    fn a_kill_without_batches_is_caught() {
        assert_ne!(waiting_in_the_store(join_all), KILLS_AT_ONCE, "nothing notices it");
    }
}
