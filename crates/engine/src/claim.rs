//! How a session is claimed: a turn is put together and its first entries are decided before anything is durable.
//!
//! Two ways lead here: admission, which claims in the commit that stores the input, and a session whose input
//! waited until a slot was free. Which one of two claimers gets the session, the store decides.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovedBody;
use dromia_contracts::budget::Exhausted;
use dromia_contracts::delivery::target_of;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::file::FileLabels;
use dromia_contracts::run::RunKind;
use dromia_contracts::session::{InboxItem, ItemKind, ResumeBody};
use dromia_contracts::store::{Batch, Claim, Commit, InboxPut, Mutation, Refusal, SessionTail};
use dromia_contracts::task::TaskState;
use dromia_contracts::{ErrorCode, Fault, Scope, SessionId, TenantId};

use crate::agents::{Snapshot, read_fault};
use crate::core::Core;
use crate::decide::{Input, Next};
use crate::live::Active;
use crate::owner::Owner;
use crate::refusal::{commit_fault, session_not_found};
use crate::scheduler::{Ready, Slot};
use crate::state::RunState;
use crate::story::Story;
use crate::submit::Found;
use crate::unwound::minded;

/// A turn whose first entries are decided and not yet durable.
pub(crate) struct Beginning {
    pub(crate) owner: Owner,
    next: Next,
    after: u64,
}

impl Beginning {
    /// Ends the turn at a budget that has no room for its first call.
    pub(crate) fn unfund(&mut self, exhausted: Exhausted) {
        self.next = self.owner.unfund(exhausted);
    }

    /// Adds the claim to the batch that stores the input.
    pub(crate) fn claim(&mut self, batch: &mut Batch, session: SessionId) {
        let owner = &self.owner;
        let pin = &owner.agent.prompt;
        if owner.core.pins.get(&(batch.tenant, owner.agent.id, pin.digest)).is_none() {
            batch.mutations.insert(0, Mutation::PinPut(pin.clone()));
        }
        // A run that ends before its first model call, and its answer with it.
        batch.mutations.extend(owner.message().map(Mutation::DeliveryPrepare));
        batch.payer = Some(owner.payer());
        batch.claim = Some(Claim {
            session,
            agent: owner.agent.id,
            run: owner.run,
            after: self.after,
            take: owner.items.clone(),
            entries: owner.pending.clone(),
            head: owner.state.head(),
        });
    }
}

impl Core {
    /// Puts a turn together, if the session seems free and a slot is to be had.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        scope: &Scope,
        agent: &Arc<Snapshot>,
        found: &Found,
        session: SessionId,
        put: &InboxPut,
    ) -> Result<Option<Beginning>, Fault> {
        if agent.state != AgentState::Running {
            return Ok(None);
        }
        let Some(slot) = self.scheduler.try_slot(scope.tenant()) else { return Ok(None) };
        let item = InboxItem {
            id: put.item,
            position: 0,
            at: put.at,
            kind: put.kind,
            author: put.author.clone(),
            body: Some(put.body.clone()),
            taken_by: None,
        };
        match found {
            Found::New(key) | Found::Fresh(key) => {
                let place = (session, target_of(key), key.platform.clone());
                let agent = agent.within(scope.tenant(), key);
                Ok(self.beginning(scope, &agent, place, Story::new(1), 0, item, slot))
            }
            Found::Session(_) => {
                let tail = self.ports.store.session_tail(scope, session, self.tail_limits()).await;
                let mut tail = tail.map_err(read_fault)?.ok_or_else(|| session_not_found(session))?;
                let head = tail.session.head;
                if head.active.is_some() || head.last > head.taken {
                    return Ok(None);
                }
                self.add_answered(scope, &mut tail, head.taken, &item).await.map_err(read_fault)?;
                let story = self.tell(&tail)?;
                let key = &tail.session.key;
                let place = (session, target_of(key), key.platform.clone());
                let agent = agent.within(scope.tenant(), key);
                Ok(self.beginning(scope, &agent, place, story, head.taken, item, slot))
            }
        }
    }

    /// Decides the first entries of a turn that takes one item.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one fact of the new run; a struct would only name them twice"
    )]
    fn beginning(
        self: &Arc<Self>,
        scope: &Scope,
        agent: &Arc<Snapshot>,
        (session, target, platform): (SessionId, Option<String>, String),
        mut story: Story,
        after: u64,
        item: InboxItem,
        slot: Slot,
    ) -> Option<Beginning> {
        if let Err(error) = story.add_item(&item) {
            tracing::error!(%session, %error, "an input cannot be told to a model");
            return None;
        }
        let run = self.ports.runtime.run_id();
        let resumes = (item.kind == ItemKind::Resume)
            .then(|| serde_json::from_slice::<ResumeBody>(item.body.as_deref().unwrap_or_default()).ok())
            .flatten()
            .map(|body| body.run);
        // Its body was read just now, when it was told.
        let approved = (item.kind == ItemKind::Approved)
            .then(|| ApprovedBody::decode(item.body.as_deref().unwrap_or_default()).ok())
            .flatten()
            .map(|body| body.approved);
        let mut owner = Owner {
            core: Arc::clone(self),
            scope: scope.clone(),
            author: item.author,
            agent: Arc::clone(agent),
            session,
            platform,
            target,
            run,
            epoch: 1,
            items: vec![item.id],
            state: RunState::default(),
            story,
            active: Active::new(agent.id),
            slot,
            durable: 0,
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
        let started = RunStarted {
            kind: if approved.is_some() { RunKind::Worker } else { RunKind::Turn },
            agent: agent.id,
            session,
            items: owner.items.clone(),
            after,
            resumes,
            approved,
            config: agent.revision,
            prompt: agent.prompt.digest,
            model_calls_max: agent.config.model_calls_max.unwrap_or(self.config.model_calls_max),
        };
        let next = owner.begin(started);
        Some(Beginning { owner, next, after })
    }

    /// Hands a turn whose claim is durable to a task of its own.
    pub(crate) fn drive(self: &Arc<Self>, beginning: Beginning) {
        let Beginning { mut owner, next, .. } = beginning;
        owner.durable = owner.state.seq;
        owner.pending.clear();
        self.counts.count(TaskState::Running);
        self.counts.count_rest(owner.state.status());
        if owner.state.is_ended() && owner.target.is_some() {
            self.ring();
        }
        if !self.hub.activate(owner.run, &owner.active) {
            // A signal came right after the commit, and its takeover was quicker: it owns the run now.
            return;
        }
        self.pins.insert((owner.scope.tenant(), owner.agent.id, owner.agent.prompt.digest), ());
        let ready = Ready::Run(owner.run);
        let work = minded(Arc::clone(self), ready, Box::pin(owner.drive(next)));
        self.ports.runtime.spawn.spawn(work);
    }
}

impl Owner {
    /// Decides the first entries of a run, up to the first effect.
    fn begin(&mut self, started: RunStarted) -> Next {
        let mut next = self.decide(Input::Begin(started));
        while next == Next::Plan {
            let plan = self.plan();
            next = self.decide(plan);
        }
        next
    }
}

/// Claims a session with waiting input, for one turn that takes the first item.
pub(crate) async fn claim_waiting(core: &Arc<Core>, tenant: TenantId, session: SessionId, slot: Slot) {
    let scope = core.recovery_scope(tenant);
    if let Err(fault) = try_claim(core, &scope, session, slot).await {
        if fault.code == ErrorCode::JournalDamaged || fault.code == ErrorCode::JournalUnreadable {
            tracing::error!(%session, %fault, "the session's past cannot be read; its input waits");
            return;
        }
        tracing::warn!(%session, %fault, "the claim must wait");
        core.request_rescan();
    }
}

async fn try_claim(core: &Arc<Core>, scope: &Scope, session: SessionId, slot: Slot) -> Result<(), Fault> {
    let tail = core.ports.store.session_tail(scope, session, core.tail_limits()).await.map_err(read_fault)?;
    let Some(mut tail) = tail else { return Ok(()) };
    let head = tail.session.head;
    // While a turn is active, its last commit tells that input waits; a paused agent's resume tells it too.
    if head.active.is_some() {
        return Ok(());
    }
    let Some(item) = tail.items.iter().find(|item| item.position == head.taken + 1).cloned() else {
        return Ok(());
    };
    let agent = match core.snapshot(scope, tail.session.agent).await {
        Err(fault) if fault.code == ErrorCode::AgentNotFound => return Ok(()),
        agent => agent?,
    };
    if agent.state != AgentState::Running {
        return Ok(());
    }
    core.add_answered(scope, &mut tail, head.taken, &item).await.map_err(read_fault)?;
    let story = core.tell(&tail)?;
    let key = &tail.session.key;
    let place = (session, target_of(key), key.platform.clone());
    let agent = agent.within(scope.tenant(), key);
    let Some(mut beginning) = core.beginning(scope, &agent, place, story, head.taken, item, slot) else {
        return Ok(());
    };
    let mut batch = Batch::new(scope.tenant());
    beginning.claim(&mut batch, session);
    let mut answer = core.ports.store.commit(batch).await;
    if let Commit::Refused(Refusal::BudgetExhausted(exhausted)) = answer {
        beginning.unfund(exhausted);
        let mut batch = Batch::new(scope.tenant());
        beginning.claim(&mut batch, session);
        answer = core.ports.store.commit(batch).await;
    }
    match answer {
        Commit::Done(receipt) if receipt.claimed => {
            core.drive(beginning);
            Ok(())
        }
        // Somebody else claimed it, or the agent was paused meanwhile; whoever did so tells when to look again.
        Commit::Done(_) => Ok(()),
        other => Err(commit_fault(other)),
    }
}

impl Core {
    /// Tells the past of a session to a new run.
    fn tell(&self, tail: &SessionTail) -> Result<Story, Fault> {
        let story = Story::tell(tail, None, self.config.tainted_past);
        story.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))
    }
}
