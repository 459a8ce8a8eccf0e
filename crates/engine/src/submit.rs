//! How input becomes durable.
//!
//! Admission, claim and the first model call are one commit where the session is free and a slot is to be had.
//! Where not, the input is stored all the same and waits: admission never depends on a turn.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::budget::BudgetExhaustion;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::content::InputMessage;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{InputReceipt, InputTarget, NewInput};
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, InboxPut, ItemKey, KeyedItem, Mutation, SessionOpen, WriteBatch,
};
use dromia_contracts::task::TaskState;
use dromia_contracts::{Actor, AgentId, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use jiff::Timestamp;

use crate::agents::{AgentSnapshot, read_fault};
use crate::client_tools;
use crate::client_tools::ClientToolAdmission;
use crate::config::{CALL_BYTES_MAX, INPUT_BYTES_MAX};
use crate::core::EngineCore;
use crate::notifications::InboxPosition;
use crate::outcome::RunOutcomes;
use crate::refusal::{agent_terminated, commit_fault, session_not_found};
use crate::revisions::admit_workspace;
use crate::scheduler::ReadyWork;
use crate::session_claim::{SessionClaimer, SessionLookup};
use crate::steps::StepPermit;

/// How often a session that another caller opened first is looked up again.
const OPEN_TRIES: u32 = 3;

/// What to put into a session's inbox.
pub(crate) struct NewItem {
    pub(crate) kind: ItemKind,
    pub(crate) author: Actor,
    pub(crate) body: Bytes,
    pub(crate) key: Option<ItemKey>,
    pub(crate) wait: bool,
    /// What it does while a turn of its session runs; the agent's own policy where it does not say.
    pub(crate) when_busy: Option<BusyPolicy>,
}

impl NewItem {
    /// Gives a plain message that names no policy the one of its agent. The policy is stored with the message.
    fn with_policy_of(mut self, agent: &AgentSnapshot) -> Result<Self, Fault> {
        let own = agent.config.when_busy.filter(|own| !own.is_default());
        if let (None, Some(own), ItemKind::Input) = (self.when_busy, own, self.kind) {
            let unreadable = |error: serde_json::Error| Fault::new(ErrorCode::Internal, error.to_string());
            let body = InputBody::decode(&self.body).map_err(unreadable)?;
            if body.is_plain() {
                self.body = encode_input(&InputBody { when_busy: own, ..body })?;
                self.when_busy = Some(own);
            }
        }
        Ok(self)
    }
}

/// Writes an input as it is stored, if it is not too long for that.
pub(crate) fn encode_input(body: &InputBody) -> Result<Bytes, Fault> {
    let body = body.encode().map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
    if body.len() > INPUT_BYTES_MAX {
        let text =
            format!("an input may have at most {INPUT_BYTES_MAX} bytes, and this one has {}", body.len());
        return Err(Fault::new(ErrorCode::BodyTooLarge, text));
    }
    Ok(Bytes::from(body))
}

/// Lets inputs in.
pub(crate) struct InputSubmission<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> InputSubmission<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Stores an input and, where possible, claims its session in the same commit. A repeated key joins the run of the
    /// admitted input, even if the input would be refused now: its agent may have ended since, or got a tool with the
    /// name of one of the client's.
    pub(crate) async fn submit_input(&self, scope: Scope, input: NewInput) -> Result<InputReceipt, Fault> {
        // Results of client calls have a key of their own.
        let key = input.key.clone().filter(|_| input.answers.is_none());
        let wait = input.wait;
        match (self.submit_new(&scope, input).await, key) {
            (Err(fault), Some(key)) if is_of_today(fault.code) => {
                self.submitted_before(&scope, &key, wait).await?.ok_or(fault)
            }
            (answer, _) => answer,
        }
    }

    /// Joins the run of the item with this key, if it came with the same request.
    async fn submitted_before(
        &self,
        scope: &Scope,
        key: &ItemKey,
        wait: bool,
    ) -> Result<Option<InputReceipt>, Fault> {
        let (store, at) = (&self.core.ports.store, self.core.ports.runtime.clock.now());
        let known = store.find_keyed_item(scope, &key.key, at).await.map_err(read_fault)?;
        let Some(known) = known.filter(|known| known.request == key.request) else { return Ok(None) };
        let InboxOwner::Session(session) = known.owner else { return Ok(None) };
        // An agent that is being erased shows no session; then there is no receipt.
        let Some(session) = store.session(scope, session).await.map_err(read_fault)? else { return Ok(None) };
        let KeyedItem { item, owner, position, .. } = known;
        self.join_earlier_run(scope, session.agent, item, owner, position, wait).await.map(Some)
    }

    async fn submit_new(&self, scope: &Scope, input: NewInput) -> Result<InputReceipt, Fault> {
        // Results may be the last part: those of client calls, or of a history from the sender.
        if input.parts.is_empty() && input.answers.is_none() && input.history.is_empty() {
            return Err(Fault::new(ErrorCode::InvalidRequest, "an input needs at least one part"));
        }
        ClientToolAdmission::new(self.core).check_client(scope, &input).await?;
        let message = InputMessage { author: input.author.clone(), parts: input.parts, hops: 0 };
        if input.call.as_ref().is_some_and(|call| call.arguments.len() > CALL_BYTES_MAX) {
            let text = format!("a manual call may have at most {CALL_BYTES_MAX} bytes of arguments");
            return Err(Fault::new(ErrorCode::BodyTooLarge, text));
        }
        let body = InputBody {
            history: input.history,
            answers: input.answers,
            offer: input.offer,
            call: input.call,
            workspace: input.workspace,
            when_busy: input.when_busy.unwrap_or_default(),
            compaction: None,
            message,
        };
        if !body.when_busy.is_default() && !body.is_plain() {
            let text = format!(
                "only a plain message can {}: one that brings a history, tools, results, a call or a directory \
                 along gets a turn of its own",
                body.when_busy
            );
            return Err(Fault::new(ErrorCode::InvalidRequest, text)
                .with_hint("leave `when_busy` out, or send the message alone"));
        }
        if let Some(workspace) = &body.workspace {
            admit_workspace(&self.core.ports, scope, "workspace", workspace).await?;
        }
        let when_busy = input.when_busy;
        let answers = body.answers.clone();
        let body = encode_input(&body)?;
        let key = match &answers {
            Some(answers) => Some(client_tools::answer_item_key(answers, &body)),
            None => input.key,
        };
        let item =
            NewItem { kind: ItemKind::Input, author: input.author, body, key, wait: input.wait, when_busy };
        self.admit_item(scope, input.target, item).await.map_err(|fault| match &answers {
            Some(answers) if fault.code == ErrorCode::IdempotencyConflict => {
                client_tools::answered_otherwise(answers.run)
            }
            _ => fault,
        })
    }

    /// Puts an item into a session's inbox.
    pub(crate) async fn admit_item(
        &self,
        scope: &Scope,
        target: InputTarget,
        item: NewItem,
    ) -> Result<InputReceipt, Fault> {
        if self.core.is_draining() {
            return Err(Fault::new(ErrorCode::ShuttingDown, "the server is stopping")
                .with_hint("send the request again when the server is back"));
        }
        let (agent, mut found) = self.find_session(scope, target.clone()).await?;
        let agent = self.core.caches.agents.agent_snapshot(scope, agent).await?;
        if matches!(agent.state, AgentState::Terminated | AgentState::Deleting) {
            return Err(agent_terminated(agent.id));
        }
        let item = item.with_policy_of(&agent)?;
        let id = self.core.ports.runtime.item_id();
        let mut unfunded = None;
        for _ in 0..OPEN_TRIES {
            // What is let in competes with the tenant's runs for the same processor and store.
            let attempt = AdmissionAttempt {
                unfunded: unfunded.take(),
                step: self.core.begin_step(scope.tenant()).await,
            };
            match self.admit_once(scope, &agent, &found, id, &item, attempt).await? {
                AdmissionOutcome::Done(submitted) => return Ok(submitted),
                AdmissionOutcome::Opened(session) => found = SessionLookup::Session(session),
                AdmissionOutcome::Freed => {}
                AdmissionOutcome::Erased => found = self.find_session(scope, target.clone()).await?.1,
                AdmissionOutcome::Unfunded(exhausted) => unfunded = Some(exhausted),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the session changed too often during the request"))
    }

    async fn find_session(
        &self,
        scope: &Scope,
        target: InputTarget,
    ) -> Result<(AgentId, SessionLookup), Fault> {
        match target {
            InputTarget::Session(id) => {
                let session = self.core.ports.store.session(scope, id).await.map_err(read_fault)?;
                let session = session.ok_or_else(|| session_not_found(id))?;
                Ok((session.agent, SessionLookup::Session(id)))
            }
            InputTarget::Fresh { agent, key } => Ok((agent, SessionLookup::Fresh(key))),
            InputTarget::Key { agent, key } => {
                let cached = (scope.tenant(), agent, key);
                if let Some(session) = self.core.caches.session_keys.get(&cached) {
                    return Ok((agent, SessionLookup::Session(session)));
                }
                let session = self
                    .core
                    .ports
                    .store
                    .session_by_key(scope, agent, &cached.2)
                    .await
                    .map_err(read_fault)?;
                match session {
                    Some(session) => {
                        self.core.caches.session_keys.insert(cached, session.id);
                        Ok((agent, SessionLookup::Session(session.id)))
                    }
                    None => Ok((agent, SessionLookup::New(cached.2))),
                }
            }
        }
    }

    async fn admit_once(
        &self,
        scope: &Scope,
        agent: &Arc<AgentSnapshot>,
        found: &SessionLookup,
        id: ItemId,
        item: &NewItem,
        attempt: AdmissionAttempt,
    ) -> Result<AdmissionOutcome, Fault> {
        let AdmissionAttempt { unfunded, step } = attempt;
        let mut step = Some(step);
        let at = self.core.ports.runtime.clock.now();
        let mut batch = WriteBatch::new(scope.tenant());
        let session = match found {
            SessionLookup::Session(session) => *session,
            SessionLookup::New(key) | SessionLookup::Fresh(key) => {
                let session = self.core.ports.runtime.session_id();
                let open = SessionOpen {
                    session,
                    agent: agent.id,
                    key: key.clone(),
                    at,
                    believes: false,
                    importing: false,
                    origin: None,
                };
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
        let mut owner = match SessionClaimer::new(self.core)
            .try_begin_turn(scope, agent, found, session, &put, &mut step)
            .await
        {
            Ok(owner) => owner,
            Err(fault) => {
                // The slot that was to be used is free again.
                self.core.dispatch_ready();
                if fault.code == ErrorCode::SessionNotFound && matches!(found, SessionLookup::Session(_)) {
                    self.core.caches.session_keys.retain(|(_, id, _), _| *id != agent.id);
                    return Ok(AdmissionOutcome::Erased);
                }
                return Err(fault);
            }
        };
        batch.mutations.push(Mutation::InboxPut(put));
        let interrupted = match (item.when_busy, &owner) {
            (Some(BusyPolicy::Interrupt), None) => self.own_active_run(scope, session, &item.author).await?,
            _ => None,
        };
        // In one commit with the input, so that a crash leaves neither without the other.
        batch
            .mutations
            .extend(interrupted.map(|run| Mutation::InboxPut(self.interrupt_signal(run, item, at))));
        if let Some(owner) = &mut owner {
            if let Some(exhausted) = unfunded {
                owner.exhaust_budget(exhausted);
            }
            owner.add_claim(&mut batch, session);
        }
        let outcome = item.wait.then(|| RunOutcomes::new(self.core).wait_for(scope, agent.id, id));
        let run = owner.as_ref().map(|owner| owner.owner.identity.run);
        match self.core.ports.store.commit(batch).await {
            CommitOutcome::Done(receipt) => {
                let claimed = receipt.claimed && owner.is_some();
                let position = receipt.positions.first().copied().unwrap_or_default();
                if let SessionLookup::New(key) = found {
                    self.core.caches.session_keys.insert((scope.tenant(), agent.id, key.clone()), session);
                }
                match owner {
                    Some(owner) if claimed => SessionClaimer::new(self.core).drive_turn(owner),
                    other => {
                        drop(other);
                        self.core.activity.counts.count_task(TaskState::Pending);
                        self.core.enqueue_ready(scope.tenant(), ReadyWork::Session(session));
                        let interrupted = match interrupted {
                            None if item.when_busy == Some(BusyPolicy::Interrupt) => {
                                self.interrupt_new_turn(scope, session, item, at).await
                            }
                            interrupted => interrupted,
                        };
                        self.notify_running_turn(scope, session, item.when_busy, interrupted).await;
                        if item.wait {
                            RunOutcomes::new(self.core)
                                .wait_in_line(scope, agent.id, id, InboxPosition { session, position })
                                .await;
                        }
                    }
                }
                Ok(AdmissionOutcome::Done(InputReceipt {
                    item: id,
                    session,
                    position,
                    run: run.filter(|_| claimed),
                    replayed: false,
                    outcome,
                }))
            }
            answer => {
                drop(outcome);
                self.core.hub.forget_waiters(id);
                drop(owner);
                self.core.dispatch_ready();
                self.handle_refusal(scope, agent, item, answer).await
            }
        }
    }

    /// Returns the turn that holds a session.
    async fn active_run(&self, scope: &Scope, session: SessionId) -> Result<Option<RunId>, Fault> {
        let found = self.core.ports.store.session(scope, session).await.map_err(read_fault)?;
        Ok(found.and_then(|session| session.head.active))
    }

    /// Returns the turn that holds a session, if the same person speaks in it: a message ends no turn of another person.
    async fn own_active_run(
        &self,
        scope: &Scope,
        session: SessionId,
        author: &Actor,
    ) -> Result<Option<RunId>, Fault> {
        let store = &self.core.ports.store;
        let Some(found) = store.session(scope, session).await.map_err(read_fault)? else { return Ok(None) };
        let Some(run) = found.head.active else { return Ok(None) };
        // The inputs of a turn have one author, and the turn took the last one that is taken.
        let last = found.head.taken.saturating_sub(1);
        let taken =
            store.inbox_items(scope, InboxOwner::Session(session), last, 1).await.map_err(read_fault)?;
        Ok(taken.first().filter(|taken| taken.author == *author).map(|_| run))
    }

    /// Ends a turn of the same person that began while the input was on its way to the store. A crash before the signal is
    /// durable leaves an input that waits for that turn.
    async fn interrupt_new_turn(
        &self,
        scope: &Scope,
        session: SessionId,
        item: &NewItem,
        at: Timestamp,
    ) -> Option<RunId> {
        let run = self.own_active_run(scope, session, &item.author).await.ok().flatten()?;
        let signal = Mutation::InboxPut(self.interrupt_signal(run, item, at));
        match self.core.ports.store.commit(WriteBatch::new(scope.tenant()).with_mutation(signal)).await {
            CommitOutcome::Done(_) => Some(run),
            CommitOutcome::Refused(_) | CommitOutcome::Unknown { .. } => None,
        }
    }

    /// Makes the signal by which an input ends the turn before it.
    fn interrupt_signal(&self, run: RunId, item: &NewItem, at: Timestamp) -> InboxPut {
        InboxPut {
            owner: InboxOwner::Run(run),
            item: self.core.ports.runtime.item_id(),
            at,
            kind: ItemKind::Terminate,
            author: item.author.clone(),
            body: Bytes::new(),
            key: None,
        }
    }

    /// Tells the turn that holds a session of an input that concerns it. What is durable decides; a turn that misses this
    /// reads the inbox when it is taken over.
    async fn notify_running_turn(
        &self,
        scope: &Scope,
        session: SessionId,
        when_busy: Option<BusyPolicy>,
        interrupted: Option<RunId>,
    ) {
        if let Some(run) = interrupted
            && !self.core.hub.signal_run(run)
        {
            self.core.enqueue_ready(scope.tenant(), ReadyWork::Run(run));
        }
        if when_busy == Some(BusyPolicy::Steer)
            && let Ok(Some(run)) = self.active_run(scope, session).await
        {
            self.core.hub.note_joinable(run);
        }
    }

    async fn handle_refusal(
        &self,
        scope: &Scope,
        agent: &AgentSnapshot,
        item: &NewItem,
        answer: CommitOutcome,
    ) -> Result<AdmissionOutcome, Fault> {
        match answer {
            CommitOutcome::Refused(CommitRefusal::SessionExists { session }) => {
                Ok(AdmissionOutcome::Opened(session))
            }
            // The turn that was to be interrupted ended a moment ago.
            CommitOutcome::Refused(CommitRefusal::RunTerminal) => Ok(AdmissionOutcome::Freed),
            // The input is admitted all the same; the turn that takes it ends at once and reports the budget.
            CommitOutcome::Refused(CommitRefusal::BudgetExhausted(exhausted)) => {
                Ok(AdmissionOutcome::Unfunded(exhausted))
            }
            CommitOutcome::Refused(CommitRefusal::KeyTaken { item: known, owner, position, request }) => {
                if item.key.as_ref().is_some_and(|key| key.request != request) {
                    return Err(Fault::new(
                        ErrorCode::IdempotencyConflict,
                        "the idempotency key was used for a different request",
                    )
                    .with_hint("use a new key for a new request"));
                }
                self.join_earlier_run(scope, agent.id, known, owner, position, item.wait)
                    .await
                    .map(AdmissionOutcome::Done)
            }
            CommitOutcome::Unknown { .. } => {
                // The input, and the claim with it, may be durable all the same: that run has no owner yet.
                self.core.request_rescan();
                Err(commit_fault(answer))
            }
            CommitOutcome::Refused(CommitRefusal::AgentState { .. } | CommitRefusal::NotFound(_)) => {
                self.core.caches.agents.forget_agent(agent.id);
                self.core.caches.session_keys.retain(|(_, id, _), _| *id != agent.id);
                let state = self.core.caches.agents.agent_snapshot(scope, agent.id).await?.state;
                if matches!(state, AgentState::Running | AgentState::Paused) {
                    return Ok(AdmissionOutcome::Erased);
                }
                Err(agent_terminated(agent.id))
            }
            other => Err(commit_fault(other)),
        }
    }

    /// Joins the run of a request that came earlier with the same key.
    async fn join_earlier_run(
        &self,
        scope: &Scope,
        agent: AgentId,
        item: ItemId,
        owner: InboxOwner,
        position: u64,
        wait: bool,
    ) -> Result<InputReceipt, Fault> {
        let InboxOwner::Session(session) = owner else {
            return Err(Fault::new(
                ErrorCode::IdempotencyConflict,
                "the idempotency key was used for a signal",
            ));
        };
        // Wait first and look then: a run that ends in between answers the waiter.
        let outcome = wait.then(|| RunOutcomes::new(self.core).wait_for(scope, agent, item));
        let found =
            self.core.ports.store.inbox_items(scope, owner, position - 1, 1).await.map_err(read_fault)?;
        let run = found.first().and_then(|item| item.taken_by);
        let outcome = match (run, outcome) {
            (Some(run), Some(waiting)) => {
                Some(RunOutcomes::new(self.core).ended_outcome(scope, run).await?.unwrap_or(waiting))
            }
            (None, Some(waiting)) => {
                RunOutcomes::new(self.core)
                    .wait_in_line(scope, agent, item, InboxPosition { session, position })
                    .await;
                Some(waiting)
            }
            (_, None) => None,
        };
        Ok(InputReceipt { item, session, position, run, replayed: true, outcome })
    }
}

/// Returns whether a refusal depends on the current state, and not only on the request or the store's health.
fn is_of_today(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidRequest | ErrorCode::AgentTerminated)
}

/// What one attempt to let an input in begins with.
struct AdmissionAttempt {
    /// The budget that has no room for the turn's first call, as the attempt before found.
    unfunded: Option<BudgetExhaustion>,
    /// The step in which all of it is done, up to the commit.
    step: StepPermit,
}

enum AdmissionOutcome {
    Done(InputReceipt),
    /// Another caller opened the session first.
    Opened(SessionId),
    /// The turn that held the session ended, so it may be free.
    Freed,
    /// The session was erased since it was looked up.
    Erased,
    /// A budget is exhausted before the turn's first call.
    Unfunded(BudgetExhaustion),
}
