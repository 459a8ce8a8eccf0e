//! What each entry changes of the state of a run.
//!
//! An entry that does not fit the state changes what it can and never fails: `decide` checks beforehand whether it may
//! be written.

use dromia_contracts::ErrorCode;
use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::{Entry, ParkReason, WithheldReply, repeated_text};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::ItemKind;

use super::{
    CallSignature, CallStage, CallState, FailureReason, OpinionState, RECENT_MAX, RepetitionNotices,
    RestReason, RunPhase, RunState, repetition,
};

/// Folds one entry into the state.
pub fn apply_entry(state: &mut RunState, entry: &Entry) {
    state.seq += 1;
    match entry {
        Entry::RunStarted(started) => {
            state.started = Some(started.clone());
            state.phase = RunPhase::StepDue { step: 1, failed: 0, lost: 0 };
        }
        Entry::ModelCalled(called) => {
            let lost = match state.phase {
                RunPhase::StepDue { lost, .. } => lost,
                _ => 0,
            };
            state.rest = None;
            state.model_calls += 1;
            state.concluding = called.sent.wording.concludes;
            state.unpriced_calls = state.unpriced_calls.saturating_add(called.unpriced.into());
            state.phase = RunPhase::ModelOpen {
                step: called.step,
                attempt: called.attempt,
                lost,
                reserved_micros: called.reserved_micros,
            };
        }
        Entry::ModelReplied(replied) => {
            state.usage.input_tokens = state.usage.input_tokens.saturating_add(replied.usage.input_tokens);
            state.usage.output_tokens = state.usage.output_tokens.saturating_add(replied.usage.output_tokens);
            state.cost_micros = state.cost_micros.saturating_add(replied.cost_micros);
            let is_unfit = replied.withheld.as_ref().is_some_and(WithheldReply::is_unfit);
            state.phase = if replied.tools.is_empty() && is_unfit && state.repairs < AnswerFormat::REPAIRS_MAX
            {
                // The transcript says behind the answer what is wrong with it.
                state.repairs += 1;
                RunPhase::StepDue { step: replied.step + 1, failed: 0, lost: 0 }
            } else if replied.tools.is_empty() {
                RunPhase::Answered { step: replied.step }
            } else {
                let waiting = |tool: &String| CallState::new_waiting(tool.clone());
                RunPhase::UnitOpen { step: replied.step, calls: replied.tools.iter().map(waiting).collect() }
            };
        }
        Entry::ModelFailed(failed) => {
            state.cost_micros = state.cost_micros.saturating_add(failed.charged_micros);
            let before = match state.phase {
                RunPhase::ModelOpen { lost, .. } => lost,
                _ => 0,
            };
            let lost = if failed.code == ErrorCode::OutcomeUnknown { before + 1 } else { 0 };
            state.phase = RunPhase::StepDue { step: failed.step, failed: failed.attempt, lost };
        }
        Entry::CallAsked(asked) => {
            state.rest = None;
            state.by_hand = true;
            let calls = vec![CallState::new_waiting(asked.tool.clone())];
            state.phase = RunPhase::UnitOpen { step: asked.call.step, calls };
        }
        Entry::OpinionCalled(called) => {
            state.rest = None;
            state.model_calls = state.model_calls.saturating_add(called.samples);
            if called.unpriced {
                state.unpriced_calls = state.unpriced_calls.saturating_add(called.samples);
            }
            if let Some(call) = state.call_mut(called.call) {
                let (action, reserved_micros) = (called.action, called.reserved_micros);
                call.opined = OpinionState::Open { action, reserved_micros, lost: call.opined.lost_in_row() };
            }
        }
        Entry::OpinionGiven(given) => {
            state.usage.input_tokens = state.usage.input_tokens.saturating_add(given.usage.input_tokens);
            state.usage.output_tokens = state.usage.output_tokens.saturating_add(given.usage.output_tokens);
            state.cost_micros = state.cost_micros.saturating_add(given.cost_micros);
            if let Some(call) = state.call_mut(given.call) {
                call.opined = match &given.opinion {
                    Some(opinion) => OpinionState::Given { action: given.action, opinion: opinion.clone() },
                    None => OpinionState::Lost { lost: call.opined.lost_in_row().saturating_add(1) },
                };
            }
        }
        Entry::ToolStarted(started) => {
            state.rest = None;
            if let Some(call) = state.call_mut(started.call) {
                call.progress = CallStage::Started {
                    effect: started.effect,
                    attempt: started.attempt,
                    action: started.action,
                };
            }
        }
        Entry::ToolFinished(finished) => {
            state.replies = state.replies.saturating_add(finished.reply.into());
            let (mut unknown, mut signature) = (None, None);
            if let Some(call) = state.call_mut(finished.call) {
                if let (CallStage::Started { action, .. }, CallStatus::Unknown) =
                    (&call.progress, finished.status)
                {
                    unknown = Some(*action);
                }
                if let (CallStage::Started { action, .. }, Some(result)) = (&call.progress, finished.result) {
                    signature = Some(CallSignature { action: *action, result });
                }
                call.progress = CallStage::Done(finished.status);
            }
            state.unknown_actions.extend(unknown);
            if let Some(signature) = signature {
                if !state.recent.iter().any(|known| known.action == signature.action) {
                    state.circle = RepetitionNotices::default();
                }
                if state.recent.len() == RECENT_MAX {
                    state.recent.pop_front();
                }
                state.recent.push_back(signature);
            }
            state.close_unit_if_answered();
        }
        Entry::ToolRefused(refused) => {
            let mut awaiting = None;
            if let Some(call) = state.call_mut(refused.call) {
                if let (CallStage::Held { action, .. }, CallStatus::Awaiting) =
                    (&call.progress, refused.status)
                {
                    awaiting = Some(*action);
                }
                call.progress = CallStage::Done(refused.status);
            }
            state.awaiting.extend(awaiting);
            if refused.rule.as_deref() == Some(repetition::RULE) {
                state.circle.note_refusal(refused.call.step);
            }
            // A later call of the unit may be refused while the run rests for this one.
            if matches!(state.rest, Some(RestReason::Parked(ParkReason::Approval { call, .. })) if call == refused.call)
            {
                state.rest = None;
            }
            state.close_unit_if_answered();
        }
        Entry::ToolHanded(handed) => {
            if let Some(call) = state.call_mut(handed.call) {
                call.progress = CallStage::Handed;
            }
            state.close_unit_if_answered();
        }
        Entry::InputsTaken(taken) => {
            state.rest = None;
            state.joined.extend(&taken.items);
        }
        Entry::SignalTaken(taken) => {
            state.signals_taken = taken.position;
            if let (ItemKind::Approve | ItemKind::Deny, Some(approval)) = (taken.signal, taken.approval) {
                state.take_answer(approval, taken.signal == ItemKind::Approve);
            }
            if taken.signal == ItemKind::Release && !state.rests_for_approval() {
                state.rest = None;
                if let RunPhase::StepDue { lost, .. } = &mut state.phase {
                    *lost = 0;
                }
            }
        }
        Entry::RunParked(parked) => {
            let ParkReason::Approval { approval, call, action, binding, until, cools_until, .. } =
                parked.park
            else {
                state.rest = Some(RestReason::Parked(parked.park));
                return;
            };
            // An early approval request does not replace the one that the run rests for.
            let ahead = state.next_call().is_some_and(|(due, _)| due != call);
            if !ahead {
                state.rest = Some(RestReason::Parked(parked.park));
            }
            if let Some(call) = state.call_mut(call) {
                let answer = None;
                call.progress =
                    CallStage::Held { approval, action, binding, until, cools_until, answer, ahead };
            }
        }
        Entry::RunHeld(held) => state.rest = Some(RestReason::Held { detail: held.detail.clone() }),
        Entry::RunCompleted(_) => state.phase = RunPhase::Ended(RunStatus::Completed),
        Entry::RunYielded(yielded) => {
            state.failure = yielded
                .budget
                .as_ref()
                .map(|exhausted| FailureReason {
                    code: ErrorCode::BudgetExhausted,
                    message: exhausted.text(),
                })
                .or(yielded.repeated.map(|told| FailureReason {
                    code: ErrorCode::LoopDetected,
                    message: repeated_text(told),
                }));
            state.overdue = yielded.deadline.is_some();
            state.phase = RunPhase::Ended(RunStatus::Yielded);
        }
        Entry::RunFailed(failed) => {
            state.failure = Some(FailureReason { code: failed.code, message: failed.message.clone() });
            state.phase = RunPhase::Ended(RunStatus::Failed);
        }
        Entry::RunCancelled(_) => state.phase = RunPhase::Ended(RunStatus::Cancelled),
    }
}
