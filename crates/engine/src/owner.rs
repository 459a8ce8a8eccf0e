//! The shell around `decide`: the one writer of a run's journal.
//!
//! It commits entries before it does what leaves the process, feeds results back, and keeps its state in memory
//! only as long as every commit is answered "done". On any other answer it drops everything and lets recovery
//! read the journal: between the failed answer and the takeover nothing is acted on.

mod ahead;
mod approving;
mod asking;
mod calling;
mod consulting;
mod metering;
mod quoting;
mod sending;
mod telling;
mod withholding;
mod writing;

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::Approval;
use dromia_contracts::budget::{Exhausted, Payer};
use dromia_contracts::content::{Part, parts_text};
use dromia_contracts::entry::{Entry, Park, Withheld};
use dromia_contracts::file::FileLabels;
use dromia_contracts::gate::{Action, Principal, Verdict};
use dromia_contracts::model::Prepared;
use dromia_contracts::plan::{DECLARE, Standing};
use dromia_contracts::runs::Outcome;
use dromia_contracts::sandbox::Network;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::{InboxPut, NewEntry, Page, Refusal};
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{Actor, ApprovalId, CallId, Digest, ItemId, RunId, Scope, SessionId};

use crate::agents::{Snapshot, runs_programs};
use crate::client;
use crate::config::EngineConfig;
use crate::core::Core;
use crate::decide::{Input, Judgement, Next, decide};
use crate::defaults::defaults;
use crate::endorse::endorsed;
use crate::live::Active;
use crate::outcome::answer;
use crate::plan;
use crate::scheduler::{Ready, Slot};
use crate::state::{Rest, RunState, apply};
use crate::story::Story;
use crate::unwound::Abandon;

use self::approving::Asking;
use self::consulting::Advised;
use self::withholding::{LEAK_SCAN, answer_holds, unseen_answer};

/// A run in the hands of its one writer.
pub(crate) struct Owner {
    pub(crate) core: Arc<Core>,
    pub(crate) scope: Scope,
    pub(crate) author: Actor,
    pub(crate) agent: Arc<Snapshot>,
    pub(crate) session: SessionId,
    /// The platform of the session.
    pub(crate) platform: String,
    /// Where the answer is delivered, if nobody waits for it there.
    pub(crate) target: Option<String>,
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
    /// What a person is asked with the pending entries.
    pub(crate) asks: Vec<Approval>,
    /// How many bytes were looked at for secrets to quote them in what is pending.
    pub(crate) looked: usize,
    /// What the calls whose results are pending say of the files that they changed.
    pub(crate) files: FileLabels,
    /// The attempt, or the second opinion, whose entry is pending or open: what it sends is what the entry says.
    pub(crate) prepared: Option<Prepared>,
    /// Whether what the pending attempt costs is known.
    pub(crate) priced: bool,
    /// How things stood before the call whose start is pending, in case a budget has no room for it.
    pub(crate) before: Option<Before>,
    /// How things stood before the first call that is asked for before its turn with what is pending.
    pub(crate) ahead: Option<Before>,
    /// A commit freed the session and told that input waits there.
    pub(crate) waiting: bool,
}

/// What the journal keeps of a judged call beside the verdict. Deciding needs none of it.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    /// Whether it lay within the plan of its turn, where that was frozen.
    in_plan: Option<bool>,
    /// What the program would be given that it starts.
    network: Option<Network>,
}

impl Beside {
    /// Says so in the entries that the call led to.
    fn note(self, entries: &mut [NewEntry], id: CallId) {
        for new in entries {
            let (in_plan, network) = match &mut new.entry {
                Entry::ToolStarted(started) if started.call == id => {
                    (&mut started.in_plan, &mut started.network)
                }
                Entry::ToolRefused(refused) if refused.call == id => {
                    (&mut refused.in_plan, &mut refused.network)
                }
                _ => continue,
            };
            (*in_plan, *network) = (self.in_plan, self.network);
        }
    }
}

/// How things stood before a call was to begin.
pub(crate) struct Before {
    state: RunState,
    pending: usize,
    asks: usize,
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
        let abandon = Abandon::armed(&self.core, self.scope.tenant(), self.run, &self.items);
        let result = self.turn(next).await;
        self.slot.charge(self.state.model_calls);
        abandon.disarm();
        self.core.hub.deactivate(self.run);
        self.core.ports.tools.let_go(self.run);
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
                    self.core.rests(self.state.head().wake_at);
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
                Next::Judge(call) => {
                    let judged = self.judge(call).await?;
                    // The store refuses the start of what somebody refuses meanwhile. What ended before is durable by then.
                    if matches!(judged.0, Judgement::Allowed { .. })
                        && self.state.asked_ahead(call).is_some()
                        && let Some(ended) = self.commit().await?
                    {
                        next = ended;
                        continue;
                    }
                    next = self.decide_judged(call, judged);
                    continue;
                }
                Next::JudgeAhead(call) => {
                    self.note_ahead();
                    // Boxed, because it is rare and the run's future need not be larger for it.
                    let asks = Box::pin(self.judge_ahead(call)).await?;
                    Input::JudgedAhead(call, asks.map(Box::new))
                }
                Next::JudgeReply => self.judge_reply().await,
                Next::CallModel => {
                    if let Some(ended) = self.commit().await? {
                        next = ended;
                        continue;
                    }
                    next = self.call_model().await?;
                    continue;
                }
                Next::Consult(call) => {
                    // Boxed, because it is rare and the run's future need not be larger for it.
                    next = Box::pin(self.consult(call)).await?;
                    continue;
                }
                Next::RunTool(call) => {
                    next = self.run_tool(call).await?;
                    continue;
                }
                Next::Rest => match self.rest().await? {
                    Ok(waiting) => return Ok(waiting),
                    Err(instead) => {
                        next = instead;
                        continue;
                    }
                },
            };
            next = self.decide(input);
        }
    }

    pub(crate) fn decide(&mut self, input: Input) -> Next {
        self.decide_noting(input, |_| {})
    }

    /// Decides about a judged call, and writes down what it was judged with.
    fn decide_judged(&mut self, id: CallId, (judgement, beside): (Judgement, Beside)) -> Next {
        if let Judgement::Consults(consults) = &judgement {
            self.priced = consults.prepared.priced;
            self.prepared = Some(consults.prepared.clone());
        }
        self.decide_noting(Input::Judged(id, judgement), |entries| beside.note(entries, id))
    }

    fn decide_noting(&mut self, input: Input, note: impl FnOnce(&mut [NewEntry])) -> Next {
        if matches!(
            input,
            Input::Planned(_)
                | Input::Judged(_, Judgement::Allowed { .. } | Judgement::Asks(_) | Judgement::Consults(_))
        ) {
            let (pending, asks) = (self.pending.len(), self.asks.len());
            self.before = Some(Before { state: self.state.clone(), pending, asks });
        }
        let mut decision = decide(&self.state, self.core.ports.runtime.clock.now(), input);
        note(&mut decision.entries);
        for new in &decision.entries {
            apply(&mut self.state, &new.entry);
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

    /// Takes back the call that was to begin, and ends the run at the budget that has no room for it. The entries before
    /// it are pending still.
    pub(crate) fn unfund(&mut self, exhausted: Exhausted) -> Next {
        if let Some(before) = self.before.take() {
            self.pending.truncate(before.pending);
            self.asks.truncate(before.asks);
            self.state = before.state;
        }
        self.prepared = None;
        self.core.counts.count_budget_stop();
        // The run ends, perhaps in the commit of its claim, which does not tell whether input waits: look.
        self.waiting = true;
        self.decide(Input::Unfunded(exhausted))
    }

    /// Who pays for what is pending.
    pub(crate) fn payer(&self) -> Payer {
        Payer { actor: self.author.clone(), priced: self.priced }
    }

    /// Looks, where a unit may end, at signals and at the agent's state.
    async fn border(&mut self, next: &Next) -> Result<Option<Input>, Lost> {
        if *next != Next::Plan && !matches!(next, Next::Judge(_)) {
            return Ok(None);
        }
        if self.active.take_signal() {
            let items = self.signals().await?;
            let several = items.len() > 1;
            for (place, item) in items.into_iter().enumerate() {
                // An answer counts from where its call may begin, and nothing that came before it is passed over.
                let is_answer = place == 0 && matches!(item.kind, ItemKind::Approve | ItemKind::Deny);
                if item.kind == ItemKind::Terminate || is_answer || *next == Next::Plan {
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
        // A call that waited to be allowed begins as late as a step does.
        let has_waited = matches!(next, Next::Judge(call) if self.state.approved(*call).is_some());
        if *next == Next::Plan || has_waited {
            match self.core.snapshot(&self.scope, self.agent.id).await {
                Ok(agent) if agent.state == AgentState::Paused => return Ok(Some(Input::AgentPaused)),
                Ok(_) => {}
                Err(_) => return Err(Lost::Store),
            }
        }
        if *next == Next::Plan {
            let EngineConfig { loop_same, loop_window, .. } = self.core.config;
            if let Some(times) = self.state.circle(loop_same, loop_window) {
                self.core.counts.count_loop();
                return Ok(Some(Input::Circled { times }));
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

    /// Judges a call; says with it what else of it the journal keeps, as far as the gate was asked.
    async fn judge(&mut self, id: CallId) -> Result<(Judgement, Beside), Lost> {
        if let Some((call, reason)) = self.story.masked(id) {
            self.core.count_denied(&call.tool);
            let (rule, reason) = (LEAK_SCAN.to_owned(), reason.to_owned());
            return Ok((Judgement::Denied { rule, reason, policy: None }, Beside::default()));
        }
        let Some(call) = self.story.call(id) else {
            let reason = "the call's arguments were erased".to_owned();
            let rule = "erased".to_owned();
            return Ok((Judgement::Denied { rule, reason, policy: None }, Beside::default()));
        };
        if self.story.client.has(&call.tool, self.agent.tools.all()) {
            return Ok((client::judge(call), Beside::default()));
        }
        let call = match self.core.ports.tools.prepare(call) {
            Ok(call) => call,
            Err(error) => {
                self.core.count_malformed(&error);
                return Ok((Judgement::Malformed(error), Beside::default()));
            }
        };
        if call.tool == DECLARE && self.story.is_closed() {
            self.core.count_denied(&call.tool);
            let (rule, reason) = (plan::FROZEN.to_owned(), plan::FROZEN_TEXT.to_owned());
            return Ok((Judgement::Denied { rule, reason, policy: None }, Beside::default()));
        }
        let call = self.with_network(call).await?;
        let mut standing = match self.state.approved_call() {
            // Boxed, because it is rare and the run's future need not be larger for it.
            Some(approved) => Box::pin(self.asked_standing(approved.approval, call.action)).await?,
            None => self.standing(&call),
        };
        let in_plan = standing.frozen.then_some(standing.in_plan);
        let beside = Beside { in_plan, network: call.network };
        let verdict = self.gate(Action::Tool(&call), &standing);
        // Boxed, because it is rare and the run's future need not be larger for it.
        let verdict = match Box::pin(self.advised(&call, verdict, &mut standing)).await? {
            Advised::Verdict(verdict) => verdict,
            Advised::First(judgement) => return Ok((judgement, Beside::default())),
        };
        let judgement = match verdict {
            Verdict::Allow { rule, policy } => Judgement::Allowed { call, rule, policy },
            Verdict::Ask { rule, reason, policy } => {
                // Boxed, because it is rare and the run's future need not be larger for it.
                let asking = Asking { rule, reason, policy, cooling: None, standing };
                Box::pin(self.judge_asked(call, asking)).await?
            }
            Verdict::Delay { rule, reason, policy } => {
                let cooling = Some(self.core.config.approvals.cooling);
                let asking = Asking { rule, reason, policy, cooling, standing };
                Box::pin(self.judge_asked(call, asking)).await?
            }
            Verdict::Deny { rule, reason, policy } => {
                self.core.count_denied(&call.tool);
                Judgement::Denied { rule, reason, policy }
            }
        };
        Ok((judgement, beside))
    }

    /// Notes with a call what the program would be given that it starts, as the operator and the agent's grants say now.
    async fn with_network(&self, call: PreparedCall) -> Result<PreparedCall, Lost> {
        let ports = &self.core.ports;
        if !runs_programs(&*ports.tools, &call.tool) {
            return Ok(call);
        }
        let terms = ports.terms.of(&call.tool, Some((&self.scope, self.agent.id))).await;
        let terms = terms.map_err(|_| Lost::Store)?;
        Ok(PreparedCall { network: Some(terms.network_for(&self.agent.grants)), ..call })
    }

    /// What of a call was typed and planned. What the tool would have taken anyway counts as what was typed: nobody else
    /// chose it.
    fn standing(&self, call: &PreparedCall) -> Standing {
        let tools = &*self.core.ports.tools;
        let mut endorsed = endorsed(&self.story.transcript, &call.arguments);
        let defaults = defaults(tools, call).into_iter();
        let defaults: Vec<_> = defaults.filter(|name| !endorsed.contains(name)).collect();
        endorsed.extend(defaults);
        Standing { endorsed, ..plan::standing(&self.story, tools, call) }
    }

    /// A call that runs by itself was asked for in another run, and stands as it stood there. What a second model said there
    /// was said of that action: where the same words come to another one by now, nobody said it.
    async fn asked_standing(&self, approval: ApprovalId, action: Digest) -> Result<Standing, Lost> {
        let asked = self.core.ports.store.approval(&self.scope, approval).await.map_err(|_| Lost::Store)?;
        let Some(Approval { standing, action: asked, .. }) = asked else { return Ok(Standing::default()) };
        let opinion = standing.opinion.filter(|_| asked == action);
        Ok(Standing { opinion, ..standing })
    }

    async fn judge_reply(&self) -> Input {
        // What was withheld when it was said is refused for the same reason, whoever could let it out by now.
        let verdict = match self.story.withheld.clone() {
            Some(Withheld { rule, reason }) => Verdict::Deny { rule, reason, policy: None },
            None => match self.leak_in_reply().await {
                None => self.gate(Action::Reply { session: self.session }, &Standing::default()),
                Some(reason) => Verdict::Deny { rule: LEAK_SCAN.to_owned(), reason, policy: None },
            },
        };
        Input::ReplyJudged(verdict)
    }

    /// Says why the answer may not leave, if it holds a secret or nobody can look.
    async fn leak_in_reply(&self) -> Option<String> {
        let text = parts_text(&self.story.reply);
        match self.core.ports.leaks.find(&self.scope, text.as_bytes()).await {
            Ok(leaks) => leaks.first().map(|leak| answer_holds(&leak.secret)),
            Err(fault) => Some(unseen_answer(&fault)),
        }
    }

    /// The one path to the gate.
    fn gate(&self, action: Action<'_>, standing: &Standing) -> Verdict {
        let principal = Principal {
            scope: &self.scope,
            author: &self.author,
            grants: &self.agent.grants,
            context: self.story.label,
            endorsed: &standing.endorsed,
            plan: standing.planning(),
        };
        self.core.ports.gate.judge(principal, action)
    }

    /// Makes the last entries durable and tells whoever waits. Where there is no room for what a person was to be asked,
    /// what to do instead is given back.
    async fn rest(&mut self) -> Result<Result<bool, Next>, Lost> {
        if let Err(refusal) = self.append().await? {
            if matches!(refusal, Refusal::ApprovalsFull { .. })
                && let Some(instead) = self.unask()
            {
                return Ok(Err(instead));
            }
            tracing::warn!(run = %self.run, %refusal, "the last append was refused");
            return Err(Lost::Fenced);
        }
        if self.state.is_ended() {
            let outcome = Outcome {
                run: self.run,
                last_seq: self.durable,
                head: self.state.head(),
                reply: answer(self.state.status(), &self.story).map(<[Part]>::to_vec),
                failure: self.state.fault(),
            };
            self.core.hub.resolve(&self.items, &Ok(outcome));
            self.core.hub.unwatch(self.run);
        }
        // The commit that ended the run may have been an earlier one: a transactional call commits its own end.
        Ok(Ok(self.waiting))
    }
}
