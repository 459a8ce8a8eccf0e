//! A response, whole or as a stream of events. A stream ends with the whole response, which is what counts; the pieces
//! before it are for live viewers.

use dromia_contracts::model::{DeltaSink, FinishReason, ModelError, TokenUsage, UsageDetail};
use serde::Deserialize;

use crate::http::{CallPiece, ReplyDraft, cut_error, reported_error, withheld_error};

/// Takes a whole answer.
pub(crate) fn take_whole(
    draft: &mut ReplyDraft,
    json: &[u8],
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    take_response(draft, json, serde_json::from_slice(json).map_err(unreadable_error)?, deltas)
}

/// Takes one event of a stream.
pub(crate) fn take_event(
    draft: &mut ReplyDraft,
    json: &[u8],
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    match serde_json::from_slice(json).map_err(unreadable_error)? {
        ResponsesEvent::Text { delta } => draft.add_text(delta, deltas),
        ResponsesEvent::Completed { response } | ResponsesEvent::Incomplete { response } => {
            draft.done = true;
            take_response(draft, json, response, deltas)
        }
        ResponsesEvent::Failed | ResponsesEvent::Error => Err(reported_error(json)),
        ResponsesEvent::Other => Ok(()),
    }
}

fn unreadable_error(_: serde_json::Error) -> ModelError {
    cut_error("the model's answer is not the expected JSON")
}

fn take_response(
    draft: &mut ReplyDraft,
    json: &[u8],
    response: ResponsesReply,
    deltas: &dyn DeltaSink,
) -> Result<(), ModelError> {
    let incomplete = response.incomplete_details.and_then(|details| details.reason);
    draft.finish = Some(match (response.status.as_str(), incomplete.as_deref()) {
        ("completed", _) => FinishReason::Stop,
        ("incomplete", Some("content_filter")) => return Err(withheld_error("content_filter")),
        ("incomplete", _) => FinishReason::Length,
        _ => return Err(reported_error(json)),
    });
    draft.usage = response.usage.map(ResponsesUsage::to_token_usage);
    let mut text = String::new();
    for (index, item) in (0..).zip(response.output) {
        match item {
            ResponsesOutput::Message { content } => {
                for part in content {
                    match part {
                        ResponsesOutputContent::OutputText { text: piece } => text.push_str(&piece),
                        ResponsesOutputContent::Refusal { .. } => return Err(withheld_error("refusal")),
                        ResponsesOutputContent::Other => {}
                    }
                }
            }
            ResponsesOutput::FunctionCall { call_id, name, arguments } => {
                draft.take_call(CallPiece { index: Some(index), id: call_id, name, arguments })?;
            }
            ResponsesOutput::Other => {}
        }
    }
    draft.said_in_all(text, deltas)
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum ResponsesEvent {
    #[serde(rename = "response.output_text.delta")]
    Text { delta: String },
    #[serde(rename = "response.completed")]
    Completed { response: ResponsesReply },
    #[serde(rename = "response.incomplete")]
    Incomplete { response: ResponsesReply },
    #[serde(rename = "response.failed")]
    Failed,
    #[serde(rename = "error")]
    Error,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct ResponsesReply {
    /// Absent where a server answers with an error alone.
    #[serde(default)]
    status: String,
    #[serde(default)]
    incomplete_details: Option<IncompleteDetails>,
    #[serde(default)]
    output: Vec<ResponsesOutput>,
    #[serde(default)]
    usage: Option<ResponsesUsage>,
}

#[derive(Deserialize)]
struct IncompleteDetails {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponsesOutput {
    Message {
        #[serde(default)]
        content: Vec<ResponsesOutputContent>,
    },
    FunctionCall {
        call_id: String,
        name: String,
        #[serde(default)]
        arguments: String,
    },
    /// Reasoning, which the conversation does not keep, or what is not known yet.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponsesOutputContent {
    OutputText {
        text: String,
    },
    Refusal {},
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct ResponsesUsage {
    #[serde(default)]
    input_tokens: u32,
    #[serde(default)]
    output_tokens: u32,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: u32,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: u32,
}

impl ResponsesUsage {
    fn to_token_usage(self) -> (TokenUsage, UsageDetail) {
        let usage = TokenUsage { input_tokens: self.input_tokens, output_tokens: self.output_tokens };
        let detail = UsageDetail {
            cache_read_tokens: self.input_tokens_details.unwrap_or_default().cached_tokens,
            cache_write_tokens: 0,
            reasoning_tokens: self.output_tokens_details.unwrap_or_default().reasoning_tokens,
        };
        (usage, detail)
    }
}
