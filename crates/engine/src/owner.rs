//! The shell around `decide`: the one writer of a run's journal.
//!
//! It commits entries before it does what leaves the process, feeds results back, and keeps its state in memory
//! only as long as every commit is answered "done". On any other answer it drops everything and lets recovery
//! read the journal: between the failed answer and the takeover nothing is acted on.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dromia_contracts::agent::AgentState;
use dromia_contracts::content::Part;
use dromia_contracts::entry::Park;
use dromia_contracts::gate::{Action, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::model::{Deltas, ModelError, ModelRequest, Prepared};
use dromia_contracts::runs::{Live, Outcome};
use dromia_contracts::sent::Sent;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::{Batch, Commit, InboxPut, Mutation, NewEntry, Page, Refusal, RunAppend};
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolContext, ToolOutput};
use dromia_contracts::{Actor, CallId, ErrorCode, ItemId, RunId, Scope, SessionId};
use futures_util::future::{Either, select};
use jiff::SignedDuration;

use crate::agents::Snapshot;
use crate::ask::Asking;
use crate::core::Core;
use crate::decide::{Input, Judgement, Next, Plan, decide};
use crate::live::Active;
use crate::scheduler::{Ready, Slot};
use crate::sent::digest;
use crate::state::{Phase, Rest, RunState, apply};
use crate::story::Story;

/// How often an append that found the writer's queue full is offered again, 20 ms apart.
const OVERLOAD_TRIES: u32 = 500;

/// A run in the hands of its one writer.
pub(crate) struct Owner {
    pub(crate) core: Arc<Core>,
    pub(crate) scope: Scope,
    pub(crate) author: Actor,
    pub(crate) agent: Arc<Snapshot>,
    pub(crate) session: SessionId,
    pub(crate) run: RunId,
    pub(crate) epoch: u64,
    pub(crate) items: Vec<ItemId>,
    pub(crate) state: RunState,
    pub(crate) story: Story,
    pub(crate) active: Arc<Active>,
    pub(crate) slot: Slot,
    /// The number of the last durable entry; the entries after it are in `pending`.
    pub(crate) durable: u64,
    pub(crate) pending: Vec<NewEntry>,
    pub(crate) sends: Vec<InboxPut>,
    /// The attempt whose entry is pending or open: what it sends is what the entry says.
    pub(crate) prepared: Option<Prepared>,
    /// A commit freed the session and told that input waits there.
    pub(crate) waiting: bool,
}

/// The run is not ours any more, or nobody can say: drop everything.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Another owner holds it, or it is gone.
    Fenced,
    /// The store could not say; recovery reads again once it answers.
    Store,
}

impl Owner {
    /// Drives the run until it rests, then lets go of it.
    pub(crate) async fn drive(mut self, next: Next) {
        let result = self.turn(next).await;
        self.slot.charge(self.state.model_calls);
        self.core.hub.deactivate(self.run);
        let session = Ready::Session(self.session);
        match result {
            Ok(waiting) => {
                // A signal that came after the last look lies in the inbox of a run that rests: look again.
                if self.active.take_signal() && !self.state.is_ended() {
                    self.core.scheduler.push(self.scope.tenant(), Ready::Run(self.run));
                }
                if waiting {
                    self.core.scheduler.push(self.scope.tenant(), session);
                }
                if self.state.rest.is_some() {
                    self.core.janitor.notify_one();
                }
                self.look_at_agent_again().await;
            }
            Err(lost) => {
                tracing::info!(run = %self.run, ?lost, "the run is dropped from memory");
                // Whoever waits is answered by the next owner, or by the janitor if the run has ended.
                self.core.hub.lose(self.scope.tenant(), self.run, &self.items);
                self.core.request_rescan();
            }
        }
        let core = Arc::clone(&self.core);
        drop(self);
        core.dispatch();
    }

    /// Closes the gap between the look that found the agent paused and the commit that parked the run: an agent
    /// that was resumed in between woke only those that it found parked.
    async fn look_at_agent_again(&self) {
        if self.state.is_ended() || !matches!(self.state.rest, Some(Rest::Parked(Park::AgentPaused))) {
            return;
        }
        match self.core.snapshot(&self.scope, self.agent.id).await {
            Ok(agent) if agent.state == AgentState::Paused => {}
            Ok(_) => self.core.scheduler.push(self.scope.tenant(), Ready::Run(self.run)),
            Err(_) => self.core.request_rescan(),
        }
    }

    /// Runs the loop; returns whether the freed session has waiting items.
    async fn turn(&mut self, mut next: Next) -> Result<bool, Lost> {
        loop {
            if let Some(input) = self.border(&next).await? {
                next = self.decide(input);
                continue;
            }
            let input = match next {
                Next::Plan => self.plan(),
                Next::Judge(call) => self.judge(call),
                Next::JudgeReply => self.judge_reply(),
                Next::CallModel => {
                    self.commit().await?;
                    self.call_model().await?
                }
                Next::RunTool(call) => {
                    next = self.run_tool(call).await?;
                    continue;
                }
                Next::Rest => return self.rest().await,
            };
            next = self.decide(input);
        }
    }

    pub(crate) fn decide(&mut self, input: Input) -> Next {
        let decision = decide(&self.state, self.core.ports.runtime.clock.now(), input);
        for new in &decision.entries {
            apply(&mut self.state, &new.entry);
            // The body was made by the decision itself, so it is readable.
            if let Err(error) = self.story.add_entry(&new.entry, new.body.as_deref()) {
                tracing::error!(run = %self.run, %error, "a body just written is unreadable");
            }
        }
        self.pending.extend(decision.entries);
        self.sends.extend(decision.sends);
        decision.next
    }

    /// Looks, where a unit may end, at signals and at the agent's state.
    async fn border(&mut self, next: &Next) -> Result<Option<Input>, Lost> {
        if *next != Next::Plan && !matches!(next, Next::Judge(_)) {
            return Ok(None);
        }
        if self.active.take_signal() {
            let items = self.signals().await?;
            let several = items.len() > 1;
            for item in items {
                if item.kind == ItemKind::Terminate || *next == Next::Plan {
                    if several {
                        // One is taken at a time; the next look must find the others.
                        self.core.hub.signal(self.run);
                    }
                    return Ok(Some(Input::Signal(item)));
                }
                // A cancel waits for the border of its unit; remember that it is there.
                self.core.hub.signal(self.run);
            }
        }
        if *next == Next::Plan {
            match self.core.snapshot(&self.scope, self.agent.id).await {
                Ok(agent) if agent.state == AgentState::Paused => return Ok(Some(Input::AgentPaused)),
                Ok(_) => {}
                Err(_) => return Err(Lost::Store),
            }
        }
        Ok(None)
    }

    async fn signals(&self) -> Result<Vec<InboxItem>, Lost> {
        let owner = InboxOwner::Run(self.run);
        let after = self.state.signals_taken;
        let limit = Page::<ItemId>::LIMIT_MAX;
        self.core.ports.store.inbox(&self.scope, owner, after, limit).await.map_err(|_| Lost::Store)
    }

    /// Puts the next request together, writes it down and counts it.
    pub(crate) fn plan(&mut self) -> Input {
        let request = self.request();
        let prepared = self.core.ports.model.prepare(&request);
        self.story.keep(request);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                // The run ends, perhaps in the commit of its claim, which does not tell whether input waits: look.
                self.waiting = true;
                return Input::Unplanned(error);
            }
        };
        let sent = Sent { wording: prepared.wording.clone(), digest: digest(&prepared.body) };
        let plan = Plan {
            model: self.agent.config.model.clone(),
            history_from: self.story.history_from,
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            reserved_micros: prepared.reserved_micros,
            sent,
        };
        self.prepared = Some(prepared);
        Input::Planned(plan)
    }

    fn request(&mut self) -> ModelRequest {
        let step = match self.state.phase {
            Phase::StepDue { step, .. } | Phase::ModelOpen { step, .. } => step,
            _ => 0,
        };
        self.story.ask(Asking {
            model: &self.agent.config.model,
            system: &self.agent.system,
            tools: &self.agent.tools,
            output_tokens_max: self.core.config.output_tokens_max,
            run: self.run,
            step,
        })
    }

    async fn call_model(&mut self) -> Result<Input, Lost> {
        // A provider is a sink like any other: the request passes the gate before it leaves.
        let model = self.agent.config.model.clone();
        if let Verdict::Deny { rule, reason } = self.gate(Action::Model { model: &model }) {
            return Ok(Input::Failed(ModelError {
                code: ErrorCode::ModelRejected,
                message: format!("the request was refused by {rule}: {reason}"),
                retry_after: None,
            }));
        }
        // What leaves is what was prepared before the entry was written, and nothing else.
        let Some(prepared) = self.prepared.take() else {
            tracing::error!(run = %self.run, "a model call is due that nobody prepared");
            return Err(Lost::Store);
        };
        let request = self.request();
        let (step, attempt) = match self.state.phase {
            Phase::ModelOpen { step, attempt, .. } => (step, attempt),
            _ => (0, 0),
        };
        let deltas = LiveDeltas { core: &self.core, run: self.run, step, attempt, offset: AtomicU64::new(0) };
        let mut others = false;
        let ended = {
            let mut call = self.core.ports.model.call(&request, &prepared, &deltas);
            loop {
                let signal = pin!(self.active.signalled());
                match select(&mut call, signal).await {
                    Either::Left((result, _)) => break Ok(result),
                    Either::Right(((), _)) => {
                        // A signal may be taken already, or may ask for nothing that concerns the attempt.
                        let items = self.signals().await?;
                        others = !items.is_empty();
                        // Its agent is being erased; otherwise whoever signalled could not write the signal down.
                        if items.is_empty() && self.is_gone().await? {
                            return Err(Lost::Fenced);
                        }
                        if items.iter().any(|item| ends_a_run(item.kind)) {
                            // Dropping the future cancels the attempt.
                            break Err(items);
                        }
                    }
                }
            }
        };
        self.story.keep(request);
        match ended {
            Ok(result) => {
                if others {
                    self.core.hub.signal(self.run);
                }
                Ok(match result {
                    Ok(reply) => Input::Replied(reply, self.story.label),
                    Err(error) => Input::Failed(error),
                })
            }
            Err(items) => self.first_end(items),
        }
    }

    /// Tells whether the run is not found any more.
    async fn is_gone(&self) -> Result<bool, Lost> {
        let found = self.core.ports.store.run(&self.scope, self.run).await;
        found.map(|run| run.is_none()).map_err(|_| Lost::Store)
    }

    /// Takes signals in their order up to the first that ends the run, which is given back.
    fn first_end(&mut self, items: Vec<InboxItem>) -> Result<Input, Lost> {
        for item in items {
            if ends_a_run(item.kind) {
                return Ok(Input::Signal(item));
            }
            self.decide(Input::Signal(item));
        }
        Err(Lost::Store)
    }

    fn judge(&self, id: CallId) -> Input {
        let Some(call) = self.story.call(id) else {
            let reason = "the call's arguments were erased".to_owned();
            return Input::Judged(id, Judgement::Denied { rule: "erased".to_owned(), reason });
        };
        let judgement = match self.core.ports.tools.prepare(call) {
            Err(error) => Judgement::Malformed(error),
            Ok(call) => match self.gate(Action::Tool(&call)) {
                Verdict::Allow { rule } => Judgement::Allowed { call, rule },
                Verdict::Deny { rule, reason } => Judgement::Denied { rule, reason },
            },
        };
        Input::Judged(id, judgement)
    }

    fn judge_reply(&self) -> Input {
        Input::ReplyJudged(self.gate(Action::Reply { session: self.session }))
    }

    /// The one path to the gate.
    fn gate(&self, action: Action<'_>) -> Verdict {
        let grants = &self.agent.config.grants;
        let principal = Principal { scope: &self.scope, author: &self.author, grants };
        self.core.ports.gate.judge(principal, action)
    }

    async fn run_tool(&mut self, call: PreparedCall) -> Result<Next, Lost> {
        // A transactional call has no effect before its result commits, so its start commits with its result.
        let transactional = call.effect == EffectClass::Transactional;
        if !transactional {
            self.commit().await?;
        }
        let id = call.id;
        let context = ToolContext {
            scope: self.scope.clone(),
            agent: self.agent.id,
            author: self.author.clone(),
            hops: self.story.hops,
            run: self.run,
            session: self.session,
            key: id.key(self.run),
        };
        let cancelled = AtomicBool::new(false);
        let ended = {
            let work = self.core.ports.tools.call(context, call);
            let terminated = pin!(self.terminated(&cancelled));
            match select(work, terminated).await {
                Either::Left((output, _)) => Ok(output),
                Either::Right((item, _)) => Err(item),
            }
        };
        if cancelled.into_inner() {
            // A cancel waits for the border of its unit: leave it signalled.
            self.core.hub.signal(self.run);
        }
        match ended {
            Err(Some(item)) => Ok(self.decide(Input::Signal(item))),
            Err(None) => Err(Lost::Store),
            Ok(output) if transactional => self.finish_transactional(id, output).await,
            Ok(output) => Ok(self.decide(Input::Finished(id, output))),
        }
    }

    /// Commits a transactional call's result together with what it sends. If the store refuses what it sends,
    /// nothing happened: the call ends with an error instead.
    async fn finish_transactional(&mut self, id: CallId, output: ToolOutput) -> Result<Next, Lost> {
        let saved = (self.state.clone(), self.story.clone(), self.pending.clone());
        let next = self.decide(Input::Finished(id, output));
        match self.try_commit().await? {
            None => Ok(next),
            Some(refusal) => {
                (self.state, self.story, self.pending) = saved;
                self.sends.clear();
                let parts = vec![Part::text(format!("Nothing was sent: {refusal}."), Label::PUBLIC_FACT)];
                Ok(self.decide(Input::Finished(id, ToolOutput { failed: true, parts, sends: vec![] })))
            }
        }
    }

    async fn commit(&mut self) -> Result<bool, Lost> {
        match self.try_commit().await? {
            None => Ok(false),
            Some(refusal) => {
                tracing::warn!(run = %self.run, %refusal, "an append was refused");
                Err(Lost::Fenced)
            }
        }
    }

    /// Makes the pending entries durable. A refusal that only concerns what is sent is given back.
    async fn try_commit(&mut self) -> Result<Option<Refusal>, Lost> {
        self.append().await.map(Result::err)
    }

    async fn append(&mut self) -> Result<Result<(), Refusal>, Lost> {
        if self.pending.is_empty() {
            return Ok(Ok(()));
        }
        let sends = std::mem::take(&mut self.sends);
        let mut batch = Batch::new(self.scope.tenant());
        batch.mutations.extend(sends.iter().cloned().map(Mutation::InboxPut));
        batch.mutations.push(Mutation::RunAppend(RunAppend {
            run: self.run,
            epoch: self.epoch,
            after: self.durable,
            entries: std::mem::take(&mut self.pending),
            head: self.state.head(),
        }));
        for _ in 0..OVERLOAD_TRIES {
            match self.core.ports.store.commit(batch.clone()).await {
                Commit::Done(receipt) => {
                    self.durable = self.state.seq;
                    let (seq, status) = (self.durable, self.state.status());
                    self.core.hub.publish(self.run, || Live::Committed { seq, status });
                    for put in sends {
                        if let InboxOwner::Session(session) = put.owner {
                            self.core.ready(self.scope.tenant(), Ready::Session(session));
                        }
                    }
                    self.waiting |= receipt.waiting;
                    return Ok(Ok(()));
                }
                Commit::Refused(Refusal::Overloaded) => {
                    let clock = &self.core.ports.runtime.clock;
                    let later = clock.now().checked_add(SignedDuration::from_millis(20));
                    clock.sleep_until(later.unwrap_or_else(|_| clock.now())).await;
                }
                Commit::Refused(Refusal::ReadOnly { .. }) | Commit::Unknown { .. } => {
                    return Err(Lost::Store);
                }
                Commit::Refused(
                    Refusal::EpochStale { .. } | Refusal::SequenceMoved { .. } | Refusal::RunTerminal,
                ) => {
                    return Err(Lost::Fenced);
                }
                Commit::Refused(refusal) => return Ok(Err(refusal)),
            }
        }
        Err(Lost::Store)
    }

    /// Makes the last entries durable and tells whoever waits.
    async fn rest(&mut self) -> Result<bool, Lost> {
        if let Err(refusal) = self.append().await? {
            tracing::warn!(run = %self.run, %refusal, "the last append was refused");
            return Err(Lost::Fenced);
        }
        if self.state.is_ended() {
            let outcome = Outcome {
                run: self.run,
                last_seq: self.durable,
                head: self.state.head(),
                reply: std::mem::take(&mut self.story.reply),
                failure: self.state.fault(),
            };
            self.core.hub.resolve(&self.items, &Ok(outcome));
            self.core.hub.unwatch(self.run);
        }
        // The commit that ended the run may have been an earlier one: a transactional call commits its own end.
        Ok(self.waiting)
    }

    /// Waits until a terminate signal lies in the run's inbox; `None` if the inbox cannot be read.
    async fn terminated(&self, cancelled: &AtomicBool) -> Option<InboxItem> {
        loop {
            self.active.signalled().await;
            let items = self.signals().await.ok()?;
            match items.into_iter().find(|item| item.kind == ItemKind::Terminate) {
                Some(item) => return Some(item),
                None => cancelled.store(true, Ordering::Relaxed),
            }
        }
    }
}

fn ends_a_run(kind: ItemKind) -> bool {
    matches!(kind, ItemKind::Cancel | ItemKind::Terminate)
}

/// Passes live text on to watchers.
struct LiveDeltas<'a> {
    core: &'a Core,
    run: RunId,
    step: u32,
    attempt: u32,
    offset: AtomicU64,
}

impl Deltas for LiveDeltas<'_> {
    fn push(&self, text: &str) {
        let offset = self.offset.fetch_add(text.len() as u64, Ordering::Relaxed);
        let (step, attempt) = (self.step, self.attempt);
        self.core.hub.publish(self.run, || Live::Delta { step, attempt, offset, text: text.to_owned() });
    }
}
