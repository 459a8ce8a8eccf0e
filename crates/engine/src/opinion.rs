//! A second opinion: what a second model is shown of a call, how its answers come to one, and what an objection leads to.
//!
//! It is shown the canonical action and what actors typed, and nothing else: no result of a tool, no word of the model whose
//! call it is, no text that nobody here vouches for. Who read something deceiving asks one who did not. The arguments were
//! written by the model, so they may still be made to deceive this one too: it is a help and no wall. Hence an opinion makes
//! a verdict stricter and never milder.
//!
//! Nothing here asks anybody; that is the owner's part.

use std::sync::Arc;

use dromia_contracts::Actor;
use dromia_contracts::ErrorCode;
use dromia_contracts::client::Wishes;
use dromia_contracts::content::{InputMessage, Part};
use dromia_contracts::gate::Verdict;
use dromia_contracts::input::AskedCall;
use dromia_contracts::label::Label;
use dromia_contracts::model::{Deltas, ModelError, ModelReply, ModelRequest, Prepared, Usage};
use dromia_contracts::opinion::{Opinion, Word};
use dromia_contracts::tool::{PreparedCall, ToolDescriptor};
use dromia_contracts::transcript::Transcript;
use serde_json::Value;

use crate::config::{OPINION_SECONDS, OPINION_TYPED_BYTES_MAX, Objection, SecondOpinion};
use crate::decide::Consulted;
use crate::endorse::typed;

/// The rule that asks about, delays or refuses a call that a second model does not agree to.
pub(crate) const RULE: &str = "second-opinion";

/// What a second model is told to do.
const SYSTEM: &str = include_str!("opinion/system.md");

/// Nobody watches the answers of a second model.
pub(crate) struct Unheard;

impl Deltas for Unheard {
    fn push(&self, _: &str) {}
}

/// Tells whether an objection would make a verdict stricter. Where it would not, nobody need be asked.
pub(crate) fn could_change(verdict: &Verdict, objection: Objection) -> bool {
    match verdict {
        Verdict::Allow { .. } => true,
        Verdict::Delay { .. } => objection != Objection::Delay,
        // A person looks anyway, or nobody may.
        Verdict::Ask { .. } | Verdict::Deny { .. } => false,
    }
}

/// Lets an opinion count: a verdict stays as it is, or becomes what an objection leads to, whichever is stricter.
pub(crate) fn with_opinion(verdict: Verdict, opinion: &Opinion, objection: Objection) -> Verdict {
    if opinion.agrees() || !could_change(&verdict, objection) {
        return verdict;
    }
    let (Verdict::Allow { policy, .. }
    | Verdict::Delay { policy, .. }
    | Verdict::Ask { policy, .. }
    | Verdict::Deny { policy, .. }) = verdict;
    let rule = RULE.to_owned();
    // What went wrong is for the operator, who finds it with the opinion, and not for the model whose call it is.
    let Opinion { go, stop, neither, agree, .. } = opinion;
    let reason = format!(
        "a second model does not agree to it: {go} go, {stop} stop, {neither} neither, and {agree} go are needed"
    );
    match objection {
        Objection::Delay => Verdict::Delay { rule, reason, policy },
        Objection::Ask => Verdict::Ask { rule, reason, policy },
        Objection::Abort => {
            let reason = format!("{reason}. Nothing was done. Do not try again: say what you meant to do.");
            Verdict::Deny { rule, reason, policy }
        }
    }
}

/// Puts the request together. `asked` is the call as somebody asked for it by hand, `label` that of what led to it.
pub(crate) fn request(
    second: &SecondOpinion,
    transcript: &Transcript,
    asked: Option<&AskedCall>,
    call: &PreparedCall,
    label: Label,
    output_tokens_max: u32,
    key: String,
) -> ModelRequest {
    let mut conversation = Transcript::default();
    let parts = vec![Part::text(shown(transcript, asked, call), label)];
    conversation.push_input(InputMessage { author: Actor::new("engine"), parts, hops: 0 });
    ModelRequest {
        model: second.model.clone(),
        system: Arc::from(SYSTEM.trim_end()),
        transcript: conversation,
        tools: Vec::<ToolDescriptor>::new().into(),
        output_tokens_max,
        wishes: Wishes::default(),
        key,
    }
}

/// Writes what a second model is shown, as one line of JSON, so that no text of it can pass for another.
fn shown(transcript: &Transcript, asked: Option<&AskedCall>, call: &PreparedCall) -> String {
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
    // Whoever asks for a call by hand typed it.
    let by_hand = asked.map(|asked| format!("{} {}", asked.tool, asked.arguments));
    let before = transcript.turns().iter().rev().flat_map(|turn| typed(turn).into_iter().rev());
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

/// Comes to an opinion, and says what its answers took. One of which nobody knows whether the model worked for it costs what
/// was reserved for it.
pub(crate) fn consulted(second: &SecondOpinion, prepared: &Prepared, answers: Vec<Answer>) -> Consulted {
    let reserved_tokens = u64::from(prepared.input_tokens) + u64::from(prepared.output_tokens_max);
    let (mut usage, mut tokens, mut cost_micros) = (Usage::default(), 0_u64, 0_u64);
    let (mut words, mut problem) = (Vec::new(), None);
    for answer in answers {
        let error = match answer {
            Some(Ok(reply)) => {
                words.push(Word::of(&reply));
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
        words.push(Word::Neither);
        // What the provider refused or never took costs nothing.
        if !matches!(error.code, ErrorCode::ModelUnavailable | ErrorCode::ModelRejected) {
            tokens = tokens.saturating_add(reserved_tokens);
            cost_micros = cost_micros.saturating_add(prepared.reserved_micros);
        }
        problem = problem.or(Some(error.message));
    }
    let opinion = Opinion::count(&second.model, second.samples, second.agree, words);
    let opinion = match problem {
        Some(problem) => opinion.with_problem(&problem),
        None => opinion,
    };
    Consulted { opinion, usage, tokens, cost_micros }
}

#[cfg(test)]
mod tests;
