//! The shell around `decide`: the one writer of a run's journal.
//!
//! It commits entries before it does what leaves the process, feeds results back, and keeps its state in memory
//! only as long as every commit is answered "done". On any other answer it drops everything and lets recovery
//! read the journal: between the failed answer and the takeover nothing is acted on.

mod answer_delivery;
mod child_bounds;
mod commit;
mod consultation;
pub(crate) mod error;
pub(crate) mod identity;
mod interim_replies;
mod joined_inputs;
mod journal;
mod live_text;
mod model_call;
mod parking;
mod past_words;
mod reply_redaction;
mod session_notice;
mod step;
mod tool_call;
mod window;

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::budget::{BudgetExhaustion, BudgetPayer};
use dromia_contracts::entry::{ParkReason, RunStarted};
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::{NewEntry, PageRequest};
use dromia_contracts::{CallId, ItemId};

use crate::context::transcript::ConversationTranscript;
use crate::core::EngineCore;
use crate::decide::{CallJudgement, DecisionInput, NextAction, decide};
use crate::notifications::ActiveRun;
use crate::panics::AbandonGuard;
use crate::scheduler::{ReadyWork, TaskSlot};
use crate::state::{RestReason, RunState, apply_entry};

pub(crate) use self::error::OwnershipError;
use self::identity::RunIdentity;
use self::journal::JournalWriter;
use self::parking::keep_if_parked;
use self::step::RequestStep;
use self::window::look_at_window;
use crate::judge::{CallJudge, JudgedCall};

/// A run in the hands of its one writer.
pub(crate) struct RunOwner {
    pub(crate) core: Arc<EngineCore>,
    pub(crate) identity: RunIdentity,
    pub(crate) state: RunState,
    pub(crate) story: ConversationTranscript,
    pub(crate) journal: JournalWriter,
    step: RequestStep,
    pub(crate) active: Arc<ActiveRun>,
    slot: TaskSlot,
    /// A commit freed the session and reported waiting input.
    waiting: bool,
    /// It is a branch that has ended, and a later one on its topic has begun.
    superseded: bool,
}

impl RunOwner {
    /// Takes a run with the state and the transcript that its durable entries give.
    pub(crate) fn new(
        core: &Arc<EngineCore>,
        identity: RunIdentity,
        (state, story): (RunState, ConversationTranscript),
        active: Arc<ActiveRun>,
        slot: TaskSlot,
    ) -> Self {
        let journal = JournalWriter::after_entry(state.seq);
        let (core, step) = (Arc::clone(core), RequestStep::default());
        Self { core, identity, state, story, journal, step, active, slot, waiting: false, superseded: false }
    }

    /// Decides the first entries of a run, up to the first effect.
    pub(crate) async fn begin_run(&mut self, started: RunStarted) -> NextAction {
        let mut next = self.decide_next(DecisionInput::Begin(started));
        while next == NextAction::PlannedRequest {
            next = self.plan_step().await;
        }
        next
    }

    /// Returns what judges its calls, requests and replies.
    fn judge(&mut self) -> CallJudge<'_> {
        let Self { core, identity, state, story, slot, journal, .. } = self;
        CallJudge { core, identity, state, story, slot, asks: &journal.asks, looked: &mut journal.looked }
    }

    /// Drives the run until it rests, then releases it.
    pub(crate) async fn drive_to_rest(mut self, next: NextAction) {
        let abandon = AbandonGuard::arm_guard(
            &self.core,
            self.identity.scope.tenant(),
            self.identity.run,
            &self.identity.items,
        );
        self.begin_step().await;
        let result = self.run_loop(next).await;
        self.slot.charge_model_calls(self.state.model_calls);
        abandon.disarm();
        if result.is_ok() {
            keep_if_parked(&mut self);
        }
        self.core.hub.deactivate(self.identity.run);
        self.core.ports.tools.let_go(self.identity.run);
        let session = ReadyWork::Session(self.identity.session);
        match result {
            Ok(waiting) => {
                // A signal that came after the last read is in the inbox of a resting run: queue the run again.
                if self.active.take_signal() && !self.state.is_ended() {
                    self.core
                        .scheduler
                        .push_ready(self.identity.scope.tenant(), ReadyWork::Run(self.identity.run));
                }
                if waiting {
                    self.core.scheduler.push_ready(self.identity.scope.tenant(), session);
                }
                look_at_window(&self);
                if self.state.rest.is_some() {
                    self.core.note_rest(self.state.run_head().wake_at);
                }
                self.look_at_agent_again().await;
            }
            Err(lost) => {
                tracing::info!(run = %self.identity.run, ?lost, "the owner drops the run from memory");
                // The next owner answers the waiting callers, or the janitor if the run has ended.
                self.core.hub.note_lost_run(
                    self.identity.scope.tenant(),
                    self.identity.run,
                    &self.state.taken_items(),
                );
                self.core.request_rescan();
            }
        }
        let core = Arc::clone(&self.core);
        drop(self);
        core.dispatch_ready();
    }

    /// Begins a step, in the tenant's turn: whatever the run does but wait for a model or a tool.
    async fn begin_step(&self) {
        self.slot.begin_step(self.core.ports.runtime.clock.monotonic_now()).await;
    }

    /// Closes the gap between the look that found the agent paused and the commit that parked the run: an agent
    /// that was resumed in between woke only those that it found parked.
    async fn look_at_agent_again(&self) {
        if self.state.is_ended()
            || !matches!(self.state.rest, Some(RestReason::Parked(ParkReason::AgentPaused)))
        {
            return;
        }
        match self.core.caches.agents.agent_snapshot(&self.identity.scope, self.identity.agent.id).await {
            Ok(agent) if agent.state == AgentState::Paused => {}
            Ok(_) => self
                .core
                .scheduler
                .push_ready(self.identity.scope.tenant(), ReadyWork::Run(self.identity.run)),
            Err(_) => self.core.request_rescan(),
        }
    }

    /// Runs the loop; returns whether the freed session has waiting items.
    async fn run_loop(&mut self, mut next: NextAction) -> Result<bool, OwnershipError> {
        loop {
            if let Some(input) = self.check_unit_border(&next).await? {
                next = self.decide_next(input);
                continue;
            }
            let input = match next {
                NextAction::PlannedRequest => {
                    next = self.plan_step().await;
                    continue;
                }
                NextAction::Judge(call) => {
                    // Boxed, so that what the checks hold is no part of the run's future.
                    let judged = Box::pin(self.judge().judge_call(call)).await?;
                    // The store refuses the start of a call that a person denies meanwhile. The results before it are
                    // durable by then.
                    if matches!(judged.judgement, CallJudgement::Allowed { .. })
                        && self.state.asked_ahead(call).is_some()
                        && let Some(ended) = self.commit_call_start().await?
                    {
                        next = ended;
                        continue;
                    }
                    next = self.decide_judged(call, judged);
                    continue;
                }
                NextAction::JudgeAhead(call) => {
                    self.journal.note_ahead(&self.state);
                    // Boxed, because it is rare and the run's future need not be larger for it.
                    let asks = Box::pin(self.judge().judge_ahead(call)).await?;
                    DecisionInput::JudgedAhead(call, asks.map(Box::new))
                }
                NextAction::JudgeReply => self.judge().judge_reply().await,
                NextAction::CallModel => {
                    if let Some(ended) = self.commit_call_start().await? {
                        next = ended;
                        continue;
                    }
                    next = self.call_model().await?;
                    continue;
                }
                NextAction::Consult(call) => {
                    // Boxed, because it is rare and the run's future need not be larger for it.
                    next = Box::pin(self.consult_model(call)).await?;
                    continue;
                }
                NextAction::RunTool(call) => {
                    next = self.run_tool(call).await?;
                    continue;
                }
                NextAction::Rest => match self.commit_and_rest().await? {
                    Ok(waiting) => return Ok(waiting),
                    Err(instead) => {
                        next = instead;
                        continue;
                    }
                },
            };
            next = self.decide_next(input);
        }
    }

    pub(crate) fn decide_next(&mut self, input: DecisionInput) -> NextAction {
        self.decide_noting(input, |_| {})
    }

    /// Decides about a judged call, and writes down what it was judged with.
    fn decide_judged(&mut self, id: CallId, JudgedCall { judgement, details }: JudgedCall) -> NextAction {
        if let CallJudgement::OpinionRequest(consults) = &judgement {
            self.step.priced = consults.prepared.priced;
            self.step.prepared = Some(consults.prepared.clone());
            self.step.second = Some(consults.second.clone());
        }
        self.decide_noting(DecisionInput::Judged(id, judgement), |entries| {
            details.annotate_entries(entries, id);
        })
    }

    fn decide_noting(&mut self, input: DecisionInput, note: impl FnOnce(&mut [NewEntry])) -> NextAction {
        if matches!(
            input,
            DecisionInput::Planned(_)
                | DecisionInput::Judged(
                    _,
                    CallJudgement::Allowed { .. }
                        | CallJudgement::RequiredApproval(_)
                        | CallJudgement::OpinionRequest(_)
                )
        ) {
            self.journal.note_call(&self.state);
        }
        let mut decision = decide(&self.state, self.core.ports.runtime.clock.now(), input);
        note(&mut decision.entries);
        for new in &decision.entries {
            apply_entry(&mut self.state, &new.entry);
            self.journal.marks.note_entry(self.state.seq, &new.entry);
            // The body was made by the decision itself, so it is readable.
            if let Err(error) = self.story.add_entry(&new.entry, new.body.as_deref()) {
                tracing::error!(run = %self.identity.run, %error, "a body just written cannot be read");
            }
        }
        self.journal.add_decision(&mut decision);
        decision.next
    }

    /// Withdraws the call that was to begin, and ends the run because a budget is exhausted. The entries before the
    /// call are still pending.
    pub(crate) fn exhaust_budget(&mut self, exhausted: BudgetExhaustion) -> NextAction {
        if let Some(state) = self.journal.withdraw_call() {
            self.state = state;
        }
        (self.step.prepared, self.step.verdict) = (None, None);
        self.core.activity.counts.count_budget_stop();
        // The run ends, perhaps in the commit of its claim, which does not report waiting input: check for it.
        self.waiting = true;
        self.decide_next(DecisionInput::Unfunded(exhausted))
    }

    /// The payer of the pending entries.
    pub(crate) fn pending_payer(&self) -> BudgetPayer {
        BudgetPayer { actor: self.identity.author.clone(), priced: self.step.priced }
    }

    /// Looks, where a unit may end, at signals and at the agent's state.
    async fn check_unit_border(
        &mut self,
        next: &NextAction,
    ) -> Result<Option<DecisionInput>, OwnershipError> {
        if *next != NextAction::PlannedRequest && !matches!(next, NextAction::Judge(_)) {
            return Ok(None);
        }
        if self.active.take_signal() {
            let items = self.read_signals().await?;
            let several = items.len() > 1;
            for (place, item) in items.into_iter().enumerate() {
                // An answer counts from where its call may begin, and nothing that came before it is passed over.
                let is_answer = place == 0 && matches!(item.kind, ItemKind::Approve | ItemKind::Deny);
                if item.kind == ItemKind::Terminate || is_answer || *next == NextAction::PlannedRequest {
                    if several {
                        // One is taken at a time; the next look must find the others.
                        self.core.hub.signal_run(self.identity.run);
                    }
                    return Ok(Some(DecisionInput::Signal(item)));
                }
                // A cancel waits for the border of its unit; remember that it is there.
                self.core.hub.signal_run(self.identity.run);
            }
        }
        // A call that waited to be allowed begins as late as a step does.
        let has_waited =
            matches!(next, NextAction::Judge(call) if self.state.granted_approval(*call).is_some());
        if *next == NextAction::PlannedRequest || has_waited {
            match self.core.caches.agents.agent_snapshot(&self.identity.scope, self.identity.agent.id).await {
                Ok(agent) if agent.state == AgentState::Paused => {
                    return Ok(Some(DecisionInput::AgentPaused));
                }
                Ok(_) => {}
                Err(_) => return Err(OwnershipError::Store),
            }
        }
        if *next == NextAction::PlannedRequest
            && let Some(told) = self.state.repetition_steps()
        {
            self.core.activity.counts.count_loop();
            return Ok(Some(DecisionInput::Circled { told }));
        }
        if *next == NextAction::PlannedRequest && self.active.take_joinable() {
            self.join_inputs().await?;
        }
        Ok(None)
    }

    async fn read_signals(&self) -> Result<Vec<InboxItem>, OwnershipError> {
        let owner = InboxOwner::Run(self.identity.run);
        let after = self.state.signals_taken;
        let limit = PageRequest::<ItemId>::LIMIT_MAX;
        self.core
            .ports
            .store
            .inbox_items(&self.identity.scope, owner, after, limit)
            .await
            .map_err(|_| OwnershipError::Store)
    }
}
