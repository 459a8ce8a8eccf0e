//! The provider's answer, whole or in chunks, gathered into our reply.
//!
//! A reply exists only when the provider said why it stopped: an answer without that was cut, however complete
//! it looks. What is gathered is bounded, whatever the provider sends.

use dromia_contracts::ErrorCode;
use dromia_contracts::model::{Deltas, Finish, ModelError, ModelReply, ProposedCall, Usage};
use serde::Deserialize;

use super::failure::cut;
use super::names;
use super::sse::SseError;
use crate::tokens;

/// The most bytes of text and arguments of one answer.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// The most calls of one answer.
const CALLS_MAX: usize = 128;

/// An answer as far as it came.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    calls: Vec<DraftCall>,
    bytes: usize,
    finish: Option<Finish>,
    usage: Option<WireUsage>,
    done: bool,
}

#[derive(Debug, Default)]
struct DraftCall {
    index: Option<u32>,
    id: String,
    name: String,
    arguments: String,
}

impl Draft {
    /// Tells whether the provider said that nothing follows.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes one event of a stream.
    pub(super) fn take_event(&mut self, data: &str, deltas: &dyn Deltas) -> Result<(), ModelError> {
        match data.trim() {
            "" => return Ok(()),
            "[DONE]" => {
                self.done = true;
                return Ok(());
            }
            _ => {}
        }
        self.take_json(data.as_bytes(), deltas)
    }

    /// Takes a chunk of a stream or a whole answer; the two differ in one field's name.
    pub(super) fn take_json(&mut self, json: &[u8], deltas: &dyn Deltas) -> Result<(), ModelError> {
        let answer: Answer =
            serde_json::from_slice(json).map_err(|_| cut("the model's answer is not the expected JSON"))?;
        if answer.error.is_some() {
            return Err(cut("the model's server reported an error in the middle of its answer"));
        }
        self.usage = answer.usage.or(self.usage.take());
        // Only one choice is asked for.
        let Some(choice) = answer.choices.and_then(|choices| choices.into_iter().next()) else {
            return Ok(());
        };
        if let Some(said) = choice.message {
            if let Some(text) = said.content.filter(|text| !text.is_empty()) {
                self.grow(text.len())?;
                deltas.push(&text);
                if self.text.is_empty() { self.text = text } else { self.text.push_str(&text) }
            }
            for piece in said.tool_calls.into_iter().flatten() {
                self.take_call(piece)?;
            }
        }
        if let Some(reason) = choice.finish_reason {
            self.finish = Some(match reason.as_str() {
                "length" => Finish::Length,
                "tool_calls" | "function_call" => Finish::ToolCalls,
                "content_filter" => {
                    let message = "the model's server withheld the answer (content_filter)".to_owned();
                    return Err(ModelError { code: ErrorCode::ModelRejected, message, retry_after: None });
                }
                _ => Finish::Stop,
            });
        }
        Ok(())
    }

    fn take_call(&mut self, piece: WireCall) -> Result<(), ModelError> {
        let id = piece.id.unwrap_or_default();
        // Most servers number the calls; some only repeat or leave out the id.
        let known = match piece.index {
            Some(index) => self.calls.iter_mut().find(|call| call.index == Some(index)),
            None if id.is_empty() => self.calls.last_mut(),
            None => self.calls.iter_mut().find(|call| call.id == id),
        };
        let function = piece.function.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let arguments = function.arguments.unwrap_or_default();
        let bytes = name.len() + arguments.len();
        if let Some(call) = known {
            call.name.push_str(&name);
            call.arguments.push_str(&arguments);
        } else if self.calls.len() == CALLS_MAX {
            return Err(cut(format!("the model asked for more than {CALLS_MAX} calls at once")));
        } else {
            self.calls.push(DraftCall { index: piece.index, id, name, arguments });
        }
        self.grow(bytes)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes += bytes;
        if self.bytes > REPLY_BYTES_MAX {
            return Err(cut("the model's answer is longer than any answer may be"));
        }
        Ok(())
    }

    /// Closes the answer. `input_tokens` is asked where the provider counted nothing.
    pub(super) fn into_reply(self, input_tokens: impl FnOnce() -> u32) -> Result<ModelReply, ModelError> {
        let finish = self.finish.ok_or_else(|| cut("the model's answer broke off"))?;
        let usage = match self.usage {
            Some(WireUsage { prompt_tokens: input_tokens, completion_tokens: output_tokens }) => {
                Usage { input_tokens, output_tokens }
            }
            None => Usage { input_tokens: input_tokens(), output_tokens: tokens::estimate(self.bytes) },
        };
        let calls: Vec<_> = match finish {
            // The last call's arguments may be torn; a torn call must not run.
            Finish::Length => Vec::new(),
            Finish::Stop | Finish::ToolCalls => self.calls.into_iter().map(DraftCall::propose).collect(),
        };
        // Some servers say `stop` although they ask for calls, and the other way round.
        let finish = match (finish, calls.is_empty()) {
            (Finish::Length, _) => Finish::Length,
            (Finish::Stop | Finish::ToolCalls, true) => Finish::Stop,
            (Finish::Stop | Finish::ToolCalls, false) => Finish::ToolCalls,
        };
        Ok(ModelReply { text: self.text, calls, usage, cost_micros: 0, finish })
    }
}

impl DraftCall {
    fn propose(self) -> ProposedCall {
        let arguments = if self.arguments.is_empty() { "{}".to_owned() } else { self.arguments };
        ProposedCall { tool: names::decode(&self.name).into_owned(), arguments }
    }
}

impl From<SseError> for ModelError {
    fn from(error: SseError) -> Self {
        cut(format!("the model's stream is malformed: {error}"))
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "delta")]
    message: Option<Said>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
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
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}
