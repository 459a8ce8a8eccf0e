//! A response, whole or as a stream of events. A stream ends with the whole response, which is what counts; the
//! pieces before it are for whoever watches.

use dromia_contracts::model::{Deltas, Finish, ModelError, Usage, UsageDetail};
use serde::Deserialize;

use crate::http::{CallPiece, Draft, cut, withheld};

/// Takes a whole answer.
pub(crate) fn take_whole(draft: &mut Draft, json: &[u8], deltas: &dyn Deltas) -> Result<(), ModelError> {
    take_response(draft, serde_json::from_slice(json).map_err(unreadable)?, deltas)
}

/// Takes one event of a stream.
pub(crate) fn take_event(draft: &mut Draft, json: &[u8], deltas: &dyn Deltas) -> Result<(), ModelError> {
    match serde_json::from_slice(json).map_err(unreadable)? {
        Event::Text { delta } => draft.say(delta, deltas),
        Event::Completed { response } | Event::Incomplete { response } => {
            draft.done = true;
            take_response(draft, response, deltas)
        }
        Event::Failed | Event::Error => Err(failed()),
        Event::Other => Ok(()),
    }
}

fn unreadable(_: serde_json::Error) -> ModelError {
    cut("the model's answer is not the expected JSON")
}

fn failed() -> ModelError {
    cut("the model's server reported an error in the middle of its answer")
}

fn take_response(draft: &mut Draft, response: Response, deltas: &dyn Deltas) -> Result<(), ModelError> {
    let incomplete = response.incomplete_details.and_then(|details| details.reason);
    draft.finish = Some(match (response.status.as_str(), incomplete.as_deref()) {
        ("completed", _) => Finish::Stop,
        ("incomplete", Some("content_filter")) => return Err(withheld("content_filter")),
        ("incomplete", _) => Finish::Length,
        _ => return Err(failed()),
    });
    draft.usage = response.usage.map(WireUsage::counted);
    let mut text = String::new();
    for (index, item) in (0..).zip(response.output) {
        match item {
            Output::Message { content } => {
                for part in content {
                    match part {
                        Content::OutputText { text: piece } => text.push_str(&piece),
                        Content::Refusal { .. } => return Err(withheld("refusal")),
                        Content::Other => {}
                    }
                }
            }
            Output::FunctionCall { call_id, name, arguments } => {
                draft.take_call(CallPiece { index: Some(index), id: call_id, name, arguments })?;
            }
            Output::Other => {}
        }
    }
    draft.said_in_all(text, deltas)
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Event {
    #[serde(rename = "response.output_text.delta")]
    Text { delta: String },
    #[serde(rename = "response.completed")]
    Completed { response: Response },
    #[serde(rename = "response.incomplete")]
    Incomplete { response: Response },
    #[serde(rename = "response.failed")]
    Failed,
    #[serde(rename = "error")]
    Error,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Response {
    status: String,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    #[serde(default)]
    output: Vec<Output>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Output {
    Message {
        #[serde(default)]
        content: Vec<Content>,
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
enum Content {
    OutputText {
        text: String,
    },
    Refusal {},
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct WireUsage {
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

impl WireUsage {
    fn counted(self) -> (Usage, UsageDetail) {
        let usage = Usage { input_tokens: self.input_tokens, output_tokens: self.output_tokens };
        let detail = UsageDetail {
            cache_read_tokens: self.input_tokens_details.unwrap_or_default().cached_tokens,
            cache_write_tokens: 0,
            reasoning_tokens: self.output_tokens_details.unwrap_or_default().reasoning_tokens,
        };
        (usage, detail)
    }
}
