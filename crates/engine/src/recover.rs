//! Takeover: the one way in which a run gets a new owner, at a start as after a lost store.
//!
//! The epoch is raised and durable before the journal is read, so an earlier owner that still lives can append
//! nothing from then on. The journal is folded, never run again; what a crash left open is settled by effect
//! class in `decide`.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::delivery::target_of;
use dromia_contracts::entry::{Entry, HoldReason, RunHeld};
use dromia_contracts::file::FileLabels;
use dromia_contracts::run::{Run, RunStatus};
use dromia_contracts::sent::TaintedPast;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    Batch, Commit, Mutation, NewEntry, Page, ReadError, Refusal, RunAppend, RunTakeover, StoredEntry,
    TailLimits,
};
use dromia_contracts::task::TaskState;
use dromia_contracts::{ItemId, RunId, Scope, TenantId};

use crate::agents::Snapshot;
use crate::core::Core;
use crate::decide::{CLAIMS_MAX, Input, Next};
use crate::live::Active;
use crate::owner::Owner;
use crate::scheduler::{Ready, Slot};
use crate::state::RunState;
use crate::story::{Story, StoryError};

/// Takes a run over and drives it on. Whatever stands in the way is left to the next look of the janitor.
pub(crate) async fn recover(core: &Arc<Core>, tenant: TenantId, id: RunId, slot: Slot) {
    let scope = core.recovery_scope(tenant);
    if let Err(Trouble::Later(cause)) = take_over(core, &scope, id, slot).await {
        tracing::warn!(run = %id, %cause, "the takeover must wait");
        core.request_rescan();
    }
}

/// Why a run was not taken over.
enum Trouble {
    /// It has ended, has another owner, or is held now.
    Settled,
    /// The store did not answer.
    Later(String),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Later(error.to_string())
    }
}

async fn take_over(core: &Arc<Core>, scope: &Scope, id: RunId, slot: Slot) -> Result<(), Trouble> {
    let store = &core.ports.store;
    let run = store.run(scope, id).await?.ok_or(Trouble::Settled)?;
    if run.head.status.is_terminal() {
        return Err(Trouble::Settled);
    }
    let agent = match core.snapshot(scope, run.agent).await {
        Ok(agent) => agent,
        // The agent is being erased; its runs go with it.
        Err(fault) if fault.code == dromia_contracts::ErrorCode::AgentNotFound => {
            return Err(Trouble::Settled);
        }
        Err(fault) => return Err(Trouble::Later(fault.message)),
    };
    if agent.state == AgentState::Paused && rests_for_its_agent(core, scope, &run).await? {
        return Err(Trouble::Settled);
    }
    let active = Active::new(run.agent);
    if !core.hub.activate(id, &active) {
        return Err(Trouble::Settled);
    }
    let guard = Deactivate { core, run: id, armed: true };

    let takeover = RunTakeover {
        run: id,
        from_epoch: run.epoch,
        holder: core.holder,
        at: core.ports.runtime.clock.now(),
    };
    match store.commit(Batch::new(scope.tenant()).with(Mutation::RunTakeover(takeover))).await {
        Commit::Done(_) => {}
        // Nothing was asked about the run itself: it is as lost as it was.
        Commit::Refused(refusal @ (Refusal::Overloaded | Refusal::ReadOnly { .. })) => {
            return Err(Trouble::Later(refusal.to_string()));
        }
        // It would stay what it is however often it is asked; the next start looks once more.
        Commit::Refused(refusal @ Refusal::Damaged { .. }) => {
            tracing::error!(run = %id, %refusal, "the run stays where it is until the store is mended");
            return Err(Trouble::Settled);
        }
        Commit::Refused(_) => return Err(Trouble::Settled),
        Commit::Unknown { cause } => return Err(Trouble::Later(cause)),
    }
    let run = Run { epoch: run.epoch + 1, ..run };
    if run.claims_without_entry() > CLAIMS_MAX + 1 && run.head.status != RunStatus::Held {
        // Owners that ended before they could count their claims, as one does that panics over what it reads: nothing more
        // is read of the run. A signal that waits is looked at once more; a run that is held is not looked for again.
        let detail = format!("{} claims without a new entry", run.claims_without_entry());
        let is_held = hold(core, scope, &run, HoldReason::Claims, detail).await;
        drop(guard);
        // One that could not be held would be taken over again at once, and again, a row for each.
        if is_held && is_asked(core, scope, &run).await? {
            core.scheduler.push(scope.tenant(), Ready::Run(id));
        }
        return Err(Trouble::Settled);
    }
    // Its state is durable before its runs are told to end, so a crash may have come in between.
    let agent_ended = agent.state == AgentState::Terminated;

    let (state, told) = match read(core, scope, &run, agent).await {
        Ok(found) => found,
        Err(Unread::Later(cause)) => return Err(Trouble::Later(cause)),
        Err(Unread::Hold(reason, detail)) => {
            let _is_held = hold(core, scope, &run, reason, detail).await;
            return Err(Trouble::Settled);
        }
    };
    let signals =
        store.inbox(scope, InboxOwner::Run(id), state.signals_taken, Page::<ItemId>::LIMIT_MAX).await?;
    let items = state.started.as_ref().map(|started| started.items.clone()).unwrap_or_default();
    let author = told.author.clone().unwrap_or_else(|| scope.actor().clone());
    let mut owner = Owner {
        core: Arc::clone(core),
        scope: scope.clone(),
        author,
        agent: told.agent,
        session: run.session,
        platform: told.platform,
        target: told.target,
        run: id,
        epoch: run.epoch,
        items,
        durable: state.seq,
        state,
        story: told.story,
        active,
        slot,
        pending: Vec::new(),
        sends: Vec::new(),
        asks: Vec::new(),
        looked: 0,
        files: FileLabels::default(),
        prepared: None,
        priced: false,
        before: None,
        ahead: None,
        waiting: false,
    };
    let mut next = Next::Rest;
    for signal in signals {
        next = owner.decide(Input::Signal(signal));
    }
    if agent_ended && !owner.state.is_ended() {
        next = owner.decide(Input::Ended { by: scope.actor().clone() });
    }
    if !owner.state.is_ended() {
        let claims = if owner.pending.is_empty() { run.claims_without_entry() } else { 0 };
        next = owner.decide(Input::Recovered { claims });
    }
    guard.disarm();
    if !owner.state.is_ended() {
        core.counts.count(TaskState::Running);
    }
    owner.drive(next).await;
    Ok(())
}

/// Tells whether a run is parked by the pause of its agent and nobody asks anything of it. A takeover would count
/// as a claim without an entry, and enough restarts during one pause would hold the run.
async fn rests_for_its_agent(core: &Core, scope: &Scope, run: &Run) -> Result<bool, ReadError> {
    if run.head.status != RunStatus::Parked || run.head.wake_at.is_some() {
        return Ok(false);
    }
    Ok(!is_asked(core, scope, run).await?)
}

/// Tells whether a signal lies in a run's inbox that nobody took.
pub(crate) async fn is_asked(core: &Core, scope: &Scope, run: &Run) -> Result<bool, ReadError> {
    let Some(before) = run.signals_last.checked_sub(1) else { return Ok(false) };
    let last = core.ports.store.inbox(scope, InboxOwner::Run(run.id), before, 1).await?;
    Ok(last.first().is_some_and(|signal| signal.taken_by.is_none()))
}

/// What a takeover reads.
struct Told {
    story: Story,
    target: Option<String>,
    platform: String,
    author: Option<dromia_contracts::Actor>,
    agent: Arc<Snapshot>,
}

/// Why a journal could not be read.
enum Unread {
    Later(String),
    Hold(HoldReason, String),
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable { cause } => Self::Later(cause),
            ReadError::Damaged { place, problem } => {
                Self::Hold(HoldReason::Damaged, format!("{place}: {problem}"))
            }
        }
    }
}

async fn read(
    core: &Core,
    scope: &Scope,
    run: &Run,
    agent: Arc<Snapshot>,
) -> Result<(RunState, Told), Unread> {
    let journal = journal(core, scope, run.id).await?;
    let mut entries = Vec::with_capacity(journal.len());
    for stored in &journal {
        let entry = stored.decode();
        entries.push(entry.map_err(|error| {
            Unread::Hold(HoldReason::Unreadable, format!("entry {}: {error}", stored.seq))
        })?);
    }
    let state = RunState::fold(&entries);
    let agent = match &state.started {
        Some(started) => core.pinned(scope, agent, started).await?,
        None => agent,
    };
    let tail = core.ports.store.session_tail(scope, run.session, core.config.context).await?;
    let Some(mut tail) = tail else {
        return Err(Unread::Hold(HoldReason::Damaged, format!("{} is gone", run.session)));
    };
    // The limits are for the past. What the run itself took and did is told whole, as it was to the live run: a
    // tail leaves the run out where it alone passes them.
    let (after, count) =
        state.started.as_ref().map_or((0, 0), |started| (started.after, started.items.len()));
    let own = core.ports.store.inbox(scope, InboxOwner::Session(run.session), after, count).await?;
    let author = own.first().map(|item| item.author.clone());
    tail.items.retain(|item| item.position <= after);
    tail.runs.retain(|(id, _)| *id != run.id);
    if let Some(first) = own.first() {
        core.add_answered(scope, &mut tail, after, first).await?;
    }
    tail.items.extend(own);
    tail.runs.push((run.id, journal.into()));
    let (target, platform) = (target_of(&tail.session.key), tail.session.key.platform.clone());
    let agent = agent.within(scope.tenant(), &tail.session.key);
    let unreadable = |error: StoryError| Unread::Hold(HoldReason::Unreadable, error.to_string());
    let tainted_past = tainted_past(&entries).unwrap_or(core.config.tainted_past);
    let story = Story::tell(&tail, Some(run.id), tainted_past).map_err(unreadable)?;
    Ok((state, Told { story, target, platform, author, agent }))
}

/// How a run was told what is untrusted of earlier turns, if its model was called: it is told so to its end, whatever the
/// configuration says now. An entry that keeps nothing of what was sent is of a program that told all of it.
fn tainted_past(entries: &[Entry]) -> Option<TaintedPast> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::ModelCalled(called) => {
            Some(called.sent.as_ref().map_or(TaintedPast::Whole, |sent| sent.wording.tainted_past))
        }
        _ => None,
    })
}

/// Reads a whole journal, page by page.
pub(crate) async fn journal(core: &Core, scope: &Scope, run: RunId) -> Result<Vec<StoredEntry>, ReadError> {
    let mut all = Vec::new();
    loop {
        let after = all.len() as u64;
        let page = core.ports.store.journal(scope, run, after, Page::<RunId>::LIMIT_MAX).await?;
        let full = page.len() == Page::<RunId>::LIMIT_MAX;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

/// Holds a run whose journal cannot be folded. Its row keeps what it said, except for the status. Returns whether it is held.
async fn hold(core: &Core, scope: &Scope, run: &Run, reason: HoldReason, detail: String) -> bool {
    tracing::error!(run = %run.id, ?reason, %detail, "the run is held; a person must look");
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
    let answer = core.ports.store.commit(Batch::new(scope.tenant()).with(Mutation::RunAppend(append))).await;
    let is_held = matches!(answer, Commit::Done(_));
    if is_held {
        core.counts.count_rest(RunStatus::Held);
    } else if !matches!(answer, Commit::Refused(Refusal::Damaged { .. })) {
        core.request_rescan();
    }
    is_held
}

/// How much of a session a takeover reads is the same as what any turn reads.
impl Core {
    pub(crate) fn tail_limits(&self) -> TailLimits {
        self.config.context
    }
}

/// Forgets a run's task when the takeover ends early.
struct Deactivate<'a> {
    core: &'a Core,
    run: RunId,
    armed: bool,
}

impl Deactivate<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Deactivate<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.core.hub.deactivate(self.run);
        }
    }
}
