//! What a run does next: a pure function of its state and one input.
//!
//! [`decide`] performs nothing. It says which entries to append, what else must become durable with them, and
//! the one thing to do [`Next`]. Ids, time and the results of effects come in with the input. The shell makes the
//! entries durable before it does what leaves the process.

mod ahead;
mod approval;
mod attempt;
mod call;
mod opinion;
mod outside;

pub(crate) use self::approval::{FULL, UNHELD};

use bytes::Bytes;
use dromia_contracts::approval::Approval;
use dromia_contracts::budget::Exhausted;
use dromia_contracts::digest::Digest;
use dromia_contracts::entry::{Entry, RunCompleted, RunFailed, RunStarted, RunYielded};
use dromia_contracts::gate::Verdict;
use dromia_contracts::input::AskedCall;
use dromia_contracts::label::Label;
use dromia_contracts::model::{ModelError, ModelReply, Prepared, Usage};
use dromia_contracts::opinion::Opinion;
use dromia_contracts::sent::Sent;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{InboxPut, NewEntry};
use dromia_contracts::tool::{PrepareError, PreparedCall, ToolOutput};
use dromia_contracts::{Actor, CallId, ErrorCode};
use jiff::Timestamp;
use serde::Serialize;

use crate::state::{Phase, Progress, RunState, apply};

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
pub enum Input {
    /// A session was claimed for this run.
    Begin(RunStarted),
    /// The next request is put together.
    Planned(Plan),
    /// There is no request that could be sent.
    Unplanned(ModelError),
    /// A budget has no room for the call that was to begin.
    Unfunded(Exhausted),
    /// The newest call gave the same so many times that the run is taken to go in a circle.
    Circled {
        /// How often.
        times: usize,
    },
    /// Somebody asked for one call, and for no model.
    Asked(AskedCall),
    /// The model answered; the label is the join of everything it was sent.
    Replied(ModelReply, Label),
    /// The model attempt gave no answer.
    Failed(ModelError),
    /// The next call was prepared and judged.
    Judged(CallId, Judgement),
    /// A call behind the next one was judged before its turn: it must be asked for, or nothing is said of it yet.
    JudgedAhead(CallId, Option<Box<Asks>>),
    /// A second model was asked about a call.
    Consulted(CallId, Consulted),
    /// The reply was judged.
    ReplyJudged(Verdict),
    /// A call ended.
    Finished(CallId, ToolOutput),
    /// A defect of its tool cut a call off, and whether it had its effect nobody knows.
    CutOff(CallId),
    /// A signal lies in the run's inbox.
    Signal(InboxItem),
    /// The run's agent is paused.
    AgentPaused,
    /// The run must end, and no signal in its inbox says so: its agent was terminated and a crash came before the
    /// signal, or nothing of it has begun.
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
pub struct Plan {
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
    /// What will be sent.
    pub sent: Sent,
}

/// What preparing and judging a call gave.
#[derive(Debug, Clone)]
pub enum Judgement {
    /// It may run.
    Allowed {
        /// What will run, byte for byte.
        call: PreparedCall,
        /// The rule that allowed it.
        rule: String,
        /// The policy that was asked.
        policy: Option<Digest>,
    },
    /// It may run if a person or time allows it, or has allowed this very thing.
    Asks(Box<Asks>),
    /// The gate refused it.
    Denied {
        /// The rule that refused it.
        rule: String,
        /// The reason, for the model and the person.
        reason: String,
        /// The policy that was asked.
        policy: Option<Digest>,
    },
    /// It may run if a second model agrees, which is asked first.
    Consults(Box<Consults>),
    /// A second model should be asked first, and cannot be.
    Unconsulted {
        /// The digest of the action.
        action: Digest,
        /// What is said instead.
        opinion: Opinion,
    },
    /// It is no call that could be judged.
    Malformed(PrepareError),
    /// The tool is the client's: nothing runs here, and the call leaves with the reply.
    ForClient,
}

/// A call about which a second model is asked, and the request, counted.
#[derive(Debug, Clone)]
pub struct Consults {
    /// What would run, byte for byte.
    pub call: PreparedCall,
    /// The alias of the model.
    pub model: String,
    /// How many times it is asked.
    pub samples: u32,
    /// What is sent each time.
    pub prepared: Prepared,
    /// How that is written down.
    pub sent: Sent,
}

/// What a second model said, and what that took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consulted {
    /// What it said.
    pub opinion: Opinion,
    /// What its answers used, as far as it was reported.
    pub usage: Usage,
    /// The tokens that count: those that were reported, and those reserved for answers of which nobody knows.
    pub tokens: u64,
    /// What they cost, those of which nobody knows at their reservation.
    pub cost_micros: u64,
}

/// A call that a person must allow, or that time allows.
#[derive(Debug, Clone)]
pub struct Asks {
    /// What would run, byte for byte.
    pub call: PreparedCall,
    /// The request, as it stands if it is made. Its binding is what the call is bound to now.
    pub approval: Approval,
    /// What of that is another one than what was approved, in words; empty where nothing was approved, and where nobody knows.
    pub changed: Vec<&'static str>,
    /// The policy that was asked.
    pub policy: Option<Digest>,
    /// Whether there is anybody who could be asked; a call that time allows needs nobody.
    pub attended: bool,
    /// Whether as many steps in a row as may led here without a person, so that no call is left to time.
    pub chained: bool,
}

/// What to append, what else to write with it, and what to do then.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Entries for the journal.
    pub entries: Vec<NewEntry>,
    /// Inbox items that become durable with them.
    pub sends: Vec<InboxPut>,
    /// Requests for approval that become durable with them; one at most.
    pub asks: Vec<Approval>,
    /// What to do once they are durable, or before, if it stays inside the process.
    pub next: Next,
}

/// The one thing to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Put the next request together. Stays inside.
    Plan,
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
pub fn decide(state: &RunState, at: Timestamp, input: Input) -> Decision {
    let mut draft =
        Draft { state: state.clone(), at, entries: Vec::new(), sends: Vec::new(), asks: Vec::new() };
    let next = draft.decide(input);
    Decision { entries: draft.entries, sends: draft.sends, asks: draft.asks, next }
}

/// The state as it will be, with the entries that lead there.
struct Draft {
    state: RunState,
    at: Timestamp,
    entries: Vec<NewEntry>,
    sends: Vec<InboxPut>,
    asks: Vec<Approval>,
}

impl Draft {
    fn decide(&mut self, input: Input) -> Next {
        if self.state.is_ended() {
            return Next::Rest;
        }
        match input {
            Input::Begin(started) => {
                self.push(Entry::RunStarted(started));
                self.go_on()
            }
            Input::Planned(plan) => self.call_model(plan),
            Input::Unplanned(error) => self.unplanned(error),
            Input::Unfunded(exhausted) => self.unfunded(exhausted),
            Input::Circled { times } => self.circled(times),
            Input::Asked(asked) => self.asked(asked),
            Input::Replied(reply, label) => self.replied(reply, label),
            Input::Failed(error) => self.failed(&error),
            Input::Judged(call, judgement) => self.judged(call, judgement),
            Input::JudgedAhead(call, asks) => self.judged_ahead(call, asks.map(|asks| *asks)),
            Input::Consulted(call, consulted) => self.consulted(call, consulted),
            Input::ReplyJudged(Verdict::Allow { rule, policy }) => {
                self.push(Entry::RunCompleted(RunCompleted { rule, policy }));
                Next::Rest
            }
            // Nobody is asked about an answer, and none is put off, so what must be is refused.
            Input::ReplyJudged(
                Verdict::Deny { rule, reason, .. }
                | Verdict::Ask { rule, reason, .. }
                | Verdict::Delay { rule, reason, .. },
            ) => self.fail(ErrorCode::ActionDenied, format!("the reply was refused by {rule}: {reason}")),
            Input::Finished(call, output) => self.finished(call, output),
            Input::CutOff(call) => self.cut_off(call),
            Input::Signal(item) => self.signal(&item),
            Input::AgentPaused => self.paused(),
            Input::Ended { by } => self.ended(by, ItemKind::Terminate),
            Input::Recovered { claims } => self.recovered(claims),
        }
    }

    /// Goes on from wherever the state stands; nothing is in flight.
    fn go_on(&mut self) -> Next {
        match &self.state.phase {
            Phase::New | Phase::Ended(_) => Next::Rest,
            Phase::StepDue { .. } => {
                let most = self.state.started.as_ref().map_or(0, |started| started.model_calls_max);
                if self.state.model_calls >= most {
                    let model_calls = self.state.model_calls;
                    self.push(Entry::RunYielded(RunYielded { model_calls, budget: None }));
                    return Next::Rest;
                }
                Next::Plan
            }
            Phase::ModelOpen { .. } => Next::CallModel,
            Phase::Answered { .. } => Next::JudgeReply,
            Phase::UnitOpen { .. } => match self.state.next_call() {
                Some((call, known)) => match &known.progress {
                    // Its turn has come, and it may be judged otherwise by now.
                    Progress::Held { answer: None, ahead: true, .. } => Next::Judge(call),
                    Progress::Held { until, cools_until, answer, .. } => {
                        let (until, cools_until, answer) = (*until, *cools_until, *answer);
                        self.held(call, until, cools_until, answer)
                    }
                    _ => Next::Judge(call),
                },
                None => Next::Plan,
            },
        }
    }

    fn fail(&mut self, code: ErrorCode, message: String) -> Next {
        self.push(Entry::RunFailed(RunFailed { code, message }));
        Next::Rest
    }

    fn push(&mut self, entry: Entry) {
        self.push_with(entry, None);
    }

    fn push_with(&mut self, entry: Entry, body: Option<Bytes>) {
        apply(&mut self.state, &entry);
        self.entries.push(NewEntry { at: self.at, entry, body });
    }
}

fn to_body(value: &impl Serialize) -> Bytes {
    // The content types hold strings, numbers and ids only, so serialization has no failing case.
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
