//! What a run does next: a pure function of its state and one input.
//!
//! [`decide`] performs nothing. It says which entries to append, what else must become durable with them, and
//! the one thing to do [`Next`]. Ids, time and the results of effects come in with the input. The shell makes the
//! entries durable before it does what leaves the process.

use bytes::Bytes;
use dromia_contracts::content::{AssistantMessage, CallStatus, Part, ToolCall, ToolResult};
use dromia_contracts::entry::{
    Entry, HoldReason, ModelCalled, ModelFailed, ModelReplied, Park, RunCancelled, RunCompleted, RunFailed,
    RunHeld, RunParked, RunStarted, RunYielded, SignalTaken, ToolFinished, ToolRefused, ToolStarted,
};
use dromia_contracts::gate::Verdict;
use dromia_contracts::label::Label;
use dromia_contracts::model::{ModelError, ModelReply};
use dromia_contracts::sent::Sent;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{InboxPut, NewEntry};
use dromia_contracts::tool::{EffectClass, PrepareError, PreparedCall, ToolOutput};
use dromia_contracts::{CallId, ErrorCode};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::state::{Phase, Progress, Rest, RunState, apply};

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
    /// The model answered; the label is the join of everything it was sent.
    Replied(ModelReply, Label),
    /// The model attempt gave no answer.
    Failed(ModelError),
    /// The next call was prepared and judged.
    Judged(CallId, Judgement),
    /// The reply was judged.
    ReplyJudged(Verdict),
    /// A call ended.
    Finished(CallId, ToolOutput),
    /// A signal lies in the run's inbox.
    Signal(InboxItem),
    /// The run's agent is paused.
    AgentPaused,
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
    },
    /// The gate refused it.
    Denied {
        /// The rule that refused it.
        rule: String,
        /// The reason, for the model and the person.
        reason: String,
    },
    /// It is no call that could be judged.
    Malformed(PrepareError),
}

/// What to append, what else to write with it, and what to do then.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Entries for the journal.
    pub entries: Vec<NewEntry>,
    /// Inbox items that become durable with them.
    pub sends: Vec<InboxPut>,
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
    /// Judge the reply. Stays inside.
    JudgeReply,
    /// Call the model. The entries must be durable.
    CallModel,
    /// Run a call. The entries must be durable, unless its effect class is transactional.
    RunTool(PreparedCall),
    /// Nothing: the run rests or has ended. The entries must be durable.
    Rest,
}

/// Decides what a run does next.
pub fn decide(state: &RunState, at: Timestamp, input: Input) -> Decision {
    let mut draft = Draft { state: state.clone(), at, entries: Vec::new(), sends: Vec::new() };
    let next = draft.decide(input);
    Decision { entries: draft.entries, sends: draft.sends, next }
}

/// The state as it will be, with the entries that lead there.
struct Draft {
    state: RunState,
    at: Timestamp,
    entries: Vec<NewEntry>,
    sends: Vec<InboxPut>,
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
            Input::Unplanned(error) => self.fail(error.code, error.message),
            Input::Replied(reply, label) => self.replied(reply, label),
            Input::Failed(error) => self.failed(&error),
            Input::Judged(call, judgement) => self.judged(call, judgement),
            Input::ReplyJudged(Verdict::Allow { rule }) => {
                self.push(Entry::RunCompleted(RunCompleted { rule }));
                Next::Rest
            }
            Input::ReplyJudged(Verdict::Deny { rule, reason }) => {
                self.fail(ErrorCode::ActionDenied, format!("the reply was refused by {rule}: {reason}"))
            }
            Input::Finished(call, output) => self.finished(call, output),
            Input::Signal(item) => self.signal(&item),
            Input::AgentPaused => self.paused(),
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
                    self.push(Entry::RunYielded(RunYielded { model_calls }));
                    return Next::Rest;
                }
                Next::Plan
            }
            Phase::ModelOpen { .. } => Next::CallModel,
            Phase::Answered { .. } => Next::JudgeReply,
            Phase::UnitOpen { .. } => match self.state.next_call() {
                Some((call, _)) => Next::Judge(call),
                None => Next::Plan,
            },
        }
    }

    fn call_model(&mut self, plan: Plan) -> Next {
        let Phase::StepDue { step, failed, .. } = self.state.phase else { return self.go_on() };
        self.push(Entry::ModelCalled(ModelCalled {
            step,
            attempt: failed + 1,
            model: plan.model,
            history_from: plan.history_from,
            input_tokens: plan.input_tokens,
            output_tokens_max: plan.output_tokens_max,
            reserved_micros: plan.reserved_micros,
            sent: Some(plan.sent),
        }));
        Next::CallModel
    }

    fn replied(&mut self, reply: ModelReply, label: Label) -> Next {
        let Phase::ModelOpen { step, attempt, .. } = self.state.phase else { return self.go_on() };
        let call = |(index, proposed): (usize, dromia_contracts::model::ProposedCall)| ToolCall {
            id: CallId { step, index: to_u32(index) },
            tool: proposed.tool,
            arguments: proposed.arguments,
        };
        let parts = if reply.text.is_empty() { vec![] } else { vec![Part::text(reply.text, label)] };
        let mut message =
            AssistantMessage { parts, calls: reply.calls.into_iter().enumerate().map(call).collect() };
        let dropped = drop_oversized(&mut message);
        let body = to_body(&message);
        if message.calls.len() > CALLS_MAX || body.len() > BODY_BYTES_MAX {
            return self.failed(&ModelError {
                code: ErrorCode::ModelCut,
                message: format!("the answer has {} calls and {} bytes", message.calls.len(), body.len()),
                retry_after: None,
            });
        }
        let replied = ModelReplied {
            step,
            attempt,
            usage: reply.usage,
            detail: reply.detail,
            cost_micros: reply.cost_micros,
            finish: reply.finish,
            tools: message.calls.iter().map(|call| call.tool.clone()).collect(),
        };
        self.push_with(Entry::ModelReplied(replied), Some(body));
        for (call, bytes) in dropped {
            let tool =
                message.calls.get(call.index as usize).map_or_else(String::new, |call| call.tool.clone());
            let text = format!(
                "Nothing ran: the arguments of this call had {bytes} bytes, too many to keep. Send less at a time: \
                 write a first piece, and append the others."
            );
            self.refuse(call, tool, CallStatus::Error, None, &text);
        }
        self.go_on()
    }

    fn failed(&mut self, error: &ModelError) -> Next {
        let Phase::ModelOpen { step, attempt, reserved_micros, .. } = self.state.phase else {
            return self.go_on();
        };
        // An attempt that the provider refused or never took costs nothing; one that was cut may have cost all.
        let charged_micros = match error.code {
            ErrorCode::ModelUnavailable | ErrorCode::ModelRejected => 0,
            _ => reserved_micros,
        };
        self.push(Entry::ModelFailed(ModelFailed {
            step,
            attempt,
            code: error.code,
            message: error.message.clone(),
            charged_micros,
        }));
        if error.code == ErrorCode::ModelRejected || attempt >= ATTEMPTS_MAX {
            return self
                .fail(error.code, format!("the model failed at attempt {attempt}: {}", error.message));
        }
        let delay = error.retry_after.and_then(|delay| SignedDuration::try_from(delay).ok());
        let delay = delay.unwrap_or_else(|| SignedDuration::from_millis(250 << attempt.min(8)));
        let delay = delay.min(SignedDuration::from_mins(15));
        let until = self.at.checked_add(delay).unwrap_or(self.at);
        self.push(Entry::RunParked(RunParked { park: Park::Retry { until } }));
        Next::Rest
    }

    fn judged(&mut self, call: CallId, judgement: Judgement) -> Next {
        let Some((due, known)) = self.state.next_call() else { return self.go_on() };
        if due != call {
            return Next::Judge(due);
        }
        let (tool, before) = (known.tool.clone(), known.progress.clone());
        match judgement {
            Judgement::Allowed { call: prepared, .. }
                if self.state.unknown_actions.contains(&prepared.action) =>
            {
                let text = "This very action began earlier in this run and its outcome is unknown. It is not repeated \
                            without a person: say what you know, and let the person ask for it again.";
                self.refuse(call, tool, CallStatus::Denied, Some("unknown-outcome".to_owned()), text)
            }
            Judgement::Allowed { call: prepared, rule } => {
                let attempt = match before {
                    Progress::Started { attempt, .. } => attempt + 1,
                    Progress::Waiting | Progress::Done(_) => 1,
                };
                self.push(Entry::ToolStarted(ToolStarted {
                    call,
                    tool: prepared.tool.clone(),
                    effect: prepared.effect,
                    attempt,
                    action: prepared.action,
                    rule,
                }));
                Next::RunTool(prepared)
            }
            Judgement::Denied { rule, reason } => {
                self.refuse(call, tool, CallStatus::Denied, Some(rule), &reason)
            }
            Judgement::Malformed(error) => {
                self.refuse(call, tool, CallStatus::Error, None, &error.to_string())
            }
        }
    }

    fn finished(&mut self, call: CallId, output: ToolOutput) -> Next {
        let status = if output.failed { CallStatus::Error } else { CallStatus::Ok };
        self.sends.extend(output.sends);
        self.finish(call, status, output.parts);
        self.go_on()
    }

    fn signal(&mut self, item: &InboxItem) -> Next {
        if item.position <= self.state.signals_taken {
            return self.go_on();
        }
        let taken = |item: &InboxItem| {
            Entry::SignalTaken(SignalTaken {
                item: item.id,
                position: item.position,
                signal: item.kind,
                by: item.author.clone(),
            })
        };
        match item.kind {
            ItemKind::Cancel | ItemKind::Terminate => {
                self.push(taken(item));
                self.close_everything();
                let (by, signal) = (item.author.clone(), item.kind);
                self.push(Entry::RunCancelled(RunCancelled { by, signal }));
                Next::Rest
            }
            // An input never lies in a run's inbox; a release of a run that is not held is taken and changes nothing.
            ItemKind::Release | ItemKind::Input | ItemKind::Resume => {
                self.push(taken(item));
                self.go_on()
            }
        }
    }

    /// Gives every open call its one result and closes an open model attempt, so that no prefix of the journal
    /// leaves a call without a result.
    fn close_everything(&mut self) {
        if let Phase::ModelOpen { step, attempt, reserved_micros, .. } = self.state.phase {
            self.push(Entry::ModelFailed(ModelFailed {
                step,
                attempt,
                code: ErrorCode::OutcomeUnknown,
                message: "the attempt was given up because the run was ended".to_owned(),
                charged_micros: reserved_micros,
            }));
        }
        while let Some((call, known)) = self.state.next_call() {
            let tool = known.tool.clone();
            match known.progress {
                Progress::Started { effect: EffectClass::Pure | EffectClass::Transactional, .. } => {
                    let text = "The run was ended; the call had no effect.";
                    self.finish(call, CallStatus::Cancelled, vec![Part::text(text, Label::PUBLIC_FACT)]);
                }
                Progress::Started { .. } => {
                    self.finish(
                        call,
                        CallStatus::Unknown,
                        vec![Part::text(UNKNOWN_TEXT, Label::PUBLIC_FACT)],
                    );
                }
                Progress::Waiting | Progress::Done(_) => {
                    let text = "The run was ended before the call began.";
                    self.push_refusal(call, tool, CallStatus::Cancelled, None, text);
                }
            }
        }
    }

    fn paused(&mut self) -> Next {
        match (&self.state.phase, &self.state.rest) {
            // Taken over while its agent still rests: there is nothing to add.
            (Phase::StepDue { .. }, Some(Rest::Parked(Park::AgentPaused))) => Next::Rest,
            // Also in place of a retry that is due: the agent's resume finds it, the timer must not.
            (Phase::StepDue { .. }, _) => {
                self.push(Entry::RunParked(RunParked { park: Park::AgentPaused }));
                Next::Rest
            }
            _ => self.go_on(),
        }
    }

    fn recovered(&mut self, claims: u64) -> Next {
        if matches!(self.state.rest, Some(Rest::Held { .. })) {
            return Next::Rest;
        }
        if claims > CLAIMS_MAX {
            let detail = format!("{claims} claims without a new entry");
            self.push(Entry::RunHeld(RunHeld { reason: HoldReason::Claims, detail }));
            return Next::Rest;
        }
        match self.state.phase.clone() {
            Phase::ModelOpen { step, attempt, reserved_micros, lost } => {
                self.push(Entry::ModelFailed(ModelFailed {
                    step,
                    attempt,
                    code: ErrorCode::OutcomeUnknown,
                    message: "a crash cut off the attempt".to_owned(),
                    charged_micros: reserved_micros,
                }));
                let lost = u64::from(lost) + 1;
                if lost >= CLAIMS_MAX {
                    let detail = format!("{lost} crashes in a row cut off model step {step}");
                    self.push(Entry::RunHeld(RunHeld { reason: HoldReason::LostAttempts, detail }));
                    return Next::Rest;
                }
            }
            Phase::UnitOpen { .. } => {
                if let Some((call, known)) = self.state.next_call()
                    && let Progress::Started { effect, .. } = known.progress
                    && !effect.may_repeat()
                {
                    self.finish(
                        call,
                        CallStatus::Unknown,
                        vec![Part::text(UNKNOWN_TEXT, Label::PUBLIC_FACT)],
                    );
                }
            }
            Phase::New | Phase::StepDue { .. } | Phase::Answered { .. } | Phase::Ended(_) => {}
        }
        self.go_on()
    }

    fn refuse(
        &mut self,
        call: CallId,
        tool: String,
        status: CallStatus,
        rule: Option<String>,
        text: &str,
    ) -> Next {
        self.push_refusal(call, tool, status, rule, text);
        self.go_on()
    }

    /// Gives a call that never began its result, and decides nothing: whoever ends a run closes its calls first.
    fn push_refusal(
        &mut self,
        call: CallId,
        tool: String,
        status: CallStatus,
        rule: Option<String>,
        text: &str,
    ) {
        let result = ToolResult { call, status, parts: vec![Part::text(text, Label::PUBLIC_FACT)] };
        let body = to_body(&result);
        self.push_with(Entry::ToolRefused(ToolRefused { call, tool, status, rule }), Some(body));
    }

    fn finish(&mut self, call: CallId, status: CallStatus, parts: Vec<Part>) {
        let mut body = to_body(&ToolResult { call, status, parts });
        if body.len() > BODY_BYTES_MAX {
            let text =
                format!("The result has {} bytes, more than {BODY_BYTES_MAX}; ask for less.", body.len());
            body = to_body(&ToolResult { call, status, parts: vec![Part::text(text, Label::PUBLIC_FACT)] });
        }
        self.push_with(Entry::ToolFinished(ToolFinished { call, status }), Some(body));
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

/// Empties the longest arguments of an answer that is too long to be kept, so that the model is told instead of
/// asked once more. Returns which calls lost how many bytes.
fn drop_oversized(message: &mut AssistantMessage) -> Vec<(CallId, usize)> {
    let mut dropped = Vec::new();
    while to_body(&*message).len() > BODY_BYTES_MAX {
        let longest = message.calls.iter_mut().max_by_key(|call| call.arguments.len());
        let Some(call) = longest.filter(|call| call.arguments.len() > EMPTY_ARGUMENTS.len()) else { break };
        dropped.push((call.id, call.arguments.len()));
        EMPTY_ARGUMENTS.clone_into(&mut call.arguments);
    }
    dropped.sort_unstable();
    dropped
}

/// What stands for arguments that were not kept; providers take nothing but JSON back.
const EMPTY_ARGUMENTS: &str = "{}";

const UNKNOWN_TEXT: &str = "The outcome of this call is unknown: it began, and the process ended before it could \
                            report. It may have had its effect or not. It was not repeated. Look before you go on.";

/// A message has at most [`CALLS_MAX`] calls, so the cast has no failing case.
fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn to_body(value: &impl Serialize) -> Bytes {
    // The content types hold strings, numbers and ids only, so serialization has no failing case.
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
