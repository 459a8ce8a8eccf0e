//! How the work of an agent is ended now: one run, one session's, or all of it.
//!
//! A run that is open gets a terminate signal, durably, and its owner drops what is in flight: with it go the programs
//! that a call started. A task that no run took yet is taken by a run that ends in the commit of its claim; so nothing
//! begins it later, its journal says who ended it, and whoever waits for it is told. What lies in sessions of other
//! platforms was said by somebody and stays.
//!
//! Tasks are ended before runs: a slot that an ended run left free would be taken by the next of them.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::run::RunKind;
use dromia_contracts::runs::{End, Kill, Outcome};
use dromia_contracts::session::{InboxOwner, ItemKind, Session};
use dromia_contracts::store::{Batch, Claim, Commit, Mutation, Page};
use dromia_contracts::task::{self, TaskState};
use dromia_contracts::{AgentId, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use jiff::SignedDuration;

use crate::agents::{Snapshot, read_fault};
use crate::core::Core;
use crate::decide::{Input, decide};
use crate::refusal::{commit_fault, session_not_found};
use crate::state::{RunState, apply};
use crate::steer::run_not_found;

/// How many waiting items one run takes to end them; a batch has room for them beside everything else.
const ITEMS_MAX: usize = 64;

/// How often what waits behind an open run is looked at, and the milliseconds between two looks.
const LOOKS: u32 = 200;
const LOOK_MS: i64 = 10;

impl Core {
    /// Ends what is named and returns the runs that were told to end, or ended.
    pub(crate) async fn kill(
        self: &Arc<Self>,
        scope: &Scope,
        agent: AgentId,
        what: Kill,
    ) -> Result<Vec<RunId>, Fault> {
        let agent = self.snapshot(scope, agent).await?;
        match what {
            Kill::Run(run) => {
                if self.find_run(scope, run).await?.agent != agent.id {
                    return Err(run_not_found(run));
                }
                self.end(scope.clone(), run, End::Terminate).await?;
                Ok(vec![run])
            }
            Kill::Session(id) => {
                let session = self.session_of(scope, &agent, id).await?;
                self.end_session(scope, &agent, session).await
            }
            Kill::All => {
                let (mut ended, mut late) = (Vec::new(), None);
                let mut page = Page::first(Page::<SessionId>::LIMIT_MAX);
                loop {
                    let listed = self.ports.store.sessions(scope, Some(agent.id), page).await;
                    let sessions = listed.map_err(read_fault)?;
                    let next = sessions.last().map(|last| last.id).filter(|_| sessions.len() == page.limit);
                    for session in sessions.into_iter().filter(task_waits) {
                        match self.end_session(scope, &agent, session).await {
                            Ok(runs) => ended.extend(runs),
                            // One that must be ended again keeps nobody from ending the others.
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

    /// Finds a session of an agent.
    async fn session_of(&self, scope: &Scope, agent: &Snapshot, id: SessionId) -> Result<Session, Fault> {
        let found = self.ports.store.session(scope, id).await.map_err(read_fault)?;
        found.filter(|session| session.agent == agent.id).ok_or_else(|| session_not_found(id))
    }

    /// Tells a run to end now; one that has ended needs to be told nothing.
    pub(crate) async fn terminate(
        self: &Arc<Self>,
        scope: &Scope,
        run: RunId,
    ) -> Result<Option<RunId>, Fault> {
        match self.signal(scope, run, ItemKind::Terminate).await {
            Ok(()) => Ok(Some(run)),
            Err(fault) if fault.code == ErrorCode::RunTerminal => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Ends what a session does and, where it is a task's, what waits there. What waits behind an open run is ended when
    /// that run has let go of the session.
    async fn end_session(
        self: &Arc<Self>,
        scope: &Scope,
        agent: &Snapshot,
        mut session: Session,
    ) -> Result<Vec<RunId>, Fault> {
        let mut ended = Vec::new();
        for _ in 0..LOOKS {
            let open = session.head.active;
            if let Some(run) = open.filter(|run| !ended.contains(run)) {
                ended.extend(self.terminate(scope, run).await?);
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
        tracing::warn!(session = %session.id, "what waits in a task could not be ended in time");
        Err(Fault::new(ErrorCode::Overloaded, format!("{} has not let go of what waits in it", session.id))
            .with_hint("end it again"))
    }

    async fn pause_a_moment(&self) {
        let clock = &self.ports.runtime.clock;
        let later = clock.now().checked_add(SignedDuration::from_millis(LOOK_MS));
        clock.sleep_until(later.unwrap_or_else(|_| clock.now())).await;
    }

    /// Claims a session for a run that takes what waits there and ends at once; nothing if the claim is not to be had.
    async fn end_waiting(
        self: &Arc<Self>,
        scope: &Scope,
        agent: &Snapshot,
        session: &Session,
    ) -> Result<Option<RunId>, Fault> {
        let after = session.head.taken;
        let owner = InboxOwner::Session(session.id);
        let waiting = self.ports.store.inbox(scope, owner, after, ITEMS_MAX).await.map_err(read_fault)?;
        let items: Vec<ItemId> = waiting.iter().map(|item| item.id).collect();
        if items.is_empty() {
            return Ok(None);
        }
        let run = self.ports.runtime.run_id();
        let at = self.ports.runtime.clock.now();
        let started = RunStarted {
            kind: RunKind::Turn,
            agent: agent.id,
            session: session.id,
            items: items.clone(),
            after,
            resumes: None,
            approved: None,
            config: agent.revision,
            prompt: agent.prompt.digest,
            model_calls_max: agent.config.model_calls_max.unwrap_or(self.config.model_calls_max),
        };
        let mut state = RunState::default();
        let mut entries = Vec::new();
        for input in [Input::Begin(started), Input::Ended { by: scope.actor().clone() }] {
            let decision = decide(&state, at, input);
            for new in &decision.entries {
                apply(&mut state, &new.entry);
            }
            entries.extend(decision.entries);
        }
        let mut batch = Batch::new(scope.tenant()).with(Mutation::PinPut(agent.prompt.clone()));
        let (head, take) = (state.head(), items.clone());
        batch.claim = Some(Claim { session: session.id, agent: agent.id, run, after, take, entries, head });
        match self.ports.store.commit(batch).await {
            Commit::Done(receipt) if receipt.claimed => {
                self.counts.count(TaskState::of_run(head.status));
                let outcome = Outcome { run, last_seq: state.seq, head, reply: None, failure: state.fault() };
                self.hub.resolve(&items, &Ok(outcome));
                Ok(Some(run))
            }
            Commit::Done(_) => Ok(None),
            answer => {
                if matches!(answer, Commit::Unknown { .. }) {
                    // It may have ended all the same, and nobody who waits for it heard of that. A run that is not
                    // there says nothing: whoever waits goes on to wait for the task.
                    if matches!(self.ports.store.run(scope, run).await, Ok(Some(_))) {
                        self.hub.lose(scope.tenant(), run, &items);
                    }
                    self.request_rescan();
                }
                Err(commit_fault(answer))
            }
        }
    }
}

/// Tells whether a session is a task's and something waits there.
fn task_waits(session: &Session) -> bool {
    session.key.platform == task::PLATFORM && session.head.last > session.head.taken
}
