//! An answer as far as it came, independent of the format; the reader of every format fills it.
//!
//! A reply exists only when the provider said why it stopped: an answer without that was cut, however complete
//! it looks. What is gathered is bounded, whatever the provider sends.

use super::failure::cut_error;
use crate::{names, tokens};
use dromia_contracts::model::{
    DeltaSink, FinishReason, ModelError, ModelReply, ProposedCall, TokenUsage, UsageDetail,
};

/// The most bytes of text and arguments of one answer.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// The longest stop text that is reported; a longer one was not asked for.
const STOP_BYTES_MAX: usize = 256;
/// The most calls of one answer.
const CALLS_MAX: usize = 128;

/// An answer as far as it came.
#[derive(Debug, Default)]
pub(crate) struct ReplyDraft {
    text: String,
    calls: Vec<DraftCall>,
    bytes: usize,
    /// Why the provider stopped.
    pub(crate) finish: Option<FinishReason>,
    /// At which stop text, where the provider says so.
    pub(crate) stopped_at: Option<String>,
    /// What the provider counted.
    pub(crate) usage: Option<(TokenUsage, UsageDetail)>,
    /// Nothing follows.
    pub(crate) done: bool,
}

#[derive(Debug, Default)]
struct DraftCall {
    index: Option<u32>,
    id: String,
    name: String,
    arguments: String,
}

/// A piece of a call; servers number the calls, or repeat their ids, or do neither for what continues the last.
#[derive(Debug, Default)]
pub(crate) struct CallPiece {
    pub(crate) index: Option<u32>,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl ReplyDraft {
    /// Adds text that the model said.
    pub(crate) fn add_text(&mut self, text: String, deltas: &dyn DeltaSink) -> Result<(), ModelError> {
        if text.is_empty() {
            return Ok(());
        }
        self.count_bytes(text.len())?;
        deltas.push_delta(&text);
        if self.text.is_empty() {
            self.text = text;
        } else {
            self.text.push_str(&text);
        }
        Ok(())
    }

    /// Puts the text in the place of what was streamed, where a provider repeats the whole at the end.
    pub(crate) fn said_in_all(&mut self, text: String, deltas: &dyn DeltaSink) -> Result<(), ModelError> {
        if let Some(rest) = text.strip_prefix(self.text.as_str()) {
            let rest = rest.to_owned();
            return self.add_text(rest, deltas);
        }
        self.count_bytes(text.len())?;
        self.text = text;
        Ok(())
    }

    /// Adds a piece of a call.
    pub(crate) fn take_call(&mut self, piece: CallPiece) -> Result<(), ModelError> {
        let CallPiece { index, id, name, arguments } = piece;
        let known = match index {
            Some(index) => self.calls.iter_mut().find(|call| call.index == Some(index)),
            None if id.is_empty() => self.calls.last_mut(),
            None => self.calls.iter_mut().find(|call| call.id == id),
        };
        let bytes = name.len() + arguments.len();
        if let Some(call) = known {
            call.name.push_str(&name);
            call.arguments.push_str(&arguments);
        } else if self.calls.len() == CALLS_MAX {
            return Err(cut_error(format!("the model asked for more than {CALLS_MAX} calls at once")));
        } else {
            self.calls.push(DraftCall { index, id, name, arguments });
        }
        self.count_bytes(bytes)
    }

    fn count_bytes(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes += bytes;
        if self.bytes > REPLY_BYTES_MAX {
            return Err(cut_error("the model's answer is longer than allowed"));
        }
        Ok(())
    }

    /// Closes the answer. `input_tokens` is asked where the provider counted nothing.
    pub(crate) fn into_reply(self, input_tokens: impl FnOnce() -> u32) -> Result<ModelReply, ModelError> {
        let what = match self.bytes {
            0 => "the model's answer is empty, or not of the kind that was asked for",
            _ => "the model's answer ended before it was complete",
        };
        let finish = self.finish.ok_or_else(|| cut_error(what))?;
        let (usage, detail) = self.usage.unwrap_or_else(|| {
            let usage = TokenUsage {
                input_tokens: input_tokens(),
                output_tokens: tokens::estimate_tokens(self.bytes),
            };
            (usage, UsageDetail::default())
        });
        let calls: Vec<_> = match finish {
            // The last call's arguments may be torn; a torn call must not run.
            FinishReason::Length => Vec::new(),
            FinishReason::Stop | FinishReason::ToolCalls => {
                self.calls.into_iter().map(DraftCall::into_proposed).collect()
            }
        };
        // Some servers say `stop` although they ask for calls, and the other way round.
        let finish = match (finish, calls.is_empty()) {
            (FinishReason::Length, _) => FinishReason::Length,
            (FinishReason::Stop | FinishReason::ToolCalls, true) => FinishReason::Stop,
            (FinishReason::Stop | FinishReason::ToolCalls, false) => FinishReason::ToolCalls,
        };
        let is_told =
            |text: &String| finish == FinishReason::Stop && (1..=STOP_BYTES_MAX).contains(&text.len());
        let stopped_at = self.stopped_at.filter(is_told);
        Ok(ModelReply { text: self.text, calls, usage, detail, cost_micros: 0, finish, stopped_at })
    }
}

impl DraftCall {
    fn into_proposed(self) -> ProposedCall {
        let arguments = if self.arguments.is_empty() { "{}".to_owned() } else { self.arguments };
        ProposedCall { tool: names::decode_name(&self.name).into_owned(), arguments }
    }
}
