//! The shell around `decide`: the one writer of a run's journal.
//!
//! It commits entries before it does what leaves the process, feeds results back, and keeps its state in memory
//! only as long as every commit is answered "done". On any other answer it drops everything and lets recovery
//! read the journal: between the failed answer and the takeover nothing is acted on.

mod answer_delivery;
mod approval;
mod batch_approval;
mod journal;
mod live_text;
mod model_call;
mod quote_redaction;
mod reply_redaction;
mod second_opinion;
mod tool_call;

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalRequest;
use dromia_contracts::budget::{BudgetExhaustion, BudgetPayer};
use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::entry::{Entry, JudgedBy, ParkReason, WithheldReply};
use dromia_contracts::file::FileLabels;
use dromia_contracts::gate::{GateAction, GateVerdict, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::model::PreparedAttempt;
use dromia_contracts::plan::{CallProvenance, DECLARE, PlanContext};
use dromia_contracts::runs::RunOutcome;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::{CommitRefusal, InboxPut, NewEntry, PageRequest};
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{Actor, ApprovalId, BoxFuture, CallId, Digest, ItemId, RunId, Scope, SessionId};
use futures_util::FutureExt as _;

use crate::agents::{AgentSnapshot, runs_programs};
use crate::client;
use crate::config::EngineConfig;
use crate::core::EngineCore;
use crate::decide::{CallJudgement, DecisionInput, NextAction, decide};
use crate::default_arguments::default_arguments;
use crate::endorse::endorsed_arguments;
use crate::notifications::ActiveRun;
use crate::outcome::answer_parts;
use crate::panics::AbandonGuard;
use crate::plan;
use crate::scheduler::{ReadyWork, TaskSlot};
use crate::state::{RestReason, RunState, apply_entry, repetition};
use crate::transcript::ConversationTranscript;

use self::approval::ApprovalGrounds;
use self::reply_redaction::{LEAK_SCAN, answer_holds, unseen_answer};
use self::second_opinion::AdvisedVerdict;

/// A run in the hands of its one writer.
pub(crate) struct RunOwner {
    pub(crate) core: Arc<EngineCore>,
    pub(crate) scope: Scope,
    pub(crate) author: Actor,
    pub(crate) agent: Arc<AgentSnapshot>,
    pub(crate) session: SessionId,
    /// The platform of the session.
    pub(crate) platform: String,
    /// The channel to which the answer is delivered, if no caller waits for it.
    pub(crate) target: Option<String>,
    pub(crate) run: RunId,
    pub(crate) epoch: u64,
    pub(crate) items: Vec<ItemId>,
    pub(crate) state: RunState,
    pub(crate) story: ConversationTranscript,
    pub(crate) active: Arc<ActiveRun>,
    pub(crate) slot: TaskSlot,
    /// The number of the last durable entry; the entries after it are in `pending`.
    pub(crate) durable: u64,
    pub(crate) pending: Vec<NewEntry>,
    pub(crate) sends: Vec<InboxPut>,
    /// What a person is asked with the pending entries.
    pub(crate) asks: Vec<ApprovalRequest>,
    /// How many bytes were scanned for secrets to quote them in the pending requests.
    pub(crate) looked: usize,
    /// The labels of the files that the calls with pending results changed.
    pub(crate) files: FileLabels,
    /// The attempt, or the second opinion, whose entry is pending or open: it sends exactly what the entry records.
    pub(crate) prepared: Option<PreparedAttempt>,
    /// The gate's verdict about the request that is prepared for the attempt.
    pub(crate) request_verdict: Option<GateVerdict>,
    /// Whether what the pending attempt costs is known.
    pub(crate) priced: bool,
    /// The rollback point before the call whose start is pending, in case a budget is exhausted.
    pub(crate) before: Option<RollbackPoint>,
    /// The rollback point before the first approval that is requested before its call's turn.
    pub(crate) ahead: Option<RollbackPoint>,
    /// A commit freed the session and reported waiting input.
    pub(crate) waiting: bool,
}

/// What the journal keeps of a judged call beside the verdict. Deciding needs none of it.
#[derive(Debug, Clone, Default)]
struct JudgementDetails {
    /// Whether it lay within the plan of its turn, where that was frozen.
    in_plan: Option<bool>,
    /// What the program would be given that it starts.
    network: Option<NetworkAccess>,
    /// The label of the context that led to it.
    context: Option<Label>,
    /// The arguments that the gate took for endorsed.
    endorsed: Vec<String>,
    /// By which rule a second model may be asked about it, if one must be first.
    asking: Option<JudgedBy>,
}

impl JudgementDetails {
    /// Writes the details into the entries that the call led to.
    fn annotate_entries(&self, entries: &mut [NewEntry], id: CallId) {
        for new in entries {
            let (in_plan, network) = match &mut new.entry {
                Entry::ToolStarted(started) if started.call == id => {
                    started.context = self.context;
                    started.endorsed.clone_from(&self.endorsed);
                    (&mut started.in_plan, &mut started.network)
                }
                Entry::ToolRefused(refused) if refused.call == id => {
                    (&mut refused.in_plan, &mut refused.network)
                }
                Entry::OpinionCalled(called) if called.call == id => {
                    called.judged.clone_from(&self.asking);
                    continue;
                }
                _ => continue,
            };
            (*in_plan, *network) = (self.in_plan, self.network);
        }
    }
}

/// The state before a call was to begin.
pub(crate) struct RollbackPoint {
    state: RunState,
    pending: usize,
    asks: usize,
}

/// The owner lost the run, or cannot find out: drop everything.
#[derive(Debug)]
pub(crate) enum OwnershipError {
    /// Another owner holds it, or it is gone.
    Fenced,
    /// The store could not say; recovery reads again once it answers.
    Store,
}

impl RunOwner {
    /// Drives the run until it rests, then releases it.
    pub(crate) async fn drive_to_rest(mut self, next: NextAction) {
        let abandon = AbandonGuard::arm_guard(&self.core, self.scope.tenant(), self.run, &self.items);
        self.begin_step().await;
        let result = self.run_loop(next).await;
        self.slot.charge_model_calls(self.state.model_calls);
        abandon.disarm();
        self.core.hub.deactivate(self.run);
        self.core.ports.tools.let_go(self.run);
        let session = ReadyWork::Session(self.session);
        match result {
            Ok(waiting) => {
                // A signal that came after the last read is in the inbox of a resting run: queue the run again.
                if self.active.take_signal() && !self.state.is_ended() {
                    self.core.scheduler.push_ready(self.scope.tenant(), ReadyWork::Run(self.run));
                }
                if waiting {
                    self.core.scheduler.push_ready(self.scope.tenant(), session);
                }
                if self.state.rest.is_some() {
                    self.core.note_rest(self.state.run_head().wake_at);
                }
                self.look_at_agent_again().await;
            }
            Err(lost) => {
                tracing::info!(run = %self.run, ?lost, "the run is dropped from memory");
                // The next owner answers the waiting callers, or the janitor if the run has ended.
                self.core.hub.note_lost_run(self.scope.tenant(), self.run, &self.items);
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

    /// Waits for what may be answered at once or after seconds, such as a policy in a worker: in the step in the first case, and
    /// outside of it in the second.
    async fn wait_outside_step<T>(&self, mut wait: BoxFuture<'_, T>) -> T {
        if let Some(at_once) = (&mut wait).now_or_never() {
            return at_once;
        }
        let was_in_step = self.slot.end_step();
        let answer = wait.await;
        if was_in_step {
            self.begin_step().await;
        }
        answer
    }

    /// Closes the gap between the look that found the agent paused and the commit that parked the run: an agent
    /// that was resumed in between woke only those that it found parked.
    async fn look_at_agent_again(&self) {
        if self.state.is_ended()
            || !matches!(self.state.rest, Some(RestReason::Parked(ParkReason::AgentPaused)))
        {
            return;
        }
        match self.core.agents.agent_snapshot(&self.scope, self.agent.id).await {
            Ok(agent) if agent.state == AgentState::Paused => {}
            Ok(_) => self.core.scheduler.push_ready(self.scope.tenant(), ReadyWork::Run(self.run)),
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
                    let judged = self.judge_call(call).await?;
                    // The store refuses the start of a call that a person denies meanwhile. The results before it are
                    // durable by then.
                    if matches!(judged.0, CallJudgement::Allowed { .. })
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
                    self.note_ahead();
                    // Boxed, because it is rare and the run's future need not be larger for it.
                    let asks = Box::pin(self.judge_ahead(call)).await?;
                    DecisionInput::JudgedAhead(call, asks.map(Box::new))
                }
                NextAction::JudgeReply => self.judge_reply().await,
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
    fn decide_judged(
        &mut self,
        id: CallId,
        (judgement, beside): (CallJudgement, JudgementDetails),
    ) -> NextAction {
        if let CallJudgement::OpinionRequest(consults) = &judgement {
            self.priced = consults.prepared.priced;
            self.prepared = Some(consults.prepared.clone());
        }
        self.decide_noting(DecisionInput::Judged(id, judgement), |entries| {
            beside.annotate_entries(entries, id);
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
            let (pending, asks) = (self.pending.len(), self.asks.len());
            self.before = Some(RollbackPoint { state: self.state.clone(), pending, asks });
        }
        let mut decision = decide(&self.state, self.core.ports.runtime.clock.now(), input);
        note(&mut decision.entries);
        for new in &decision.entries {
            apply_entry(&mut self.state, &new.entry);
            // The body was made by the decision itself, so it is readable.
            if let Err(error) = self.story.add_entry(&new.entry, new.body.as_deref()) {
                tracing::error!(run = %self.run, %error, "a body just written is unreadable");
            }
        }
        self.pending.extend(decision.entries);
        self.sends.extend(decision.sends);
        self.asks.extend(decision.asks);
        decision.next
    }

    /// Withdraws the call that was to begin, and ends the run because a budget is exhausted. The entries before the
    /// call are still pending.
    pub(crate) fn exhaust_budget(&mut self, exhausted: BudgetExhaustion) -> NextAction {
        if let Some(before) = self.before.take() {
            self.pending.truncate(before.pending);
            self.asks.truncate(before.asks);
            self.state = before.state;
        }
        (self.prepared, self.request_verdict) = (None, None);
        self.core.counts.count_budget_stop();
        // The run ends, perhaps in the commit of its claim, which does not report waiting input: check for it.
        self.waiting = true;
        self.decide_next(DecisionInput::Unfunded(exhausted))
    }

    /// The payer of the pending entries.
    pub(crate) fn pending_payer(&self) -> BudgetPayer {
        BudgetPayer { actor: self.author.clone(), priced: self.priced }
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
                        self.core.hub.signal_run(self.run);
                    }
                    return Ok(Some(DecisionInput::Signal(item)));
                }
                // A cancel waits for the border of its unit; remember that it is there.
                self.core.hub.signal_run(self.run);
            }
        }
        // A call that waited to be allowed begins as late as a step does.
        let has_waited =
            matches!(next, NextAction::Judge(call) if self.state.granted_approval(*call).is_some());
        if *next == NextAction::PlannedRequest || has_waited {
            match self.core.agents.agent_snapshot(&self.scope, self.agent.id).await {
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
            self.core.counts.count_loop();
            return Ok(Some(DecisionInput::Circled { told }));
        }
        Ok(None)
    }

    async fn read_signals(&self) -> Result<Vec<InboxItem>, OwnershipError> {
        let owner = InboxOwner::Run(self.run);
        let after = self.state.signals_taken;
        let limit = PageRequest::<ItemId>::LIMIT_MAX;
        self.core
            .ports
            .store
            .inbox_items(&self.scope, owner, after, limit)
            .await
            .map_err(|_| OwnershipError::Store)
    }

    /// Judges a call; also returns the details for the journal, as far as the gate was asked.
    async fn judge_call(&mut self, id: CallId) -> Result<(CallJudgement, JudgementDetails), OwnershipError> {
        if let Some((call, reason)) = self.story.masked_call(id) {
            self.core.calls.count_denied(&call.tool);
            let (rule, reason) = (LEAK_SCAN.to_owned(), reason.to_owned());
            return Ok((CallJudgement::Denied { rule, reason, policy: None }, JudgementDetails::default()));
        }
        let Some(call) = self.story.open_call(id) else {
            let reason = "the call's arguments were erased".to_owned();
            let rule = "erased".to_owned();
            return Ok((CallJudgement::Denied { rule, reason, policy: None }, JudgementDetails::default()));
        };
        if self.story.client.has_tool(&call.tool, self.agent.tools.all_descriptors()) {
            return Ok((client::judge_client_call(call), JudgementDetails::default()));
        }
        let call = match self.core.ports.tools.prepare_call(call) {
            Ok(call) => call,
            Err(error) => {
                self.core.calls.count_malformed(&error);
                return Ok((CallJudgement::Malformed(error), JudgementDetails::default()));
            }
        };
        if call.tool == DECLARE && self.story.is_closed() {
            self.core.calls.count_denied(&call.tool);
            let (rule, reason) = (plan::FROZEN.to_owned(), plan::FROZEN_TEXT.to_owned());
            return Ok((CallJudgement::Denied { rule, reason, policy: None }, JudgementDetails::default()));
        }
        if let Some(times) = self.repeat_count(&call) {
            self.core.calls.count_denied(&call.tool);
            let (rule, reason) = (repetition::RULE.to_owned(), repetition::repetition_refusal(times));
            return Ok((CallJudgement::Denied { rule, reason, policy: None }, JudgementDetails::default()));
        }
        let call = self.with_network(call).await?;
        let mut standing = match self.state.approved_call() {
            // Boxed, because it is rare and the run's future need not be larger for it.
            Some(approved) => Box::pin(self.asked_standing(approved.approval, call.action)).await?,
            None => self.call_provenance(&call),
        };
        let in_plan = standing.frozen.then_some(standing.in_plan);
        let (context, endorsed) = (Some(self.story.label), standing.endorsed.clone());
        let beside = JudgementDetails { in_plan, network: call.network, context, endorsed, asking: None };
        let verdict = self.ask_gate(GateAction::Tool(&call), &standing).await;
        // Boxed, because it is rare and the run's future need not be larger for it.
        let verdict = match Box::pin(self.apply_opinion(&call, verdict, &mut standing)).await? {
            AdvisedVerdict::Verdict(verdict) => verdict,
            AdvisedVerdict::First(judgement, asking) => {
                return Ok((*judgement, JudgementDetails { asking, ..JudgementDetails::default() }));
            }
        };
        let judgement = match verdict {
            GateVerdict::Allow { rule, policy } => CallJudgement::Allowed { call, rule, policy },
            GateVerdict::Ask { rule, reason, policy } => {
                // Boxed, because it is rare and the run's future need not be larger for it.
                let asking = ApprovalGrounds { rule, reason, policy, cooling: None, standing };
                Box::pin(self.judge_asked(call, asking)).await?
            }
            GateVerdict::Delay { rule, reason, policy } => {
                let cooling = Some(self.core.config.approvals.cooling);
                let asking = ApprovalGrounds { rule, reason, policy, cooling, standing };
                Box::pin(self.judge_asked(call, asking)).await?
            }
            GateVerdict::Deny { rule, reason, policy } => {
                self.core.calls.count_denied(&call.tool);
                CallJudgement::Denied { rule, reason, policy }
            }
        };
        Ok((judgement, beside))
    }

    /// Tells whether a call was made too often, and how often. What a person allowed is no repetition.
    fn repeat_count(&self, call: &PreparedCall) -> Option<usize> {
        let EngineConfig { loop_same, loop_window, .. } = self.core.config;
        let is_approved = self.state.granted_approval(call.id).is_some();
        self.state.repeat_count(call.action, loop_same, loop_window).filter(|_| !is_approved)
    }

    /// Sets on a call the network access of the program that it starts, by the current terms and grants.
    async fn with_network(&self, call: PreparedCall) -> Result<PreparedCall, OwnershipError> {
        let ports = &self.core.ports;
        if !runs_programs(&*ports.tools, &call.tool) {
            return Ok(call);
        }
        let terms = ports.terms.effective_terms(&call.tool, Some((&self.scope, self.agent.id))).await;
        let terms = terms.map_err(|_| OwnershipError::Store)?;
        Ok(PreparedCall { network: Some(terms.network_for(&self.agent.grants)), ..call })
    }

    /// Which arguments of a call were typed or planned. A tool's default counts as typed: no attacker chose it.
    fn call_provenance(&self, call: &PreparedCall) -> CallProvenance {
        let tools = &*self.core.ports.tools;
        let mut endorsed = endorsed_arguments(&self.story.transcript, &call.arguments);
        let defaults = default_arguments(tools, call).into_iter();
        let defaults: Vec<_> = defaults.filter(|name| !endorsed.contains(name)).collect();
        endorsed.extend(defaults);
        let mut standing = plan::plan_provenance(&self.story, tools, call);
        standing.endorsed.retain(|name| !endorsed.contains(name));
        standing.endorsed.extend(endorsed);
        standing
    }

    /// An approved call that runs in its own run was requested in another run, and keeps its provenance from there. A
    /// second opinion from there was about that action: it does not apply if the same arguments now make another
    /// action.
    async fn asked_standing(
        &self,
        approval: ApprovalId,
        action: Digest,
    ) -> Result<CallProvenance, OwnershipError> {
        let asked =
            self.core.ports.store.approval(&self.scope, approval).await.map_err(|_| OwnershipError::Store)?;
        let Some(ApprovalRequest { standing, action: asked, .. }) = asked else {
            return Ok(CallProvenance::default());
        };
        let opinion = standing.opinion.filter(|_| asked == action);
        Ok(CallProvenance { opinion, ..standing })
    }

    async fn judge_reply(&self) -> DecisionInput {
        // A reply that was withheld when it came is refused for the same reason, even if a policy would allow it by
        // now.
        let verdict = match self.story.withheld.clone() {
            Some(WithheldReply { rule, reason }) => GateVerdict::Deny { rule, reason, policy: None },
            None => match self.leak_in_reply().await {
                None => {
                    self.ask_gate(GateAction::Reply { session: self.session }, &CallProvenance::default())
                        .await
                }
                Some(reason) => GateVerdict::Deny { rule: LEAK_SCAN.to_owned(), reason, policy: None },
            },
        };
        DecisionInput::ReplyJudged(verdict)
    }

    /// Returns why the answer may not leave, if it holds a secret or cannot be scanned.
    async fn leak_in_reply(&self) -> Option<String> {
        let text = parts_text(&self.story.reply);
        match self.core.ports.leaks.scan_text(&self.scope, text.as_bytes()).await {
            Ok(leaks) => leaks.first().map(|leak| answer_holds(&leak.secret)),
            Err(fault) => Some(unseen_answer(&fault)),
        }
    }

    /// The one path to the gate.
    async fn ask_gate(&self, action: GateAction<'_>, standing: &CallProvenance) -> GateVerdict {
        let heard;
        let plan = match action {
            GateAction::Tool(_) => standing.plan_context(),
            GateAction::Model { .. } | GateAction::Reply { .. } => {
                heard = plan::sensitive_sources(&self.story, &*self.core.ports.tools);
                PlanContext { sources: &heard, ..standing.plan_context() }
            }
        };
        let principal = Principal {
            scope: &self.scope,
            author: &self.author,
            grants: &self.agent.grants,
            context: self.story.label,
            endorsed: &standing.endorsed,
            plan,
        };
        self.wait_outside_step(self.core.ports.gate.evaluate_action(principal, action)).await
    }

    /// Makes the last entries durable and answers the waiting callers. If the store refuses the approval requests
    /// because too many are open, returns what to do instead.
    async fn commit_and_rest(&mut self) -> Result<Result<bool, NextAction>, OwnershipError> {
        if let Err(refusal) = self.append_pending().await? {
            if matches!(refusal, CommitRefusal::ApprovalsFull { .. })
                && let Some(instead) = self.withdraw_requests()
            {
                return Ok(Err(instead));
            }
            tracing::warn!(run = %self.run, %refusal, "the last append was refused");
            return Err(OwnershipError::Fenced);
        }
        if self.state.is_ended() {
            let outcome = RunOutcome {
                run: self.run,
                last_seq: self.durable,
                head: self.state.run_head(),
                reply: answer_parts(self.state.status(), &self.story).map(<[ContentPart]>::to_vec),
                failure: self.state.failure_fault(),
            };
            self.core.hub.resolve_waiters(&self.items, &Ok(outcome));
            self.core.hub.end_watch(self.run);
        }
        // The commit that ended the run may have been an earlier one: a transactional call commits its own end.
        Ok(Ok(self.waiting))
    }
}
