//! Takeover: the one way in which a run gets a new owner, at a start as after a lost store.
//!
//! The epoch is raised and durable before the journal is read, so an earlier owner that still lives can append
//! nothing from then on. The journal is folded, never run again; what a crash left open is settled by effect
//! class in `decide`.
//!
//! A parked run whose state is still kept in memory is not read again. Its takeover and the first entries of its new owner
//! are one commit: the store compares the epoch and the number of the last entry with its row, so a state that is behind
//! the row is refused, and the next takeover reads the run.

mod run_reading;

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::delivery::target_of;
use dromia_contracts::entry::{Entry, HoldReason, RunHeld};
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, NewEntry, PageRequest, ReadError, RunAppend, RunTakeover,
    WriteBatch,
};
use dromia_contracts::task::TaskState;
use dromia_contracts::{ErrorCode, ItemId, RunId, Scope, TenantId};

use crate::agents::AgentSnapshot;
use crate::core::EngineCore;
use crate::decide::{CLAIMS_MAX, DecisionInput, NextAction};
use crate::notifications::ActiveRun;
use crate::owner::RunOwner;
use crate::owner::identity::RunIdentity;
use crate::parked_runs::ParkedRun;
use crate::scheduler::{ReadyWork, TaskSlot};

use self::run_reading::{FoldedRun, JournalReadError, find_run_agent, read_run_state};

/// Takes a run over and drives it on. A takeover that fails is left to the janitor's next scan.
pub(crate) async fn take_over_run(core: &Arc<EngineCore>, tenant: TenantId, id: RunId, slot: TaskSlot) {
    let scope = core.recovery_scope(tenant);
    slot.begin_step(core.ports.runtime.clock.monotonic_now()).await;
    match take_over(core, &scope, id, slot).await {
        Ok(()) | Err(TakeoverError::Settled) => {}
        Err(TakeoverError::Again) => core.scheduler.push_ready(tenant, ReadyWork::Run(id)),
        Err(TakeoverError::Later(cause)) => {
            tracing::warn!(run = %id, %cause, "the takeover must wait");
            core.request_rescan();
        }
    }
}

/// Why a run was not taken over.
enum TakeoverError {
    /// It has ended, has another owner, or is held now.
    Settled,
    /// It is held now and has a signal, which another takeover reads.
    Again,
    /// The store did not answer.
    Later(String),
}

impl From<ReadError> for TakeoverError {
    fn from(error: ReadError) -> Self {
        Self::Later(error.to_string())
    }
}

async fn take_over(
    core: &Arc<EngineCore>,
    scope: &Scope,
    id: RunId,
    slot: TaskSlot,
) -> Result<(), TakeoverError> {
    let store = &core.ports.store;
    let run = store.run(scope, id).await?.ok_or(TakeoverError::Settled)?;
    if run.head.status.is_terminal() {
        return Err(TakeoverError::Settled);
    }
    let agent = match core.caches.agents.agent_snapshot(scope, run.agent).await {
        Ok(agent) => agent,
        // The agent is being erased; its runs go with it.
        Err(fault) if fault.code == ErrorCode::AgentNotFound => {
            return Err(TakeoverError::Settled);
        }
        Err(fault) => return Err(TakeoverError::Later(fault.message)),
    };
    if agent.state == AgentState::Paused && rests_for_its_agent(&run) {
        return Err(TakeoverError::Settled);
    }
    let active = ActiveRun::new(run.agent);
    // Nothing in memory says what came to the session while the run had no task.
    active.note_joinable();
    if !core.hub.activate(id, &active) {
        return Err(TakeoverError::Settled);
    }
    let guard = DeactivationGuard { core, run: id, armed: true };

    let takeover = RunTakeover {
        run: id,
        from_epoch: run.epoch,
        holder: core.lease.holder(),
        at: core.ports.runtime.clock.now(),
    };
    let kept = core.caches.parked.take_current(scope.tenant(), &run);
    let run = RunRecord { epoch: run.epoch + 1, ..run };
    // Its state is durable before its runs get their signals, so a crash may have come in between.
    let agent_ended = agent.state == AgentState::Terminated;
    let woken = match kept {
        Some(kept) => wake_kept_run(core, scope, kept, Arc::clone(&agent)).await,
        None => None,
    };
    let (mut folded, takeover) = if let Some(folded) = woken {
        // The takeover is part of the first commit of the owner, which the store refuses if the row has moved.
        (folded, Some(takeover))
    } else {
        commit_takeover(core, scope, takeover).await?;
        (read_lost_run(core, scope, &run, agent).await?, None)
    };
    let now = core.ports.runtime.clock.now();
    if folded.state.rests_for_approval() && run.updated_at > now {
        // Its last entry is of a time still to come, so the clock was set back since: it waits no hour for that step.
        folded.state.end_holds(now);
    }
    let after = folded.state.signals_taken;
    let signals = if run.has_open_signal() || takeover.is_none() {
        store.inbox_items(scope, InboxOwner::Run(id), after, PageRequest::<ItemId>::LIMIT_MAX).await?
    } else {
        // The receipt of the commit says whether one came since the row was read.
        Vec::new()
    };
    let identity = RunIdentity {
        scope: scope.clone(),
        author: folded.author.unwrap_or_else(|| scope.actor().clone()),
        agent: folded.agent,
        session: run.session,
        target: target_of(&folded.key),
        key: folded.key,
        run: id,
        epoch: run.epoch,
        items: folded.state.taken_items(),
    };
    let mut owner = RunOwner::new(core, identity, (folded.state, folded.story), active, slot);
    (owner.journal.takeover, owner.journal.marks) = (takeover, folded.marks);
    let mut next = NextAction::Rest;
    for signal in signals {
        next = owner.decide_next(DecisionInput::Signal(signal));
    }
    if agent_ended && !owner.state.is_ended() {
        next = owner.decide_next(DecisionInput::Ended { by: scope.actor().clone() });
    }
    if !owner.state.is_ended() {
        let claims = if owner.journal.pending.is_empty() { run.claims_without_entry() } else { 0 };
        next = owner.decide_next(DecisionInput::Recovered { claims });
    }
    guard.disarm();
    if !owner.state.is_ended() {
        core.activity.counts.count_task(TaskState::Running);
    }
    // Boxed, so that what the takeover read is no part of the run's future.
    Box::pin(owner.drive_to_rest(next)).await;
    Ok(())
}

/// Raises the epoch in a commit of its own, before anything of the run is read.
async fn commit_takeover(
    core: &EngineCore,
    scope: &Scope,
    takeover: RunTakeover,
) -> Result<(), TakeoverError> {
    let id = takeover.run;
    let batch = WriteBatch::new(scope.tenant()).with_mutation(Mutation::RunTakeover(takeover));
    match core.ports.store.commit(batch).await {
        CommitOutcome::Done(_) => Ok(()),
        // The store refused the batch without reading the run, so the run is still lost.
        CommitOutcome::Refused(refusal @ (CommitRefusal::Overloaded | CommitRefusal::ReadOnly { .. })) => {
            Err(TakeoverError::Later(refusal.to_string()))
        }
        // Another process works on it. If that one ends, the janitor looks for what it held.
        CommitOutcome::Refused(CommitRefusal::LeaseLasts { left }) => {
            tracing::debug!(run = %id, ?left, "another process holds the run");
            Err(TakeoverError::Settled)
        }
        // A retry would give the same refusal; the next start tries once more.
        CommitOutcome::Refused(refusal @ CommitRefusal::Damaged { .. }) => {
            tracing::error!(run = %id, %refusal, "the run stays in its state until the store is repaired");
            Err(TakeoverError::Settled)
        }
        CommitOutcome::Refused(_) => Err(TakeoverError::Settled),
        CommitOutcome::Unknown { cause } => Err(TakeoverError::Later(cause)),
    }
}

/// Reads a run whose takeover is durable, or holds it.
async fn read_lost_run(
    core: &Arc<EngineCore>,
    scope: &Scope,
    run: &RunRecord,
    agent: Arc<AgentSnapshot>,
) -> Result<FoldedRun, TakeoverError> {
    if run.claims_without_entry() > CLAIMS_MAX + 1 && run.head.status != RunStatus::Held {
        // Owners ended before they could count their claims, as one that panics while it reads does: the run is not
        // read further. A waiting signal is read once more; a held run is not searched again.
        let detail = format!("{} claims without a new entry", run.claims_without_entry());
        let is_held = hold_run(core, scope, run, HoldReason::Claims, detail).await;
        // One that could not be held would be taken over again at once, and again, a row for each.
        let again = is_held && run.has_open_signal();
        return Err(if again { TakeoverError::Again } else { TakeoverError::Settled });
    }
    match read_run_state(core, scope, run, agent).await {
        Ok(folded) => Ok(folded),
        Err(JournalReadError::Later(cause)) => Err(TakeoverError::Later(cause)),
        Err(JournalReadError::Hold(reason, detail)) => {
            let _is_held = hold_run(core, scope, run, reason, detail).await;
            Err(TakeoverError::Settled)
        }
    }
}

/// Continues with the state that was kept when the run was parked; `None` if what its agent is now cannot be read.
async fn wake_kept_run(
    core: &EngineCore,
    scope: &Scope,
    kept: ParkedRun,
    agent: Arc<AgentSnapshot>,
) -> Option<FoldedRun> {
    let ParkedRun { agent: _, epoch: _, author, key, state, marks, story } = kept;
    let agent = find_run_agent(core, scope, agent, &state, &key).await.ok()?;
    Some(FoldedRun { state, marks, story, key, author: Some(author), agent })
}

/// Returns whether a run is parked by the pause of its agent and has no open signal. A takeover would count as a claim
/// without an entry, and enough restarts during one pause would hold the run.
fn rests_for_its_agent(run: &RunRecord) -> bool {
    run.head.status == RunStatus::Parked && run.head.wake_at.is_none() && !run.has_open_signal()
}

/// Holds a run whose journal cannot be folded. Its row stays as it is, except for the status. Returns whether it is
/// held.
async fn hold_run(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
    reason: HoldReason,
    detail: String,
) -> bool {
    tracing::error!(run = %run.id, ?reason, %detail, "the run is held; a person must check it");
    let append = RunAppend {
        run: run.id,
        epoch: run.epoch,
        after: run.last_seq,
        entries: vec![NewEntry {
            at: core.ports.runtime.clock.now(),
            entry: Entry::RunHeld(RunHeld { reason, detail }),
            body: None,
        }],
        head: dromia_contracts::run::RunHead { status: RunStatus::Held, wake_at: None, ..run.head },
        checkpoint: None,
    };
    let answer = core
        .ports
        .store
        .commit(WriteBatch::new(scope.tenant()).with_mutation(Mutation::RunAppend(append)))
        .await;
    let is_held = matches!(answer, CommitOutcome::Done(_));
    if is_held {
        core.activity.counts.count_rest(RunStatus::Held);
        core.activity.usage.count_run((scope.tenant(), run.agent), "", RunStatus::Held, &[]);
    } else if !matches!(answer, CommitOutcome::Refused(CommitRefusal::Damaged { .. })) {
        core.request_rescan();
    }
    is_held
}

/// Forgets a run's task when the takeover ends early.
struct DeactivationGuard<'a> {
    core: &'a EngineCore,
    run: RunId,
    armed: bool,
}

impl DeactivationGuard<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for DeactivationGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.core.hub.deactivate(self.run);
        }
    }
}
