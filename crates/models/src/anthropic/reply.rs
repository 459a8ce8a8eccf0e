//! An Anthropic message, whole or as a stream of events.

use dromia_contracts::model::{Deltas, Finish, ModelError, Usage, UsageDetail};
use serde::Deserialize;

use crate::http::{CallPiece, Draft, cut, withheld};

/// Takes a whole answer.
pub(crate) fn take_whole(draft: &mut Draft, json: &[u8], deltas: &dyn Deltas) -> Result<(), ModelError> {
    let message: Message = serde_json::from_slice(json).map_err(unreadable)?;
    for (index, block) in (0..).zip(message.content) {
        take_block(draft, index, block, deltas)?;
    }
    draft.usage = Some(message.usage.unwrap_or_default().counted());
    stopped(draft, message.stop_reason.as_deref(), message.stop_sequence)
}

/// Takes one event of a stream.
pub(crate) fn take_event(draft: &mut Draft, json: &[u8], deltas: &dyn Deltas) -> Result<(), ModelError> {
    match serde_json::from_slice(json).map_err(unreadable)? {
        Event::MessageStart { message } => {
            draft.usage = message.usage.map(WireUsage::counted);
            Ok(())
        }
        Event::ContentBlockStart { index, content_block } => take_block(draft, index, content_block, deltas),
        Event::ContentBlockDelta { index, delta } => match delta {
            Delta::Text { text } => draft.say(text, deltas),
            Delta::InputJson { partial_json } => draft.take_call(CallPiece {
                index: Some(index),
                arguments: partial_json,
                ..CallPiece::default()
            }),
            Delta::Other => Ok(()),
        },
        Event::MessageDelta { delta, usage } => {
            if let (Some((counted, _)), Some(usage)) = (&mut draft.usage, usage) {
                counted.output_tokens = usage.output_tokens;
            }
            stopped(draft, delta.stop_reason.as_deref(), delta.stop_sequence)
        }
        Event::MessageStop => {
            draft.done = true;
            Ok(())
        }
        Event::Error => Err(cut("the model's server reported an error in the middle of its answer")),
        Event::Other => Ok(()),
    }
}

fn unreadable(_: serde_json::Error) -> ModelError {
    cut("the model's answer is not the expected JSON")
}

fn take_block(
    draft: &mut Draft,
    index: u32,
    block: ContentBlock,
    deltas: &dyn Deltas,
) -> Result<(), ModelError> {
    match block {
        ContentBlock::Text { text } => draft.say(text, deltas),
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

fn stopped(draft: &mut Draft, reason: Option<&str>, sequence: Option<String>) -> Result<(), ModelError> {
    let Some(reason) = reason else { return Ok(()) };
    draft.stopped_at = sequence.filter(|_| reason == "stop_sequence");
    draft.finish = Some(match reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => return Err(withheld("refusal")),
        _ => Finish::Stop,
    });
    Ok(())
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Vec<ContentBlock>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: u32,
        content_block: ContentBlock,
    },
    ContentBlockDelta {
        index: u32,
        delta: Delta,
    },
    MessageDelta {
        delta: Stopped,
        #[serde(default)]
        usage: Option<WireUsage>,
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
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Stopped {
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
struct WireUsage {
    #[serde(default)]
    input_tokens: u32,
    #[serde(default)]
    output_tokens: u32,
    #[serde(default)]
    cache_creation_input_tokens: Option<u32>,
    #[serde(default)]
    cache_read_input_tokens: Option<u32>,
}

impl WireUsage {
    /// The provider counts what its cache did beside the input; we count it within.
    fn counted(self) -> (Usage, UsageDetail) {
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let input_tokens = self.input_tokens.saturating_add(read).saturating_add(written);
        let detail =
            UsageDetail { cache_read_tokens: read, cache_write_tokens: written, reasoning_tokens: 0 };
        (Usage { input_tokens, output_tokens: self.output_tokens }, detail)
    }
}
