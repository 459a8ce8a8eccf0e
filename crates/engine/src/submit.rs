//! How input becomes durable.
//!
//! Admission, claim and the first model call are one commit where the session is free and a slot is to be had.
//! Where not, the input is stored all the same and waits: admission never depends on a turn.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::budget::Exhausted;
use dromia_contracts::content::InputMessage;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{NewInput, Submitted, Target};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{Batch, Commit, InboxPut, ItemKey, KeyedItem, Mutation, Refusal, SessionOpen};
use dromia_contracts::task::TaskState;
use dromia_contracts::{Actor, AgentId, ErrorCode, Fault, ItemId, Scope, SessionId};

use crate::agents::{Snapshot, read_fault};
use crate::answering;
use crate::config::{CALL_BYTES_MAX, INPUT_BYTES_MAX};
use crate::core::Core;
use crate::live::Place;
use crate::refusal::{agent_terminated, commit_fault, session_not_found};
use crate::scheduler::Ready;

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
pub(crate) enum Found {
    /// It is there.
    Session(SessionId),
    /// It must be opened.
    New(SessionKey),
    /// It must be opened, and nobody will ask for its key again.
    Fresh(SessionKey),
}

/// Writes an input as it is stored, if it is not too long for that.
pub(crate) fn encoded(body: &InputBody) -> Result<Bytes, Fault> {
    let body = body.encode().map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
    if body.len() > INPUT_BYTES_MAX {
        let text = format!("an input has at most {INPUT_BYTES_MAX} bytes, this one has {}", body.len());
        return Err(Fault::new(ErrorCode::BodyTooLarge, text));
    }
    Ok(Bytes::from(body))
}

impl Core {
    /// Stores an input and, where possible, claims its session in the same commit. What was let in once under a key is
    /// joined, whatever it would be refused for today: its agent may have ended since, or got a tool with the name of one
    /// of the client's.
    pub(crate) async fn submit(self: &Arc<Self>, scope: Scope, input: NewInput) -> Result<Submitted, Fault> {
        // Results of handed calls have a key of their own.
        let key = input.key.clone().filter(|_| input.answers.is_none());
        let wait = input.wait;
        match (self.submit_new(&scope, input).await, key) {
            (Err(fault), Some(key)) if is_of_today(fault.code) => {
                self.submitted_before(&scope, &key, wait).await?.ok_or(fault)
            }
            (answer, _) => answer,
        }
    }

    /// Joins the run of the item that a key stands for, if it came with the same request.
    async fn submitted_before(
        self: &Arc<Self>,
        scope: &Scope,
        key: &ItemKey,
        wait: bool,
    ) -> Result<Option<Submitted>, Fault> {
        let (store, at) = (&self.ports.store, self.ports.runtime.clock.now());
        let known = store.keyed(scope, &key.key, at).await.map_err(read_fault)?;
        let Some(known) = known.filter(|known| known.request == key.request) else { return Ok(None) };
        let InboxOwner::Session(session) = known.owner else { return Ok(None) };
        // An agent that is being erased shows no session; then nothing of it is told.
        let Some(session) = store.session(scope, session).await.map_err(read_fault)? else { return Ok(None) };
        let KeyedItem { item, owner, position, .. } = known;
        self.join(scope, session.agent, item, owner, position, wait).await.map(Some)
    }

    async fn submit_new(self: &Arc<Self>, scope: &Scope, input: NewInput) -> Result<Submitted, Fault> {
        // Results may be the last word: those of handed calls, or of a told past.
        if input.parts.is_empty() && input.answers.is_none() && input.history.is_empty() {
            return Err(Fault::new(ErrorCode::InvalidRequest, "an input needs at least one part"));
        }
        self.check_client(scope, &input).await?;
        let message = InputMessage { author: input.author.clone(), parts: input.parts, hops: 0 };
        if input.call.as_ref().is_some_and(|call| call.arguments.len() > CALL_BYTES_MAX) {
            let text = format!("a call by hand has at most {CALL_BYTES_MAX} bytes of arguments");
            return Err(Fault::new(ErrorCode::BodyTooLarge, text));
        }
        let body = InputBody {
            history: input.history,
            answers: input.answers,
            offer: input.offer,
            call: input.call,
            message,
        };
        let answers = body.answers.clone();
        let body = encoded(&body)?;
        let key = match &answers {
            Some(answers) => Some(answering::key(answers, &body)),
            None => input.key,
        };
        let item = NewItem { kind: ItemKind::Input, author: input.author, body, key, wait: input.wait };
        self.admit(scope, input.target, item).await.map_err(|fault| match &answers {
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
        let mut unfunded = None;
        for _ in 0..OPEN_TRIES {
            match self.admit_once(scope, &agent, &found, id, &item, unfunded.take()).await? {
                Admission::Done(submitted) => return Ok(submitted),
                Admission::Opened(session) => found = Found::Session(session),
                Admission::Unfunded(exhausted) => unfunded = Some(exhausted),
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
            Target::Fresh { agent, key } => Ok((agent, Found::Fresh(key))),
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
        unfunded: Option<Exhausted>,
    ) -> Result<Admission, Fault> {
        let at = self.ports.runtime.clock.now();
        let mut batch = Batch::new(scope.tenant());
        let session = match found {
            Found::Session(session) => *session,
            Found::New(key) | Found::Fresh(key) => {
                let session = self.ports.runtime.session_id();
                let open = SessionOpen {
                    session,
                    agent: agent.id,
                    key: key.clone(),
                    at,
                    believes: false,
                    importing: false,
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
            if let Some(exhausted) = unfunded {
                owner.unfund(exhausted);
            }
            owner.claim(&mut batch, session);
        }
        let outcome = item.wait.then(|| self.wait_for(scope, agent.id, id));
        let run = owner.as_ref().map(|owner| owner.owner.run);
        match self.ports.store.commit(batch).await {
            Commit::Done(receipt) => {
                let claimed = receipt.claimed && owner.is_some();
                let position = receipt.positions.first().copied().unwrap_or_default();
                if let Found::New(key) = found {
                    self.session_keys.insert((scope.tenant(), agent.id, key.clone()), session);
                }
                match owner {
                    Some(owner) if claimed => self.drive(owner),
                    other => {
                        drop(other);
                        self.counts.count(TaskState::Pending);
                        self.ready(scope.tenant(), Ready::Session(session));
                        if item.wait {
                            self.wait_in_line(scope, agent.id, id, Place { session, position }).await;
                        }
                    }
                }
                Ok(Admission::Done(Submitted {
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
                self.hub.unwait(id);
                drop(owner);
                self.dispatch();
                self.refused(scope, agent, item, answer).await
            }
        }
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
            // The input is let in all the same; the turn that takes it ends at once and says so.
            Commit::Refused(Refusal::BudgetExhausted(exhausted)) => Ok(Admission::Unfunded(exhausted)),
            Commit::Refused(Refusal::KeyTaken { item: known, owner, position, request }) => {
                if item.key.as_ref().is_some_and(|key| key.request != request) {
                    return Err(Fault::new(
                        ErrorCode::IdempotencyConflict,
                        "the idempotency key was used for another request",
                    )
                    .with_hint("use a new key for a new request"));
                }
                self.join(scope, agent.id, known, owner, position, item.wait).await.map(Admission::Done)
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
        agent: AgentId,
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
        let outcome = wait.then(|| self.wait_for(scope, agent, item));
        let found = self.ports.store.inbox(scope, owner, position - 1, 1).await.map_err(read_fault)?;
        let run = found.first().and_then(|item| item.taken_by);
        let outcome = match (run, outcome) {
            (Some(run), Some(waiting)) => Some(self.ended(scope, run).await?.unwrap_or(waiting)),
            (None, Some(waiting)) => {
                self.wait_in_line(scope, agent, item, Place { session, position }).await;
                Some(waiting)
            }
            (_, None) => None,
        };
        Ok(Submitted { item, session, position, run, replayed: true, outcome })
    }
}

/// Tells whether a refusal says how things stand today, and not what the request is or how the store fares.
fn is_of_today(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidRequest | ErrorCode::AgentTerminated)
}

enum Admission {
    Done(Submitted),
    /// Somebody else opened the session first.
    Opened(SessionId),
    /// A budget has no room for the turn's first call.
    Unfunded(Exhausted),
}
