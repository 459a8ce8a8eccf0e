//! What comes from outside the loop: signals, the pause of the agent, and the takeover after a crash.

use dromia_contracts::approval::AnswerBody;
use dromia_contracts::budget::{BudgetExhaustion, RULE};
use dromia_contracts::content::{CallStatus, ContentPart};
use dromia_contracts::entry::{
    Entry, HoldReason, ModelFailed, ParkReason, RunCancelled, RunHeld, RunParked, RunYielded, SignalTaken,
};
use dromia_contracts::label::Label;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{Actor, CallId, ErrorCode};

use super::call::RefusalSource;
use super::{CLAIMS_MAX, DecisionDraft, NextAction};
use crate::state::{CallStage, RestReason, RunPhase};

impl DecisionDraft {
    pub(super) fn apply_signal(&mut self, item: &InboxItem) -> NextAction {
        if item.position <= self.state.signals_taken {
            return self.go_on();
        }
        let answer = match item.kind {
            ItemKind::Approve | ItemKind::Deny => item.body.as_deref().and_then(AnswerBody::decode),
            _ => None,
        };
        let approval = answer.as_ref().map(|answer| answer.approval);
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
                self.push_entry(taken(item));
                self.cancel_run(item.author.clone(), item.kind)
            }
            ItemKind::Deny => {
                let answered = answer.and_then(|AnswerBody { approval, reason, .. }| {
                    let (call, _) = self.state.unanswered_calls().find(|(_, known)| *known == approval)?;
                    Some((call, reason))
                });
                self.push_entry(taken(item));
                if let Some((call, words)) = answered {
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
                self.push_entry(taken(item));
                self.go_on_in_time()
            }
            // A run's inbox never contains inputs or approved calls; a release of a run that is not held is taken and
            // changes nothing.
            ItemKind::Release
            | ItemKind::Input
            | ItemKind::Resume
            | ItemKind::Approved
            | ItemKind::Conclusion => {
                self.push_entry(taken(item));
                self.go_on()
            }
        }
    }

    /// Ends the run, as a signal of this kind asks for.
    pub(super) fn cancel_run(&mut self, by: Actor, signal: ItemKind) -> NextAction {
        self.close_everything();
        self.push_entry(Entry::RunCancelled(RunCancelled { by, signal }));
        NextAction::Rest
    }

    /// Ends the run because a budget is exhausted; a new run may continue from it. Calls that did not begin are
    /// refused.
    pub(super) fn yield_at_budget(&mut self, exhausted: BudgetExhaustion) -> NextAction {
        self.lose_opinion();
        while let Some((call, known)) = self.state.next_call() {
            let (tool, began) = (known.tool.clone(), matches!(known.progress, CallStage::Started { .. }));
            if began {
                // A crash cut it off, and it may not be repeated.
                self.finish_call(
                    call,
                    CallStatus::Unknown,
                    vec![ContentPart::new_text(UNKNOWN_TEXT, Label::PUBLIC_FACT)],
                );
            } else {
                let text = format!("Nothing ran: {}.", exhausted.text());
                self.push_refusal(call, tool, CallStatus::Denied, RefusalSource::by_rule(RULE), &text);
            }
        }
        let model_calls = self.state.model_calls;
        self.push_entry(Entry::RunYielded(RunYielded {
            model_calls,
            budget: Some(exhausted),
            repeated: None,
            concluded: None,
            deadline: None,
        }));
        NextAction::Rest
    }

    /// Ends a run whose model repeats calls despite notices, at the border of a unit. Its results stay, and a new run
    /// may continue from them.
    pub(super) fn yield_at_repetition(&mut self, told: u32) -> NextAction {
        let RunPhase::StepDue { .. } = self.state.phase else { return self.go_on() };
        let model_calls = self.state.model_calls;
        self.push_entry(Entry::RunYielded(RunYielded {
            model_calls,
            budget: None,
            repeated: Some(told),
            concluded: None,
            deadline: None,
        }));
        NextAction::Rest
    }

    /// Gives every open call its one result and closes an open model attempt, so that no prefix of the journal
    /// leaves a call without a result.
    fn close_everything(&mut self) {
        if let RunPhase::ModelOpen { step, attempt, reserved_micros, .. } = self.state.phase {
            self.push_entry(Entry::ModelFailed(ModelFailed {
                step,
                attempt,
                attempts_max: None,
                code: ErrorCode::OutcomeUnknown,
                message: "the attempt was abandoned because the run was ended".to_owned(),
                charged_micros: reserved_micros,
                judged: None,
            }));
        }
        self.lose_opinion();
        while let Some((call, known)) = self.state.next_call() {
            let tool = known.tool.clone();
            match known.progress {
                CallStage::Started { effect: EffectClass::Pure | EffectClass::Transactional, .. } => {
                    let text = "The run was ended; the call had no effect.";
                    self.finish_call(
                        call,
                        CallStatus::Cancelled,
                        vec![ContentPart::new_text(text, Label::PUBLIC_FACT)],
                    );
                }
                CallStage::Started { .. } => {
                    self.finish_call(
                        call,
                        CallStatus::Unknown,
                        vec![ContentPart::new_text(ENDED_TEXT, Label::PUBLIC_FACT)],
                    );
                }
                CallStage::Waiting | CallStage::Held { .. } | CallStage::Done(_) | CallStage::Handed => {
                    let text = "The run was ended before the call started.";
                    self.push_refusal(call, tool, CallStatus::Cancelled, RefusalSource::default(), text);
                }
            }
        }
    }

    pub(super) fn park_for_pause(&mut self) -> NextAction {
        let has_waited =
            self.state.next_call().is_some_and(|(call, _)| self.state.granted_approval(call).is_some());
        match (&self.state.phase, &self.state.rest) {
            // Taken over while its agent still rests: there is nothing to add.
            (RunPhase::StepDue { .. }, Some(RestReason::Parked(ParkReason::AgentPaused))) => NextAction::Rest,
            (_, Some(RestReason::Parked(ParkReason::AgentPaused))) if has_waited => NextAction::Rest,
            // It is allowed, and has not begun: the approval stays valid until the agent runs again.
            _ if has_waited => {
                self.push_entry(Entry::RunParked(RunParked { park: ParkReason::AgentPaused }));
                NextAction::Rest
            }
            // Also in place of a retry that is due: the agent's resume finds it, the timer must not.
            (RunPhase::StepDue { .. }, _) => {
                self.push_entry(Entry::RunParked(RunParked { park: ParkReason::AgentPaused }));
                NextAction::Rest
            }
            _ => self.go_on(),
        }
    }

    pub(super) fn cut_off(&mut self, call: CallId) -> NextAction {
        self.finish_call(
            call,
            CallStatus::Unknown,
            vec![ContentPart::new_text(CUT_OFF_TEXT, Label::PUBLIC_FACT)],
        );
        self.go_on()
    }

    pub(super) fn resume_after_takeover(&mut self, claims: u64) -> NextAction {
        if matches!(self.state.rest, Some(RestReason::Held { .. })) {
            return NextAction::Rest;
        }
        if claims > CLAIMS_MAX {
            let detail = format!("{claims} claims without a new entry");
            self.push_entry(Entry::RunHeld(RunHeld { reason: HoldReason::Claims, detail }));
            return NextAction::Rest;
        }
        match self.state.phase.clone() {
            RunPhase::ModelOpen { step, attempt, reserved_micros, lost } => {
                self.push_entry(Entry::ModelFailed(ModelFailed {
                    step,
                    attempt,
                    attempts_max: None,
                    code: ErrorCode::OutcomeUnknown,
                    message: "a crash interrupted the attempt".to_owned(),
                    charged_micros: reserved_micros,
                    judged: None,
                }));
                let lost = u64::from(lost) + 1;
                if lost >= CLAIMS_MAX {
                    let detail = format!("{lost} crashes in a row interrupted model step {step}");
                    self.push_entry(Entry::RunHeld(RunHeld { reason: HoldReason::LostAttempts, detail }));
                    return NextAction::Rest;
                }
            }
            RunPhase::UnitOpen { .. } => {
                if let Some((call, lost)) = self.lose_opinion()
                    && u64::from(lost) >= CLAIMS_MAX
                {
                    let detail =
                        format!("{lost} crashes in a row interrupted the second opinion about {call}");
                    self.push_entry(Entry::RunHeld(RunHeld { reason: HoldReason::LostAttempts, detail }));
                    return NextAction::Rest;
                }
                if let Some((call, known)) = self.state.next_call()
                    && let CallStage::Started { effect, .. } = known.progress
                    && !effect.may_repeat()
                {
                    self.finish_call(
                        call,
                        CallStatus::Unknown,
                        vec![ContentPart::new_text(UNKNOWN_TEXT, Label::PUBLIC_FACT)],
                    );
                }
            }
            RunPhase::New | RunPhase::StepDue { .. } | RunPhase::Answered { .. } | RunPhase::Ended(_) => {}
        }
        self.go_on()
    }
}

const ENDED_TEXT: &str = "The outcome of this call is unknown: it started, and the run was ended before it \
                          could report. It may have had its effect, a part of it, or none. Check before you \
                          continue.";

const CUT_OFF_TEXT: &str = "The outcome of this call is unknown: it started, and a defect of its tool ended \
                            it before it could report. It may have had its effect, a part of it, or none. It \
                            was not repeated. Check before you continue.";

pub(super) const UNKNOWN_TEXT: &str = "The outcome of this call is unknown: it started, and the process ended \
                                       before it could report. It may have had its effect or not. It was not \
                                       repeated. Check before you continue.";
