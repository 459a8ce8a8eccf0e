//! A second opinion: what a second model sees of a call, how its answers become one opinion, and what an objection
//! leads to.
//!
//! It sees the canonical action and the text that actors typed, and nothing else: no result of a tool, no text of the
//! model whose call it is, no untrusted text. So a model that has not read deceiving text judges the call of one that
//! may have. The calling model wrote the arguments, so they may still deceive this one: the opinion helps, but is no
//! security boundary. Hence it makes a verdict stricter and never milder.
//!
//! This module calls no model; the owner does.

use std::sync::Arc;

use dromia_contracts::Actor;
use dromia_contracts::ErrorCode;
use dromia_contracts::client::SamplingOptions;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::gate::GateVerdict;
use dromia_contracts::input::ManualCall;
use dromia_contracts::label::Label;
use dromia_contracts::model::{DeltaSink, ModelError, ModelReply, ModelRequest, PreparedAttempt, TokenUsage};
use dromia_contracts::opinion::{ModelOpinion, OpinionVote};
use dromia_contracts::tool::{PreparedCall, ToolDescriptor};
use dromia_contracts::transcript::Transcript;
use serde_json::Value;

use crate::config::{OPINION_SECONDS, OPINION_TYPED_BYTES_MAX, ObjectionAction, SecondOpinion};
use crate::decide::OpinionResult;
use crate::endorse::typed_texts;

/// The rule that asks about, delays or refuses a call that a second model does not agree to.
pub(crate) const RULE: &str = "second-opinion";

/// The system text of a second model.
const SYSTEM: &str = include_str!("opinion/system.md");

/// A sink that drops the live text of a second model, which has no watchers.
pub(crate) struct NullDeltaSink;

impl DeltaSink for NullDeltaSink {
    fn push_delta(&self, _: &str) {}
}

/// Returns whether an objection would make a verdict stricter. If not, no model need be asked.
pub(crate) fn could_change(verdict: &GateVerdict, objection: ObjectionAction) -> bool {
    match verdict {
        GateVerdict::Allow { .. } => true,
        GateVerdict::Delay { .. } => objection != ObjectionAction::Delay,
        // A person decides anyway, or the call is denied anyway.
        GateVerdict::Ask { .. } | GateVerdict::Deny { .. } => false,
    }
}

/// Applies an opinion: a verdict stays as it is, or becomes what an objection leads to, whichever is stricter.
pub(crate) fn with_opinion(
    verdict: GateVerdict,
    opinion: &ModelOpinion,
    objection: ObjectionAction,
) -> GateVerdict {
    if opinion.agrees() || !could_change(&verdict, objection) {
        return verdict;
    }
    let (GateVerdict::Allow { policy, .. }
    | GateVerdict::Delay { policy, .. }
    | GateVerdict::Ask { policy, .. }
    | GateVerdict::Deny { policy, .. }) = verdict;
    let rule = RULE.to_owned();
    // What went wrong is for the operator, who finds it with the opinion, and not for the model whose call it is.
    let ModelOpinion { go, stop, neither, agree, .. } = opinion;
    let reason = format!(
        "a second model does not agree: {go} go, {stop} stop, {neither} neither, and {agree} go are needed"
    );
    match objection {
        ObjectionAction::Delay => GateVerdict::Delay { rule, reason, policy },
        ObjectionAction::Ask => GateVerdict::Ask { rule, reason, policy },
        ObjectionAction::Abort => {
            let reason = format!("{reason}. Nothing was done. Do not try again: say what you meant to do.");
            GateVerdict::Deny { rule, reason, policy }
        }
    }
}

/// Puts the request together. `asked` is the call as an actor requested it by hand, `label` the label of its context.
pub(crate) fn build_opinion_request(
    second: &SecondOpinion,
    transcript: &Transcript,
    asked: Option<&ManualCall>,
    call: &PreparedCall,
    label: Label,
    output_tokens_max: u32,
    key: String,
) -> ModelRequest {
    let mut conversation = Transcript::default();
    let parts = vec![ContentPart::new_text(opinion_prompt(transcript, asked, call), label)];
    conversation.push_input(InputMessage { author: Actor::new("engine"), parts, hops: 0 });
    ModelRequest {
        model: second.model.clone(),
        system: Arc::from(SYSTEM.trim_end()),
        transcript: conversation,
        tools: Vec::<ToolDescriptor>::new().into(),
        output_tokens_max,
        wishes: SamplingOptions::default(),
        key,
    }
}

/// Writes what a second model is shown, as one line of JSON, so that no text of it can pass for another.
fn opinion_prompt(transcript: &Transcript, asked: Option<&ManualCall>, call: &PreparedCall) -> String {
    // What is no JSON is shown as the text that it is.
    let arguments =
        serde_json::from_str(&call.arguments).unwrap_or_else(|_| Value::from(call.arguments.as_str()));
    let mut action = serde_json::json!({ "tool": call.tool, "arguments": arguments });
    if let Some(reaches) = &call.reaches {
        action["reaches"] = serde_json::json!({
            "method": reaches.method.as_str(),
            "url": reaches.url,
            "secrets": reaches.secrets,
        });
    }
    let mut room = OPINION_TYPED_BYTES_MAX;
    let mut said = Vec::new();
    let mut left_out = 0_u32;
    // The actor of a manual call typed it.
    let by_hand = asked.map(|asked| format!("{} {}", asked.tool, asked.arguments));
    let before = transcript.turns().iter().rev().flat_map(|turn| typed_texts(turn).into_iter().rev());
    for text in by_hand.as_deref().into_iter().chain(before) {
        match room.checked_sub(text.len()) {
            Some(left) if left_out == 0 => {
                room = left;
                said.push(text);
            }
            // Without a gap: what is shown is all of the newest.
            Some(_) | None => left_out += 1,
        }
    }
    said.reverse();
    serde_json::json!({ "action": action, "said": said, "left_out": left_out }).to_string()
}

/// One answer: what came of it in time, if anything did.
pub(crate) type Answer = Option<Result<ModelReply, ModelError>>;

/// Concludes an opinion, and sums what its answers cost. An answer for which the model may or may not have worked costs
/// its reservation.
pub(crate) fn conclude_opinion(
    second: &SecondOpinion,
    prepared: &PreparedAttempt,
    answers: Vec<Answer>,
) -> OpinionResult {
    let reserved_tokens = u64::from(prepared.input_tokens) + u64::from(prepared.output_tokens_max);
    let (mut usage, mut tokens, mut cost_micros) = (TokenUsage::default(), 0_u64, 0_u64);
    let (mut words, mut problem) = (Vec::new(), None);
    for answer in answers {
        let error = match answer {
            Some(Ok(reply)) => {
                words.push(OpinionVote::from_reply(&reply));
                usage.input_tokens = usage.input_tokens.saturating_add(reply.usage.input_tokens);
                usage.output_tokens = usage.output_tokens.saturating_add(reply.usage.output_tokens);
                tokens = tokens
                    .saturating_add(reply.usage.input_tokens.into())
                    .saturating_add(reply.usage.output_tokens.into());
                cost_micros = cost_micros.saturating_add(reply.cost_micros);
                continue;
            }
            Some(Err(error)) => error,
            None => ModelError {
                code: ErrorCode::ModelCut,
                message: format!("no answer within {OPINION_SECONDS} s"),
                retry_after: None,
            },
        };
        words.push(OpinionVote::Neither);
        // What the provider refused or never took costs nothing.
        if !matches!(
            error.code,
            ErrorCode::ModelUnavailable | ErrorCode::ModelRejected | ErrorCode::ContextExceeded
        ) {
            tokens = tokens.saturating_add(reserved_tokens);
            cost_micros = cost_micros.saturating_add(prepared.reserved_micros);
        }
        problem = problem.or(Some(error.message));
    }
    let opinion = ModelOpinion::count_votes(&second.model, second.samples, second.agree, words);
    let opinion = match problem {
        Some(problem) => opinion.with_problem(&problem),
        None => opinion,
    };
    OpinionResult { opinion, usage, tokens, cost_micros }
}

#[cfg(test)]
mod tests;
