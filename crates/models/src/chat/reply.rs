//! A chat completion, whole or in chunks; the two differ in one field's name.

use dromia_contracts::model::{DeltaSink, FinishReason, ModelError, TokenUsage, UsageDetail};
use serde::Deserialize;
use serde_json::Value;

use crate::http::{CallPiece, ReplyDraft, cut_error, reported_error, withheld_error};

/// Takes a chunk of a stream or a whole answer.
pub(crate) fn take_completion(
    draft: &mut ReplyDraft,
    json: &[u8],
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    let answer: ChatCompletion =
        serde_json::from_slice(json).map_err(|_| cut_error("the model's answer is not the expected JSON"))?;
    if answer.error.is_some() || answer.object.as_deref() == Some("error") {
        return Err(reported_error(json));
    }
    draft.usage = answer.usage.map(ChatUsage::to_token_usage).or(draft.usage.take());
    // Only one choice is asked for.
    let Some(choice) = answer.choices.and_then(|choices| choices.into_iter().next()) else {
        return Ok(());
    };
    if let Some(said) = choice.message {
        draft.add_text(said.content.unwrap_or_default(), deltas)?;
        for piece in said.tool_calls.into_iter().flatten() {
            let function = piece.function.unwrap_or_default();
            draft.take_call(CallPiece {
                index: piece.index,
                id: piece.id.unwrap_or_default(),
                name: function.name.unwrap_or_default(),
                arguments: function.arguments.unwrap_or_default(),
            })?;
        }
    }
    if let Some(reason) = choice.finish_reason {
        draft.finish = Some(match reason.as_str() {
            "length" => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            "content_filter" => return Err(withheld_error("content_filter")),
            _ => FinishReason::Stop,
        });
        // vLLM says it; OpenAI does not.
        draft.stopped_at = match choice.stop_reason {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
    }
    Ok(())
}

#[derive(Deserialize)]
struct ChatCompletion {
    #[serde(default)]
    choices: Option<Vec<ChatChoice>>,
    #[serde(default)]
    usage: Option<ChatUsage>,
    /// `error` where the fields of an error are at the top.
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ChatChoice {
    #[serde(default, alias = "delta")]
    message: Option<ChatDelta>,
    #[serde(default)]
    finish_reason: Option<String>,
    /// A stop text, or the number of a token.
    #[serde(default)]
    stop_reason: Option<Value>,
}

#[derive(Deserialize)]
struct ChatDelta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    index: Option<u32>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<WireFunction>,
}

#[derive(Deserialize, Default)]
struct WireFunction {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct ChatUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u32>,
}

impl ChatUsage {
    fn to_token_usage(self) -> (TokenUsage, UsageDetail) {
        let usage = TokenUsage { input_tokens: self.prompt_tokens, output_tokens: self.completion_tokens };
        let detail = UsageDetail {
            cache_read_tokens: self.prompt_tokens_details.unwrap_or_default().cached_tokens.unwrap_or(0),
            cache_write_tokens: 0,
            reasoning_tokens: self
                .completion_tokens_details
                .unwrap_or_default()
                .reasoning_tokens
                .unwrap_or(0),
        };
        (usage, detail)
    }
}
