//! An Anthropic message, whole or as a stream of events.

use dromia_contracts::model::{DeltaSink, FinishReason, ModelError, TokenUsage, UsageDetail};
use serde::Deserialize;

use crate::http::{CallPiece, ReplyDraft, cut_error, reported_error, withheld_error};

/// Takes a whole answer.
pub(crate) fn take_whole(
    draft: &mut ReplyDraft,
    json: &[u8],
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    let message: AnthropicReply = serde_json::from_slice(json).map_err(unreadable_error)?;
    if message.error.is_some() {
        return Err(reported_error(json));
    }
    for (index, block) in (0..).zip(message.content) {
        take_block(draft, index, block, deltas)?;
    }
    draft.usage = Some(message.usage.unwrap_or_default().to_token_usage());
    take_stop(draft, message.stop_reason.as_deref(), message.stop_sequence)
}

/// Takes one event of a stream.
pub(crate) fn take_event(
    draft: &mut ReplyDraft,
    json: &[u8],
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    match serde_json::from_slice(json).map_err(unreadable_error)? {
        AnthropicEvent::MessageStart { message } => {
            draft.usage = message.usage.map(AnthropicUsage::to_token_usage);
            Ok(())
        }
        AnthropicEvent::ContentBlockStart { index, content_block } => {
            take_block(draft, index, content_block, deltas)
        }
        AnthropicEvent::ContentBlockDelta { index, delta } => match delta {
            AnthropicDelta::Text { text } => draft.add_text(text, deltas),
            AnthropicDelta::InputJson { partial_json } => draft.take_call(CallPiece {
                index: Some(index),
                arguments: partial_json,
                ..CallPiece::default()
            }),
            AnthropicDelta::Other => Ok(()),
        },
        AnthropicEvent::MessageDelta { delta, usage } => {
            if let (Some((counted, _)), Some(usage)) = (&mut draft.usage, usage) {
                counted.output_tokens = usage.output_tokens;
            }
            take_stop(draft, delta.stop_reason.as_deref(), delta.stop_sequence)
        }
        AnthropicEvent::MessageStop => {
            draft.done = true;
            Ok(())
        }
        AnthropicEvent::Error => Err(reported_error(json)),
        AnthropicEvent::Other => Ok(()),
    }
}

fn unreadable_error(_: serde_json::Error) -> ModelError {
    cut_error("the model's answer is not the expected JSON")
}

fn take_block(
    draft: &mut ReplyDraft,
    index: u32,
    block: ContentBlock,
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    match block {
        ContentBlock::Text { text } => draft.add_text(text, deltas),
        ContentBlock::ToolUse { id, name, input } => {
            // A stream begins a call with an empty object, whose text follows in pieces.
            let arguments = match input {
                Some(serde_json::Value::Object(input)) if !input.is_empty() => {
                    serde_json::Value::Object(input).to_string()
                }
                _ => String::new(),
            };
            draft.take_call(CallPiece { index: Some(index), id, name, arguments })
        }
        ContentBlock::Other => Ok(()),
    }
}

fn take_stop(
    draft: &mut ReplyDraft,
    reason: Option<&str>,
    sequence: Option<String>,
) -> Result<(), ModelError> {
    let Some(reason) = reason else { return Ok(()) };
    draft.stopped_at = sequence.filter(|_| reason == "stop_sequence");
    draft.finish = Some(match reason {
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => return Err(withheld_error("refusal")),
        _ => FinishReason::Stop,
    });
    Ok(())
}

#[derive(Deserialize)]
struct AnthropicReply {
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    content: Vec<ContentBlock>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    usage: Option<AnthropicUsage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnthropicEvent {
    MessageStart {
        message: AnthropicReply,
    },
    ContentBlockStart {
        index: u32,
        content_block: ContentBlock,
    },
    ContentBlockDelta {
        index: u32,
        delta: AnthropicDelta,
    },
    MessageDelta {
        delta: AnthropicStop,
        #[serde(default)]
        usage: Option<AnthropicUsage>,
    },
    MessageStop,
    Error,
    /// A ping, the end of a block, or what is not known yet.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ContentBlock {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Option<serde_json::Value>,
    },
    /// Thinking, which the conversation does not keep, or what is not known yet.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum AnthropicDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct AnthropicStop {
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
struct AnthropicUsage {
    #[serde(default)]
    input_tokens: u32,
    #[serde(default)]
    output_tokens: u32,
    #[serde(default)]
    cache_creation_input_tokens: Option<u32>,
    #[serde(default)]
    cache_read_input_tokens: Option<u32>,
}

impl AnthropicUsage {
    /// The provider counts what its cache did beside the input; we count it within.
    fn to_token_usage(self) -> (TokenUsage, UsageDetail) {
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let input_tokens = self.input_tokens.saturating_add(read).saturating_add(written);
        let detail =
            UsageDetail { cache_read_tokens: read, cache_write_tokens: written, reasoning_tokens: 0 };
        (TokenUsage { input_tokens, output_tokens: self.output_tokens }, detail)
    }
}
