//! How input becomes durable and how a session is claimed.
//!
//! Admission, claim and the first model call are one commit where the session is free and a slot is to be had.
//! Where not, the input is stored all the same and waits: admission never depends on a turn.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::content::InputMessage;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::input::InputBody;
use dromia_contracts::run::{Run, RunKind};
use dromia_contracts::runs::{NewInput, Outcome, Submitted, Target};
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind, ResumeBody, SessionKey};
use dromia_contracts::store::{
    Batch, Claim, Commit, InboxPut, ItemKey, Mutation, Refusal, SessionOpen, SessionTail,
};
use dromia_contracts::{
    Actor, AgentId, BoxFuture, ErrorCode, Fault, ItemId, RunId, Scope, SessionId, TenantId,
};

use crate::agents::{Snapshot, read_fault};
use crate::answering;
use crate::config::INPUT_BYTES_MAX;
use crate::core::Core;
use crate::decide::{Input, Next};
use crate::live::Active;
use crate::owner::Owner;
use crate::scheduler::{Ready, Slot};
use crate::state::RunState;
use crate::story::Story;

/// How often a session that somebody else opened first is looked up again.
const OPEN_TRIES: u32 = 3;

/// What to put into a session's inbox.
pub(crate) struct NewItem {
    pub(crate) kind: ItemKind,
    pub(crate) author: Actor,
    pub(crate) body: Bytes,
    pub(crate) key: Option<ItemKey>,
    pub(crate) wait: bool,
}

/// A session as admission finds it.
enum Found {
    /// It is there.
    Session(SessionId),
    /// It must be opened.
    New(SessionKey),
}

impl Core {
    /// Stores an input and, where possible, claims its session in the same commit.
    pub(crate) async fn submit(self: &Arc<Self>, scope: Scope, input: NewInput) -> Result<Submitted, Fault> {
        // Results may be the last word: those of handed calls, or of a told past.
        if input.parts.is_empty() && input.answers.is_none() && input.history.is_empty() {
            return Err(Fault::new(ErrorCode::InvalidRequest, "an input needs at least one part"));
        }
        self.check_client(&scope, &input).await?;
        let message = InputMessage { author: input.author.clone(), parts: input.parts, hops: 0 };
        let body = InputBody { history: input.history, answers: input.answers, offer: input.offer, message };
        let answers = body.answers.clone();
        let body = body
            .encode()
            .map(Bytes::from)
            .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let key = match &answers {
            Some(answers) => Some(answering::key(answers, &body)),
            None => input.key,
        };
        if body.len() > INPUT_BYTES_MAX {
            let text = format!("an input has at most {INPUT_BYTES_MAX} bytes, this one has {}", body.len());
            return Err(Fault::new(ErrorCode::BodyTooLarge, text));
        }
        let item = NewItem { kind: ItemKind::Input, author: input.author, body, key, wait: input.wait };
        self.admit(&scope, input.target, item).await.map_err(|fault| match &answers {
            Some(answers) if fault.code == ErrorCode::IdempotencyConflict => {
                answering::answered_otherwise(answers.run)
            }
            _ => fault,
        })
    }

    /// Puts an item into a session's inbox.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        scope: &Scope,
        target: Target,
        item: NewItem,
    ) -> Result<Submitted, Fault> {
        if self.is_draining() {
            return Err(Fault::new(ErrorCode::ShuttingDown, "the server is shutting down")
                .with_hint("send it again when the server is back"));
        }
        let (agent, mut found) = self.find(scope, target).await?;
        let agent = self.snapshot(scope, agent).await?;
        if matches!(agent.state, AgentState::Terminated | AgentState::Deleting) {
            return Err(agent_terminated(agent.id));
        }
        let id = self.ports.runtime.item_id();
        for _ in 0..OPEN_TRIES {
            match self.admit_once(scope, &agent, &found, id, &item).await? {
                Admission::Done(submitted) => return Ok(submitted),
                Admission::Opened(session) => found = Found::Session(session),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the session changed too often while it was opened"))
    }

    async fn find(&self, scope: &Scope, target: Target) -> Result<(AgentId, Found), Fault> {
        match target {
            Target::Session(id) => {
                let session = self.ports.store.session(scope, id).await.map_err(read_fault)?;
                let session = session.ok_or_else(|| session_not_found(id))?;
                Ok((session.agent, Found::Session(id)))
            }
            Target::Key { agent, key } => {
                let cached = (scope.tenant(), agent, key);
                if let Some(session) = self.session_keys.get(&cached) {
                    return Ok((agent, Found::Session(session)));
                }
                let session =
                    self.ports.store.session_by_key(scope, agent, &cached.2).await.map_err(read_fault)?;
                match session {
                    Some(session) => {
                        self.session_keys.insert(cached, session.id);
                        Ok((agent, Found::Session(session.id)))
                    }
                    None => Ok((agent, Found::New(cached.2))),
                }
            }
        }
    }

    async fn admit_once(
        self: &Arc<Self>,
        scope: &Scope,
        agent: &Arc<Snapshot>,
        found: &Found,
        id: ItemId,
        item: &NewItem,
    ) -> Result<Admission, Fault> {
        let at = self.ports.runtime.clock.now();
        let mut batch = Batch::new(scope.tenant());
        let session = match found {
            Found::Session(session) => *session,
            Found::New(key) => {
                let session = self.ports.runtime.session_id();
                let open = SessionOpen { session, agent: agent.id, key: key.clone(), at };
                batch.mutations.push(Mutation::SessionOpen(open));
                session
            }
        };
        let put = InboxPut {
            owner: InboxOwner::Session(session),
            item: id,
            at,
            kind: item.kind,
            author: item.author.clone(),
            body: item.body.clone(),
            key: item.key.clone(),
        };
        let mut owner = match self.begin(scope, agent, found, session, &put).await {
            Ok(owner) => owner,
            Err(fault) => {
                // The slot that was to be used is free again.
                self.dispatch();
                return Err(fault);
            }
        };
        batch.mutations.push(Mutation::InboxPut(put));
        if let Some(owner) = &mut owner {
            owner.claim(&mut batch, session);
        }
        let outcome = item.wait.then(|| self.wait_for(id));
        let run = owner.as_ref().map(|owner| owner.owner.run);
        match self.ports.store.commit(batch).await {
            Commit::Done(receipt) => {
                let claimed = receipt.claimed && owner.is_some();
                if let Found::New(key) = found {
                    self.session_keys.insert((scope.tenant(), agent.id, key.clone()), session);
                }
                match owner {
                    Some(owner) if claimed => self.drive(owner),
                    other => {
                        drop(other);
                        self.ready(scope.tenant(), Ready::Session(session));
                    }
                }
                Ok(Admission::Done(Submitted {
                    item: id,
                    session,
                    position: receipt.positions.first().copied().unwrap_or_default(),
                    run: run.filter(|_| claimed),
                    replayed: false,
                    outcome,
                }))
            }
            answer => {
                drop(outcome);
                self.hub.unwait(id);
                drop(owner);
                self.dispatch();
                self.refused(scope, agent, item, answer).await
            }
        }
    }

    /// Puts a turn together, if the session seems free and a slot is to be had.
    async fn begin(
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
            Found::New(_) => Ok(self.beginning(scope, agent, session, Story::new(1), 0, item, slot)),
            Found::Session(_) => {
                let tail = self.ports.store.session_tail(scope, session, self.tail_limits()).await;
                let mut tail = tail.map_err(read_fault)?.ok_or_else(|| session_not_found(session))?;
                let head = tail.session.head;
                if head.active.is_some() || head.last > head.taken {
                    return Ok(None);
                }
                self.add_answered(scope, &mut tail, &item).await.map_err(read_fault)?;
                let story = tell(&tail)?;
                Ok(self.beginning(scope, agent, session, story, head.taken, item, slot))
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
        session: SessionId,
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
        let mut owner = Owner {
            core: Arc::clone(self),
            scope: scope.clone(),
            author: item.author,
            agent: Arc::clone(agent),
            session,
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
            waiting: false,
        };
        let started = RunStarted {
            kind: RunKind::Turn,
            agent: agent.id,
            session,
            items: owner.items.clone(),
            after,
            resumes,
            config: agent.revision,
            prompt: agent.prompt.digest,
            model_calls_max: agent.config.model_calls_max.unwrap_or(self.config.model_calls_max),
        };
        let next = owner.begin(started);
        Some(Beginning { owner, next, after })
    }

    fn drive(self: &Arc<Self>, beginning: Beginning) {
        let Beginning { mut owner, next, .. } = beginning;
        owner.durable = owner.state.seq;
        owner.pending.clear();
        if !self.hub.activate(owner.run, &owner.active) {
            // A signal came right after the commit, and its takeover was quicker: it owns the run now.
            return;
        }
        self.pins.insert((owner.scope.tenant(), owner.agent.prompt.digest), ());
        self.ports.runtime.spawn.spawn(Box::pin(owner.drive(next)));
    }

    /// Waits for the run that takes an item.
    pub(crate) fn wait_for(&self, item: ItemId) -> BoxFuture<'static, Result<Outcome, Fault>> {
        let answer = self.hub.wait(item);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(Fault::new(ErrorCode::ShuttingDown, "the server stopped waiting; the input is durable"))
            })
        })
    }

    async fn refused(
        self: &Arc<Self>,
        scope: &Scope,
        agent: &Snapshot,
        item: &NewItem,
        answer: Commit,
    ) -> Result<Admission, Fault> {
        match answer {
            Commit::Refused(Refusal::SessionExists { session }) => Ok(Admission::Opened(session)),
            Commit::Refused(Refusal::KeyTaken { item: known, owner, position, request }) => {
                if item.key.as_ref().is_some_and(|key| key.request != request) {
                    return Err(Fault::new(
                        ErrorCode::IdempotencyConflict,
                        "the idempotency key was used for another request",
                    )
                    .with_hint("use a new key for a new request"));
                }
                self.join(scope, known, owner, position, item.wait).await.map(Admission::Done)
            }
            Commit::Unknown { .. } => {
                // The input, and the claim with it, may be durable all the same: nobody drives that run yet.
                self.request_rescan();
                Err(commit_fault(answer))
            }
            Commit::Refused(Refusal::AgentState { .. } | Refusal::NotFound(_)) => {
                self.forget_agent(agent.id);
                self.session_keys.retain(|(_, id, _), _| *id != agent.id);
                Err(agent_terminated(agent.id))
            }
            other => Err(commit_fault(other)),
        }
    }

    /// Joins the run of a request that came earlier with the same key.
    async fn join(
        self: &Arc<Self>,
        scope: &Scope,
        item: ItemId,
        owner: InboxOwner,
        position: u64,
        wait: bool,
    ) -> Result<Submitted, Fault> {
        let InboxOwner::Session(session) = owner else {
            return Err(Fault::new(
                ErrorCode::IdempotencyConflict,
                "the idempotency key was used for a signal",
            ));
        };
        // Wait first and look then: a run that ends in between answers the waiter.
        let outcome = wait.then(|| self.wait_for(item));
        let found = self.ports.store.inbox(scope, owner, position - 1, 1).await.map_err(read_fault)?;
        let run = found.first().and_then(|item| item.taken_by);
        let outcome = match (run, outcome) {
            (Some(run), Some(waiting)) => Some(self.ended(scope, run).await?.unwrap_or(waiting)),
            (_, outcome) => outcome,
        };
        Ok(Submitted { item, session, position, run, replayed: true, outcome })
    }

    /// Reads the outcome of a run that has ended.
    async fn ended(
        &self,
        scope: &Scope,
        run: RunId,
    ) -> Result<Option<BoxFuture<'static, Result<Outcome, Fault>>>, Fault> {
        let row = self.ports.store.run(scope, run).await.map_err(read_fault)?;
        let Some(row) = row.filter(|row| row.head.status.is_terminal()) else { return Ok(None) };
        let outcome = self.outcome(scope, &row).await?;
        Ok(Some(Box::pin(std::future::ready(Ok(outcome)))))
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
            reply: std::mem::take(&mut story.reply),
            failure: state.fault(),
        })
    }
}

enum Admission {
    Done(Submitted),
    /// Somebody else opened the session first.
    Opened(SessionId),
}

/// A turn whose first entries are decided and not yet durable.
struct Beginning {
    owner: Owner,
    next: Next,
    after: u64,
}

impl Beginning {
    /// Adds the claim to the batch that stores the input.
    fn claim(&mut self, batch: &mut Batch, session: SessionId) {
        let owner = &self.owner;
        let pin = &owner.agent.prompt;
        if owner.core.pins.get(&(batch.tenant, pin.digest)).is_none() {
            batch.mutations.insert(0, Mutation::PinPut(pin.clone()));
        }
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
    core.add_answered(scope, &mut tail, &item).await.map_err(read_fault)?;
    let story = tell(&tail)?;
    let Some(mut beginning) = core.beginning(scope, &agent, session, story, head.taken, item, slot) else {
        return Ok(());
    };
    let mut batch = Batch::new(scope.tenant());
    beginning.claim(&mut batch, session);
    match core.ports.store.commit(batch).await {
        Commit::Done(receipt) if receipt.claimed => {
            core.drive(beginning);
            Ok(())
        }
        // Somebody else claimed it, or the agent was paused meanwhile; whoever did so tells when to look again.
        Commit::Done(_) => Ok(()),
        other => Err(commit_fault(other)),
    }
}

fn tell(tail: &SessionTail) -> Result<Story, Fault> {
    Story::tell(tail, None).map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))
}

/// The fault for a session that does not exist or cannot be seen.
pub(crate) fn session_not_found(session: SessionId) -> Fault {
    Fault::new(ErrorCode::SessionNotFound, format!("there is no session {session}"))
        .with_hint("list the sessions with `dromia session list`")
}

fn agent_terminated(agent: AgentId) -> Fault {
    Fault::new(ErrorCode::AgentTerminated, format!("{agent} is terminated and takes no input"))
        .with_hint("create another agent with `dromia agent create`")
}

/// The fault for a commit that was not done.
pub(crate) fn commit_fault(answer: Commit) -> Fault {
    match answer {
        Commit::Unknown { cause } => {
            tracing::warn!(%cause, "a commit has no known outcome");
            Fault::new(ErrorCode::OutcomeUnknown, "the store could not say whether the write is durable")
                .with_hint("repeat the request with the same idempotency key")
        }
        Commit::Refused(Refusal::ReadOnly { cause }) => {
            tracing::warn!(%cause, "the store takes no writes");
            Fault::new(ErrorCode::StoreReadOnly, "the store answers reads only, because a write failed")
                .with_hint("free disk space or mend the disk; the server goes on by itself")
        }
        Commit::Refused(Refusal::Overloaded) => {
            Fault::new(ErrorCode::Overloaded, "the tenant's share of the writer is used up")
                .with_hint("send it again later")
        }
        Commit::Refused(Refusal::HandleTaken(handle)) => {
            Fault::new(ErrorCode::HandleTaken, format!("the handle {handle} is taken"))
                .with_hint("choose another handle")
        }
        Commit::Refused(Refusal::RunTerminal) => Fault::new(ErrorCode::RunTerminal, "the run has ended"),
        Commit::Refused(refusal) => Fault::new(ErrorCode::InvalidRequest, refusal.to_string()),
        Commit::Done(_) => Fault::new(ErrorCode::Internal, "a finished commit was taken for a failed one"),
    }
}
