//! What a run does next: a pure function of its state and one input.
//!
//! [`decide`] performs nothing. It returns which entries to append, what else must become durable with them, and the
//! [`NextAction`]. Ids, time and the results of effects come in with the input. The shell makes the entries durable
//! before it does what leaves the process.

mod approval;
mod attempt;
mod batch_approval;
mod call;
mod opinion;
mod signals;

pub(crate) use self::approval::{FULL, UNHELD};

use bytes::Bytes;
use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::approval::ApprovalRequest;
use dromia_contracts::budget::BudgetExhaustion;
use dromia_contracts::digest::Digest;
use dromia_contracts::encoded_request::SentEncoding;
use dromia_contracts::entry::{Entry, InputsTaken, RunCompleted, RunFailed, RunStarted, RunYielded};
use dromia_contracts::gate::GateVerdict;
use dromia_contracts::input::ManualCall;
use dromia_contracts::label::Label;
use dromia_contracts::model::{ModelError, ModelReply, PreparedAttempt, TokenUsage};
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{InboxPut, NewEntry, SessionOpen};
use dromia_contracts::tool::{PrepareError, PreparedCall, ToolOutput};
use dromia_contracts::{Actor, CallId, ErrorCode, ItemId};
use jiff::Timestamp;
use serde::Serialize;

use crate::config::SecondOpinion;
use crate::state::{CallStage, RunPhase, RunState, apply_entry};

/// Claims without a new entry, and crashes within one model step, after which a run is held.
pub const CLAIMS_MAX: u64 = 5;
/// Attempts at one model step, cut-off ones included.
pub const ATTEMPTS_MAX: u32 = 6;
/// Calls in one assistant message.
pub const CALLS_MAX: usize = 32;
/// Bytes of one stored body: what a batch can carry beside everything else.
pub const BODY_BYTES_MAX: usize = 768 * 1024;

/// What happened outside, or what the run was asked.
#[derive(Debug, Clone)]
pub enum DecisionInput {
    /// A session was claimed for this run.
    Begin(RunStarted),
    /// The next request is put together.
    Planned(PlannedRequest),
    /// There is no request that could be sent.
    Unplanned(ModelError),
    /// A budget is exhausted before the call that was to begin.
    Unfunded(BudgetExhaustion),
    /// The model got notices in several steps that it repeats a call, and repeats it.
    Circled {
        /// In how many steps.
        told: u32,
    },
    /// An actor requested one call, without a model.
    Asked(ManualCall),
    /// The model answered; the label is the join of everything it was sent. If the answer is the last and does not
    /// satisfy the schema that it was asked for, it is said what is wrong with it.
    Replied(ModelReply, Label, Option<String>),
    /// The model attempt gave no answer.
    Failed(ModelError),
    /// The model attempt failed after a part of its answer came.
    BrokenAnswer(ModelError),
    /// The next call was prepared and judged.
    Judged(CallId, CallJudgement),
    /// A call behind the next one was judged before its turn: it needs an approval, or its judgement waits for its
    /// turn.
    JudgedAhead(CallId, Option<Box<RequiredApproval>>),
    /// A second model was asked about a call.
    OpinionResult(CallId, OpinionResult),
    /// The reply was judged.
    ReplyJudged(GateVerdict),
    /// A call ended.
    Finished(CallId, ToolOutput),
    /// A defect of its tool cut a call off; whether it had its effect is unknown.
    CutOff(CallId),
    /// The right to a running call was withdrawn, by this rule, and the call was ended.
    Withdrawn(CallId, String),
    /// The run's inbox has a signal.
    Signal(InboxItem),
    /// These inputs of the session, which follow the last one that the run took, enter before its next model call.
    InputsJoined(Vec<ItemId>),
    /// The run's agent is paused.
    AgentPaused,
    /// The run must end without a signal in its inbox: its agent was terminated and a crash came before the signal, or
    /// the run has not begun.
    Ended {
        /// Who ended it, as far as is known.
        by: Actor,
    },
    /// The run was taken over, so many claims after its last entry.
    Recovered {
        /// Claims without a new entry, this one included.
        claims: u64,
    },
}

/// The next model request, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRequest {
    /// The alias of the model.
    pub model: String,
    /// The position of the first inbox item in the transcript.
    pub history_from: u64,
    /// Counted input tokens.
    pub input_tokens: u32,
    /// The most tokens the answer may have.
    pub output_tokens_max: u32,
    /// What to reserve.
    pub reserved_micros: u64,
    /// Whether the price of the model is not known.
    pub unpriced: bool,
    /// What will be sent.
    pub sent: SentEncoding,
}

/// What preparing and judging a call gave.
#[derive(Debug, Clone)]
pub enum CallJudgement {
    /// It may run.
    Allowed {
        /// What will run, byte for byte.
        call: PreparedCall,
        /// The rule that allowed it.
        rule: String,
        /// The policy that judged it.
        policy: Option<Digest>,
    },
    /// It may run if a person or time allows it, or has allowed this very thing.
    RequiredApproval(Box<RequiredApproval>),
    /// The gate refused it.
    Denied {
        /// The rule that refused it.
        rule: String,
        /// The reason, for the model and the person.
        reason: String,
        /// The policy that judged it.
        policy: Option<Digest>,
    },
    /// It may run if a second model agrees, which is asked first.
    OpinionRequest(Box<OpinionRequest>),
    /// A second model should be asked first, and cannot be.
    Unconsulted {
        /// The digest of the action.
        action: Digest,
        /// The opinion that replaces the missing one.
        opinion: ModelOpinion,
    },
    /// It is no call that could be judged.
    Malformed(PrepareError),
    /// The tool is the client's: nothing runs here, and the call leaves with the reply.
    ForClient,
}

/// A call about which a second model is asked, and the request, counted.
#[derive(Debug, Clone)]
pub struct OpinionRequest {
    /// What would run, byte for byte.
    pub call: PreparedCall,
    /// Whom the operator wants asked, and how often, when the call was judged.
    pub second: SecondOpinion,
    /// What is sent each time.
    pub prepared: PreparedAttempt,
    /// How that is written down.
    pub sent: SentEncoding,
}

/// What a second model answered, and what that cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpinionResult {
    /// The opinion.
    pub opinion: ModelOpinion,
    /// What its answers used, as far as it was reported.
    pub usage: TokenUsage,
    /// The tokens that count: the reported ones, and the reservation for answers without a report.
    pub tokens: u64,
    /// What they cost; answers without a report cost their reservation.
    pub cost_micros: u64,
}

/// A call that a person must allow, or that time allows.
#[derive(Debug, Clone)]
pub struct RequiredApproval {
    /// What would run, byte for byte.
    pub call: PreparedCall,
    /// The request, if it is made. Its binding is what the call is bound to now.
    pub approval: ApprovalRequest,
    /// The parts of the binding that differ from the approved ones, in words; empty if nothing was approved or the
    /// parts are unknown.
    pub changed: Vec<&'static str>,
    /// The policy that judged it.
    pub policy: Option<Digest>,
    /// Whether a person attends the session; a delayed call needs none.
    pub attended: bool,
    /// Whether the limit of consecutive steps without a person is reached, so that no call may be delayed.
    pub chained: bool,
}

/// What to append, what else to write with it, and what to do then.
#[derive(Debug, Clone)]
pub struct RunDecision {
    /// Entries for the journal.
    pub entries: Vec<NewEntry>,
    /// Inbox items that become durable with them.
    pub sends: Vec<InboxPut>,
    /// Sessions that are opened before these items are put.
    pub opens: Vec<SessionOpen>,
    /// Requests for approval that become durable with them; one at most.
    pub asks: Vec<ApprovalRequest>,
    /// What to do once they are durable, or before, if it stays inside the process.
    pub next: NextAction,
}

/// The one thing to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextAction {
    /// Put the next request together. Stays inside.
    PlannedRequest,
    /// Prepare and judge a call. Stays inside.
    Judge(CallId),
    /// Prepare and judge a call before its turn, to ask for it together with the one that the run rests for. Stays inside.
    JudgeAhead(CallId),
    /// Judge the reply. Stays inside.
    JudgeReply,
    /// Call the model. The entries must be durable.
    CallModel,
    /// Ask a second model about a call. The entries must be durable.
    Consult(PreparedCall),
    /// Run a call. The entries must be durable, unless its effect class is transactional.
    RunTool(PreparedCall),
    /// Nothing: the run rests or has ended. The entries must be durable.
    Rest,
}

/// Decides what a run does next.
pub fn decide(state: &RunState, at: Timestamp, input: DecisionInput) -> RunDecision {
    let mut draft = DecisionDraft {
        state: state.clone(),
        at,
        entries: Vec::new(),
        sends: Vec::new(),
        opens: Vec::new(),
        asks: Vec::new(),
    };
    let next = draft.decide_input(input);
    let DecisionDraft { entries, sends, opens, asks, .. } = draft;
    RunDecision { entries, sends, opens, asks, next }
}

/// The state as it will be, with the entries that lead there.
struct DecisionDraft {
    state: RunState,
    at: Timestamp,
    entries: Vec<NewEntry>,
    sends: Vec<InboxPut>,
    opens: Vec<SessionOpen>,
    asks: Vec<ApprovalRequest>,
}

impl DecisionDraft {
    fn decide_input(&mut self, input: DecisionInput) -> NextAction {
        if self.state.is_ended() {
            return NextAction::Rest;
        }
        match input {
            DecisionInput::Begin(started) => {
                self.push_entry(Entry::RunStarted(started));
                self.go_on()
            }
            DecisionInput::Planned(plan) => self.call_model(plan),
            DecisionInput::Unplanned(error) => self.fail_unsendable(error),
            DecisionInput::Unfunded(exhausted) => self.yield_at_budget(exhausted),
            DecisionInput::Circled { told } => self.yield_at_repetition(told),
            DecisionInput::Asked(asked) => self.begin_manual_call(asked),
            DecisionInput::Replied(reply, label, unfit) => self.accept_reply(reply, label, unfit),
            DecisionInput::Failed(error) => self.retry_or_fail(&error, false),
            DecisionInput::BrokenAnswer(error) => self.retry_or_fail(&error, true),
            DecisionInput::Judged(call, judgement) => self.apply_judgement(call, judgement),
            DecisionInput::JudgedAhead(call, asks) => self.judged_ahead(call, asks.map(|asks| *asks)),
            DecisionInput::OpinionResult(call, consulted) => self.record_opinion(call, consulted),
            DecisionInput::ReplyJudged(GateVerdict::Allow { rule, policy }) => {
                let allowed = RunCompleted { rule, policy };
                let (model_calls, budget, repeated) = (self.state.model_calls, None, None);
                let deadline = self.state.passed_deadline(self.at);
                self.push_entry(if self.state.concludes_after(0) {
                    let concluded = Some(allowed);
                    Entry::RunYielded(RunYielded { model_calls, budget, repeated, concluded, deadline })
                } else {
                    Entry::RunCompleted(allowed)
                });
                NextAction::Rest
            }
            DecisionInput::ReplyJudged(GateVerdict::Deny { rule, reason, .. })
                if rule == AnswerFormat::RULE =>
            {
                let text = format!(
                    "the answer and {} repairs do not satisfy its schema: {reason}",
                    self.state.repairs
                );
                self.fail_run(ErrorCode::AnswerSchemaUnsatisfied, text)
            }
            // A reply can neither wait for an approval nor be delayed, so such a verdict refuses it.
            DecisionInput::ReplyJudged(
                GateVerdict::Deny { rule, reason, .. }
                | GateVerdict::Ask { rule, reason, .. }
                | GateVerdict::Delay { rule, reason, .. },
            ) => self
                .fail_run(ErrorCode::ActionDenied, format!("the rule `{rule}` denied the reply: {reason}")),
            DecisionInput::Finished(call, output) => self.accept_output(call, output),
            DecisionInput::CutOff(call) => self.cut_off(call),
            DecisionInput::Withdrawn(call, rule) => self.withdraw_call(call, rule),
            DecisionInput::Signal(item) => self.apply_signal(&item),
            DecisionInput::InputsJoined(items) => {
                let after = self.state.inputs_end();
                if self.state.may_join_inputs() {
                    self.push_entry(Entry::InputsTaken(InputsTaken { items, after }));
                }
                self.go_on()
            }
            DecisionInput::AgentPaused => self.park_for_pause(),
            DecisionInput::Ended { by } => self.cancel_run(by, ItemKind::Terminate),
            DecisionInput::Recovered { claims } => self.resume_after_takeover(claims),
        }
    }

    /// Continues from the current phase; nothing is in flight.
    fn go_on(&mut self) -> NextAction {
        match &self.state.phase {
            RunPhase::New | RunPhase::Ended(_) => NextAction::Rest,
            RunPhase::StepDue { .. } => {
                let started = self.state.started.as_ref();
                let most = started.map_or(0, |started| started.model_calls_max);
                let deadline = self.state.passed_deadline(self.at);
                // A run of an agent that does everything itself is never asked to conclude.
                let is_solo = started.is_none_or(|started| started.mind.is_solo());
                let is_overdue = deadline.is_some() && (is_solo || self.state.concluding);
                if self.state.model_calls >= most || is_overdue {
                    let model_calls = self.state.model_calls;
                    self.push_entry(Entry::RunYielded(RunYielded {
                        model_calls,
                        budget: None,
                        repeated: None,
                        concluded: None,
                        deadline,
                    }));
                    return NextAction::Rest;
                }
                NextAction::PlannedRequest
            }
            RunPhase::ModelOpen { .. } => NextAction::CallModel,
            RunPhase::Answered { .. } => NextAction::JudgeReply,
            RunPhase::UnitOpen { .. } => match self.state.next_call() {
                Some((call, known)) => match &known.progress {
                    // Its turn has come, and it may be judged otherwise by now.
                    CallStage::Held { answer: None, ahead: true, .. } => NextAction::Judge(call),
                    CallStage::Held { until, cools_until, answer, .. } => {
                        let (until, cools_until, answer) = (*until, *cools_until, *answer);
                        self.resume_held_call(call, until, cools_until, answer)
                    }
                    _ => NextAction::Judge(call),
                },
                None => NextAction::PlannedRequest,
            },
        }
    }

    fn fail_run(&mut self, code: ErrorCode, message: String) -> NextAction {
        self.push_entry(Entry::RunFailed(RunFailed { code, message }));
        NextAction::Rest
    }

    fn push_entry(&mut self, entry: Entry) {
        self.push_with(entry, None);
    }

    fn push_with(&mut self, entry: Entry, body: Option<Bytes>) {
        apply_entry(&mut self.state, &entry);
        self.entries.push(NewEntry { at: self.at, entry, body });
    }
}

fn to_body(value: &impl Serialize) -> Bytes {
    // The content types hold strings, numbers and ids only, so serialization has no failing case.
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
