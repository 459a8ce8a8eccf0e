//! Takeover: the one way in which a run gets a new owner, at a start as after a lost store.
//!
//! The epoch is raised and durable before the journal is read, so an earlier owner that still lives can append
//! nothing from then on. The journal is folded, never run again; what a crash left open is settled by effect
//! class in `decide`.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::delivery::target_of;
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::entry::{Entry, HoldReason, RunHeld};
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{InboxItem, InboxOwner};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, NewEntry, PageRequest, ReadError, RunAppend, RunTakeover,
    WriteBatch,
};
use dromia_contracts::task::TaskState;
use dromia_contracts::{ErrorCode, Fault, ItemId, RunId, Scope, TenantId};

use crate::agents::AgentSnapshot;
use crate::client_tools::ClientToolAdmission;
use crate::context::transcript::{ConversationTranscript, StoryError};
use crate::core::EngineCore;
use crate::decide::{CLAIMS_MAX, DecisionInput, NextAction};
use crate::encoded_request::SentRequestReader;
use crate::journal_reads::{parked_at, read_journal};
use crate::notifications::ActiveRun;
use crate::owner::RunOwner;
use crate::owner::identity::RunIdentity;
use crate::scheduler::{ReadyWork, TaskSlot};
use crate::state::RunState;

/// Takes a run over and drives it on. A takeover that fails is left to the janitor's next scan.
pub(crate) async fn take_over_run(core: &Arc<EngineCore>, tenant: TenantId, id: RunId, slot: TaskSlot) {
    let scope = core.recovery_scope(tenant);
    slot.begin_step(core.ports.runtime.clock.monotonic_now()).await;
    if let Err(TakeoverError::Later(cause)) = take_over(core, &scope, id, slot).await {
        tracing::warn!(run = %id, %cause, "the takeover must wait");
        core.request_rescan();
    }
}

/// Why a run was not taken over.
enum TakeoverError {
    /// It has ended, has another owner, or is held now.
    Settled,
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
    match store.commit(WriteBatch::new(scope.tenant()).with_mutation(Mutation::RunTakeover(takeover))).await {
        CommitOutcome::Done(_) => {}
        // The store refused the batch without reading the run, so the run is still lost.
        CommitOutcome::Refused(refusal @ (CommitRefusal::Overloaded | CommitRefusal::ReadOnly { .. })) => {
            return Err(TakeoverError::Later(refusal.to_string()));
        }
        // Another process works on it. If that one ends, the janitor looks for what it held.
        CommitOutcome::Refused(CommitRefusal::LeaseLasts { left }) => {
            tracing::debug!(run = %id, ?left, "another process holds the run");
            return Err(TakeoverError::Settled);
        }
        // A retry would give the same refusal; the next start tries once more.
        CommitOutcome::Refused(refusal @ CommitRefusal::Damaged { .. }) => {
            tracing::error!(run = %id, %refusal, "the run stays in its state until the store is repaired");
            return Err(TakeoverError::Settled);
        }
        CommitOutcome::Refused(_) => return Err(TakeoverError::Settled),
        CommitOutcome::Unknown { cause } => return Err(TakeoverError::Later(cause)),
    }
    let run = RunRecord { epoch: run.epoch + 1, ..run };
    if run.claims_without_entry() > CLAIMS_MAX + 1 && run.head.status != RunStatus::Held {
        // Owners ended before they could count their claims, as one that panics while it reads does: the run is not
        // read further. A waiting signal is read once more; a held run is not searched again.
        let detail = format!("{} claims without a new entry", run.claims_without_entry());
        let is_held = hold_run(core, scope, &run, HoldReason::Claims, detail).await;
        drop(guard);
        // One that could not be held would be taken over again at once, and again, a row for each.
        if is_held && run.has_open_signal() {
            core.scheduler.push_ready(scope.tenant(), ReadyWork::Run(id));
        }
        return Err(TakeoverError::Settled);
    }
    // Its state is durable before its runs get their signals, so a crash may have come in between.
    let agent_ended = agent.state == AgentState::Terminated;

    let (mut state, told) = match read_run_state(core, scope, &run, agent).await {
        Ok(found) => found,
        Err(JournalReadError::Later(cause)) => return Err(TakeoverError::Later(cause)),
        Err(JournalReadError::Hold(reason, detail)) => {
            let _is_held = hold_run(core, scope, &run, reason, detail).await;
            return Err(TakeoverError::Settled);
        }
    };
    if state.rests_for_approval() {
        let now = core.ports.runtime.clock.now();
        match parked_at(&*core.ports.store, scope, &run).await {
            // The run asked at a time still to come, so the clock was set back since: it waits no hour for that step.
            Ok(Some((at, _))) if at > now => state.end_holds(now),
            Ok(_) => {}
            Err(error) => return Err(TakeoverError::Later(error.to_string())),
        }
    }
    let signals = store
        .inbox_items(scope, InboxOwner::Run(id), state.signals_taken, PageRequest::<ItemId>::LIMIT_MAX)
        .await?;
    let items = state.taken_items();
    let author = told.author.clone().unwrap_or_else(|| scope.actor().clone());
    let identity = RunIdentity {
        scope: scope.clone(),
        author,
        agent: told.agent,
        session: run.session,
        platform: told.platform,
        target: told.target,
        run: id,
        epoch: run.epoch,
        items,
    };
    let mut owner = RunOwner::new(core, identity, (state, told.story), active, slot);
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

/// Returns whether a run is parked by the pause of its agent and has no open signal. A takeover would count as a claim
/// without an entry, and enough restarts during one pause would hold the run.
fn rests_for_its_agent(run: &RunRecord) -> bool {
    run.head.status == RunStatus::Parked && run.head.wake_at.is_none() && !run.has_open_signal()
}

/// What a takeover reads.
struct TakeoverContext {
    story: ConversationTranscript,
    target: Option<String>,
    platform: String,
    author: Option<dromia_contracts::Actor>,
    agent: Arc<AgentSnapshot>,
}

/// Why a journal could not be read.
enum JournalReadError {
    Later(String),
    Hold(HoldReason, String),
}

impl From<ReadError> for JournalReadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable { cause } => Self::Later(cause),
            ReadError::Damaged { place, problem } => {
                Self::Hold(HoldReason::Damaged, format!("{place}: {problem}"))
            }
        }
    }
}

impl JournalReadError {
    /// The parent's transcript, with which a branch begins, cannot be read.
    fn of_parent(fault: Fault) -> Self {
        match fault.code {
            ErrorCode::StoreUnavailable => Self::Later(fault.message),
            _ => {
                Self::Hold(HoldReason::Unreadable, format!("the transcript of its parent: {}", fault.message))
            }
        }
    }
}

async fn read_run_state(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
    agent: Arc<AgentSnapshot>,
) -> Result<(RunState, TakeoverContext), JournalReadError> {
    let journal = read_journal(&*core.ports.store, scope, run.id).await?;
    let mut entries = Vec::with_capacity(journal.len());
    for stored in &journal {
        let entry = stored.decode();
        entries.push(entry.map_err(|error| {
            JournalReadError::Hold(HoldReason::Unreadable, format!("entry {}: {error}", stored.seq))
        })?);
    }
    let state = RunState::fold(&entries);
    let agent = match &state.started {
        Some(started) => core.caches.agents.pinned_snapshot(scope, agent, started).await?,
        None => agent,
    };
    let tail = core.ports.store.session_tail(scope, run.session, core.config().context).await?;
    let Some(mut tail) = tail else {
        return Err(JournalReadError::Hold(HoldReason::Damaged, format!("{} is gone", run.session)));
    };
    // The limits apply to the past. The run's own items and entries are read in full, as the live run had them: a tail
    // leaves the run out if it alone exceeds them.
    let after = state.started.as_ref().map_or(0, |started| started.after);
    let own = read_own_inputs(core, scope, run, (after, state.inputs_end())).await?;
    let author = own.first().map(|item| item.author.clone());
    tail.items.retain(|item| item.position <= after);
    tail.runs.retain(|(id, _)| *id != run.id);
    if let Some(first) = own.first() {
        ClientToolAdmission::new(core).add_answered(scope, &mut tail, after, first).await?;
    }
    tail.items.extend(own);
    tail.runs.push((run.id, journal.into()));
    let (target, platform) = (target_of(&tail.session.key), tail.session.key.platform.clone());
    let named = state.started.as_ref().and_then(|started| started.workspace.as_ref());
    let origin = state.started.as_ref().and_then(|started| started.origin.as_deref());
    let agent = agent.within_session(scope.tenant(), &tail.session.key).within_workspace(named);
    let agent = agent.within_origin(&*core.ports.gate, origin);
    let unreadable = |error: StoryError| JournalReadError::Hold(HoldReason::Unreadable, error.to_string());
    let tainted_past = tainted_past(&entries).unwrap_or(core.config().tainted_past);
    let past = SentRequestReader::new(&core.ports);
    let begun = past.read_branch_past(scope, tail.session.origin.as_deref(), tainted_past).await;
    let begun = begun.map_err(JournalReadError::of_parent)?;
    let story = ConversationTranscript::from_tail(&tail, Some(run.id), tainted_past, begun);
    let story = story.map_err(unreadable)?;
    Ok((state, TakeoverContext { story, target, platform, author, agent }))
}

/// Reads the items of its session that a run took: all of them, however many joined it.
async fn read_own_inputs(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
    (mut after, last): (u64, u64),
) -> Result<Vec<InboxItem>, ReadError> {
    let owner = InboxOwner::Session(run.session);
    let mut own: Vec<InboxItem> = Vec::new();
    while after < last {
        let limit = usize::try_from(last - after).unwrap_or(usize::MAX).min(PageRequest::<ItemId>::LIMIT_MAX);
        let page = core.ports.store.inbox_items(scope, owner, after, limit).await?;
        let Some(end) = page.last() else { break };
        after = end.position;
        own.extend(page);
    }
    Ok(own)
}

/// How a run got the untrusted parts of earlier turns, if its model was called: this stays so to its end, even if the
/// configuration changes.
fn tainted_past(entries: &[Entry]) -> Option<TaintedPast> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::ModelCalled(called) => Some(called.sent.wording.tainted_past),
        _ => None,
    })
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
