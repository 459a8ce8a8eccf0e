//! What comes from outside the loop: signals, the pause of the agent, and the takeover after a crash.

use dromia_contracts::approval::AnswerBody;
use dromia_contracts::budget::{Exhausted, RULE};
use dromia_contracts::content::{CallStatus, Part};
use dromia_contracts::entry::{
    Entry, HoldReason, ModelFailed, Park, RunCancelled, RunHeld, RunParked, RunYielded, SignalTaken,
};
use dromia_contracts::label::Label;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{Actor, ApprovalId, CallId, ErrorCode};

use super::call::Refusing;
use super::{CLAIMS_MAX, Draft, Next};
use crate::state::{Phase, Progress, Rest};

impl Draft {
    pub(super) fn signal(&mut self, item: &InboxItem) -> Next {
        if item.position <= self.state.signals_taken {
            return self.go_on();
        }
        let (approval, words) = match item.kind {
            ItemKind::Approve | ItemKind::Deny => AnswerBody::read(item.body.as_deref().unwrap_or_default()),
            _ => (None, String::new()),
        };
        let taken = |item: &InboxItem| {
            Entry::SignalTaken(SignalTaken {
                item: item.id,
                position: item.position,
                signal: item.kind,
                by: item.author.clone(),
                approval,
            })
        };
        match item.kind {
            ItemKind::Cancel | ItemKind::Terminate => {
                self.push(taken(item));
                self.ended(item.author.clone(), item.kind)
            }
            ItemKind::Deny => {
                // What a program of before wrote names no approval: its run waited for one call at a time.
                let is_meant = |known: ApprovalId| approval.is_none_or(|approval| approval == known);
                let answered = self.state.unanswered().find(|(_, known)| is_meant(*known));
                self.push(taken(item));
                if let Some((call, _)) = answered {
                    let words = match words.trim() {
                        "" => item.author.to_string(),
                        words => format!("{} says: {words}", item.author),
                    };
                    // At once, where the words are at hand, also before its turn.
                    self.push_refused_by_person(call, &words);
                }
                self.go_on_in_time()
            }
            ItemKind::Approve => {
                self.push(taken(item));
                self.go_on_in_time()
            }
            // Inputs and approved calls never lie in a run's inbox; a release of a run that is not held is taken and
            // changes nothing.
            ItemKind::Release | ItemKind::Input | ItemKind::Resume | ItemKind::Approved => {
                self.push(taken(item));
                self.go_on()
            }
        }
    }

    /// Ends the run, as a signal of this kind asks for.
    pub(super) fn ended(&mut self, by: Actor, signal: ItemKind) -> Next {
        self.close_everything();
        self.push(Entry::RunCancelled(RunCancelled { by, signal }));
        Next::Rest
    }

    /// Ends the run at a budget, from which a new one may go on. Calls that did not begin are refused.
    pub(super) fn unfunded(&mut self, exhausted: Exhausted) -> Next {
        self.lose_opinion();
        while let Some((call, known)) = self.state.next_call() {
            let (tool, began) = (known.tool.clone(), matches!(known.progress, Progress::Started { .. }));
            if began {
                // A crash cut it off, and it may not be repeated.
                self.finish(call, CallStatus::Unknown, vec![Part::text(UNKNOWN_TEXT, Label::PUBLIC_FACT)]);
            } else {
                let text = format!("Nothing ran: {}.", exhausted.text());
                self.push_refusal(call, tool, CallStatus::Denied, Refusing::by(RULE), &text);
            }
        }
        let model_calls = self.state.model_calls;
        self.push(Entry::RunYielded(RunYielded { model_calls, budget: Some(exhausted) }));
        Next::Rest
    }

    /// Ends a run that goes in a circle, at the border of a unit.
    pub(super) fn circled(&mut self, times: usize) -> Next {
        let Phase::StepDue { .. } = self.state.phase else { return self.go_on() };
        let text = format!("the same call gave the same result {times} times; the run goes in a circle");
        self.fail(ErrorCode::LoopDetected, text)
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
        self.lose_opinion();
        while let Some((call, known)) = self.state.next_call() {
            let tool = known.tool.clone();
            match known.progress {
                Progress::Started { effect: EffectClass::Pure | EffectClass::Transactional, .. } => {
                    let text = "The run was ended; the call had no effect.";
                    self.finish(call, CallStatus::Cancelled, vec![Part::text(text, Label::PUBLIC_FACT)]);
                }
                Progress::Started { .. } => {
                    self.finish(call, CallStatus::Unknown, vec![Part::text(ENDED_TEXT, Label::PUBLIC_FACT)]);
                }
                Progress::Waiting | Progress::Held { .. } | Progress::Done(_) | Progress::Handed => {
                    let text = "The run was ended before the call began.";
                    self.push_refusal(call, tool, CallStatus::Cancelled, Refusing::default(), text);
                }
            }
        }
    }

    pub(super) fn paused(&mut self) -> Next {
        let has_waited = self.state.next_call().is_some_and(|(call, _)| self.state.approved(call).is_some());
        match (&self.state.phase, &self.state.rest) {
            // Taken over while its agent still rests: there is nothing to add.
            (Phase::StepDue { .. }, Some(Rest::Parked(Park::AgentPaused))) => Next::Rest,
            (_, Some(Rest::Parked(Park::AgentPaused))) if has_waited => Next::Rest,
            // It is allowed, and has not begun: the approval stands until the agent runs again.
            _ if has_waited => {
                self.push(Entry::RunParked(RunParked { park: Park::AgentPaused }));
                Next::Rest
            }
            // Also in place of a retry that is due: the agent's resume finds it, the timer must not.
            (Phase::StepDue { .. }, _) => {
                self.push(Entry::RunParked(RunParked { park: Park::AgentPaused }));
                Next::Rest
            }
            _ => self.go_on(),
        }
    }

    pub(super) fn cut_off(&mut self, call: CallId) -> Next {
        self.finish(call, CallStatus::Unknown, vec![Part::text(CUT_OFF_TEXT, Label::PUBLIC_FACT)]);
        self.go_on()
    }

    pub(super) fn recovered(&mut self, claims: u64) -> Next {
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
                if let Some((call, lost)) = self.lose_opinion()
                    && u64::from(lost) >= CLAIMS_MAX
                {
                    let detail = format!("{lost} crashes in a row cut off the second opinion about {call}");
                    self.push(Entry::RunHeld(RunHeld { reason: HoldReason::LostAttempts, detail }));
                    return Next::Rest;
                }
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
}

const ENDED_TEXT: &str = "The outcome of this call is unknown: it began, and the run was ended before it could \
                          report. It may have had its effect, a part of it, or none. Look before you go on.";

const CUT_OFF_TEXT: &str = "The outcome of this call is unknown: it began, and a defect of its tool ended it before it could \
                            report. It may have had its effect, a part of it, or none. It was not repeated. Look before \
                            you go on.";

pub(super) const UNKNOWN_TEXT: &str = "The outcome of this call is unknown: it began, and the process ended before it could \
                            report. It may have had its effect or not. It was not repeated. Look before you go on.";
