//! What a model attempt leads to: the entries of a call, of an answer and of a failure.

use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::content::{AssistantMessage, CallStatus, ContentPart, ToolCall};
use dromia_contracts::entry::{
    Entry, ModelCalled, ModelFailed, ModelReplied, ParkReason, RunParked, WithheldReply,
};
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::model::{ModelError, ModelReply, ProposedCall};
use dromia_contracts::{CallId, ErrorCode};
use jiff::SignedDuration;

use super::call::RefusalSource;
use super::{ATTEMPTS_MAX, BODY_BYTES_MAX, CALLS_MAX, DecisionDraft, NextAction, PlannedRequest, to_body};
use crate::state::RunPhase;

impl DecisionDraft {
    pub(super) fn call_model(&mut self, plan: PlannedRequest) -> NextAction {
        let RunPhase::StepDue { step, failed, .. } = self.state.phase else { return self.go_on() };
        self.push_entry(Entry::ModelCalled(ModelCalled {
            step,
            attempt: failed + 1,
            model: plan.model,
            history_from: plan.history_from,
            input_tokens: plan.input_tokens,
            output_tokens_max: plan.output_tokens_max,
            reserved_micros: plan.reserved_micros,
            unpriced: plan.unpriced,
            sent: plan.sent,
            judged: None,
        }));
        NextAction::CallModel
    }

    /// Ends a run whose next request cannot be sent. While calls or an attempt are open none is due.
    pub(super) fn fail_unsendable(&mut self, error: ModelError) -> NextAction {
        let RunPhase::StepDue { .. } = self.state.phase else { return self.go_on() };
        self.fail_run(error.code, error.message)
    }

    pub(super) fn accept_reply(
        &mut self,
        reply: ModelReply,
        label: Label,
        unfit: Option<String>,
    ) -> NextAction {
        let RunPhase::ModelOpen { step, attempt, .. } = self.state.phase else { return self.go_on() };
        let call = |(index, proposed): (usize, ProposedCall)| ToolCall {
            id: CallId { step, index: to_u32(index) },
            tool: proposed.tool,
            arguments: proposed.arguments,
        };
        let parts =
            if reply.text.is_empty() { vec![] } else { vec![ContentPart::new_text(reply.text, label)] };
        let mut message =
            AssistantMessage { parts, calls: reply.calls.into_iter().enumerate().map(call).collect() };
        let dropped = drop_oversized(&mut message);
        let body = to_body(&message);
        if message.calls.len() > CALLS_MAX || body.len() > BODY_BYTES_MAX {
            let error = ModelError {
                code: ErrorCode::ModelCut,
                message: format!("the answer has {} calls and {} bytes", message.calls.len(), body.len()),
                retry_after: None,
            };
            return self.retry_or_fail(&error, true);
        }
        let replied = ModelReplied {
            step,
            attempt,
            usage: reply.usage,
            detail: reply.detail,
            cost_micros: reply.cost_micros,
            finish: reply.finish,
            stopped_at: reply.stopped_at,
            tools: message.calls.iter().map(|call| call.tool.clone()).collect(),
            clean: label.integrity == IntegrityLevel::Trusted,
            withheld: unfit.map(|reason| WithheldReply { rule: AnswerFormat::RULE.to_owned(), reason }),
            masked: Vec::new(),
        };
        self.push_with(Entry::ModelReplied(replied), Some(body));
        for (call, bytes) in dropped {
            let tool =
                message.calls.get(call.index as usize).map_or_else(String::new, |call| call.tool.clone());
            let text = format!(
                "Nothing ran: the arguments of this call had {bytes} bytes, too many to keep. Send less at a time: \
                 write a first piece, and append the others."
            );
            self.refuse_call(call, tool, CallStatus::Error, RefusalSource::default(), &text);
        }
        self.go_on()
    }

    /// Writes down an attempt without a whole answer. One of which a part came is charged as one that was cut, whatever
    /// ended it.
    pub(super) fn retry_or_fail(&mut self, error: &ModelError, has_begun: bool) -> NextAction {
        let RunPhase::ModelOpen { step, attempt, reserved_micros, .. } = self.state.phase else {
            return self.go_on();
        };
        // An attempt that was not made, or that the provider refused or never took, costs nothing; one that was cut may
        // have cost all.
        let code = if has_begun { ErrorCode::ModelCut } else { error.code };
        let charged_micros = match code {
            ErrorCode::ModelUnavailable
            | ErrorCode::ModelRejected
            | ErrorCode::ContextExceeded
            | ErrorCode::ActionDenied => 0,
            _ => reserved_micros,
        };
        self.push_entry(Entry::ModelFailed(ModelFailed {
            step,
            attempt,
            attempts_max: Some(ATTEMPTS_MAX),
            code,
            message: error.message.clone(),
            charged_micros,
            judged: None,
        }));
        // The gate refuses the same again, the model's server too, and the request would be as long.
        let is_final = matches!(
            error.code,
            ErrorCode::ActionDenied | ErrorCode::ModelRejected | ErrorCode::ContextExceeded
        );
        if is_final || attempt >= ATTEMPTS_MAX {
            let told = match attempt {
                1 => error.message.clone(),
                _ => format!("all {attempt} attempts failed, the last one with: {}", error.message),
            };
            return self.fail_run(error.code, told);
        }
        let delay = error.retry_after.and_then(|delay| SignedDuration::try_from(delay).ok());
        let delay = delay.unwrap_or_else(|| SignedDuration::from_millis(250 << attempt.min(8)));
        let delay = delay.min(SignedDuration::from_mins(15));
        let until = self.at.checked_add(delay).unwrap_or(self.at);
        self.push_entry(Entry::RunParked(RunParked { park: ParkReason::Retry { until } }));
        NextAction::Rest
    }
}

/// Empties the longest arguments of an answer that is too long to be kept, so that the model gets an error result
/// instead of a repeated request. Returns which calls lost how many bytes.
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

/// The replacement for arguments that were not kept; providers accept only JSON.
const EMPTY_ARGUMENTS: &str = "{}";

/// A message has at most [`CALLS_MAX`] calls, so the cast has no failing case.
fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
