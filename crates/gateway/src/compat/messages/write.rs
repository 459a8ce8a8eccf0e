//! Writes messages and the events of their stream.

use dromia_contracts::model::FinishReason;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compat::dialect::Dialect;
use crate::compat::run_answer::{ClientCall, RunAnswer};
use crate::compat::turn::{AnswerWriter, AnsweringRun};
use crate::failure::ApiError;

/// Writes messages and the events of their stream.
pub(super) struct MessagesWriter {
    running: AnsweringRun,
    /// Whether the block of the text was begun.
    speaks: bool,
}

impl MessagesWriter {
    pub(super) fn new(running: AnsweringRun) -> Self {
        Self { running, speaks: false }
    }

    fn message_object(&self, content: &Value, end: Option<MessageStopReason<'_>>, usage: &Value) -> Value {
        let MessageStopReason { reason, sequence } = end.unwrap_or_default();
        json!({
            "id": format!("msg_{}", self.running.run),
            "type": "message",
            "role": "assistant",
            "model": self.running.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        })
    }
}

impl AnswerWriter for MessagesWriter {
    fn write_whole(&self, answered: &RunAnswer) -> Value {
        let mut content = Vec::new();
        if !answered.text.is_empty() {
            content.push(json!({"type": "text", "text": answered.text}));
        }
        content.extend(answered.calls.iter().map(|call| tool_use_block(call, tool_input(call))));
        self.message_object(
            &json!(content),
            Some(MessageStopReason::from_answer(answered)),
            &usage_object(answered),
        )
    }

    fn write_start(&mut self, _: Timestamp) -> String {
        // The tokens are known at the end, and sent there.
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        let message = self.message_object(&json!([]), None, &usage);
        encode_event("message_start", &json!({"type": "message_start", "message": message}))
    }

    fn write_text(&mut self, piece: &str) -> String {
        let begun =
            if self.speaks { String::new() } else { block_start(0, &json!({"type": "text", "text": ""})) };
        self.speaks = true;
        begun + &block_delta(0, &json!({"type": "text_delta", "text": piece}))
    }

    fn write_end(&mut self, answered: &RunAnswer) -> String {
        let mut text = if self.speaks { block_stop(0) } else { String::new() };
        let first = usize::from(self.speaks);
        for (index, call) in (first..).zip(&answered.calls) {
            text.push_str(&block_start(index, &tool_use_block(call, json!({}))));
            let arguments = json!({"type": "input_json_delta", "partial_json": call.arguments});
            text.push_str(&block_delta(index, &arguments));
            text.push_str(&block_stop(index));
        }
        let MessageStopReason { reason, sequence } = MessageStopReason::from_answer(answered);
        let end = json!({"stop_reason": reason, "stop_sequence": sequence});
        text.push_str(&encode_event(
            "message_delta",
            &json!({"type": "message_delta", "delta": end, "usage": usage_object(answered)}),
        ));
        text.push_str(&encode_event("message_stop", &json!({"type": "message_stop"})));
        text
    }

    fn write_error(&mut self, failure: &ApiError, request_id: &str) -> String {
        let body = Dialect::Anthropic.error_body(failure, request_id);
        format!("event: error\ndata: {}\n\n", String::from_utf8_lossy(&body))
    }
}

fn encode_event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn block_start(index: usize, block: &Value) -> String {
    let data = json!({"type": "content_block_start", "index": index, "content_block": block});
    encode_event("content_block_start", &data)
}

fn block_delta(index: usize, delta: &Value) -> String {
    encode_event(
        "content_block_delta",
        &json!({"type": "content_block_delta", "index": index, "delta": delta}),
    )
}

fn block_stop(index: usize) -> String {
    encode_event("content_block_stop", &json!({"type": "content_block_stop", "index": index}))
}

fn tool_use_block(call: &ClientCall, input: Value) -> Value {
    let mut block = json!({"type": "tool_use", "id": call.id, "name": call.tool});
    block["input"] = input;
    block
}

/// The arguments as the object that they are; nothing else is handed to a client.
fn tool_input(call: &ClientCall) -> Value {
    serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}))
}

/// Why a message ended, in the words of this API.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct MessageStopReason<'answered> {
    reason: Option<&'static str>,
    sequence: Option<&'answered str>,
}

impl<'answered> MessageStopReason<'answered> {
    fn from_answer(answered: &'answered RunAnswer) -> Self {
        let because = |reason| Self { reason: Some(reason), sequence: None };
        match (answered.finish, &answered.stopped_at) {
            _ if !answered.calls.is_empty() => because("tool_use"),
            (FinishReason::Length, _) => because("max_tokens"),
            (FinishReason::Stop, Some(text)) => {
                Self { sequence: Some(text.as_str()), ..because("stop_sequence") }
            }
            // The agent's own calls are done when its run ends.
            (FinishReason::Stop | FinishReason::ToolCalls, _) => because("end_turn"),
        }
    }
}

/// This API counts what its cache held apart from the other tokens of the request.
fn usage_object(answered: &RunAnswer) -> Value {
    let RunAnswer { usage, detail, .. } = answered;
    let cached = detail.cache_read_tokens.saturating_add(detail.cache_write_tokens);
    json!({
        "input_tokens": usage.input_tokens.saturating_sub(cached),
        "output_tokens": usage.output_tokens,
        "cache_creation_input_tokens": detail.cache_write_tokens,
        "cache_read_input_tokens": detail.cache_read_tokens,
    })
}

#[cfg(test)]
mod tests {
    use dromia_contracts::RunId;
    use dromia_contracts::model::{TokenUsage, UsageDetail};

    use super::*;

    #[test]
    fn a_message_says_why_it_ended_whole_and_in_events() {
        let call = ClientCall { id: "c".into(), tool: "t".into(), arguments: "{}".into() };
        for (finish, stopped_at, calls, reason, sequence) in [
            (FinishReason::Stop, None, vec![], "end_turn", Value::Null),
            (FinishReason::Stop, Some("END"), vec![], "stop_sequence", json!("END")),
            (FinishReason::Length, None, vec![], "max_tokens", Value::Null),
            (FinishReason::ToolCalls, None, vec![call], "tool_use", Value::Null),
        ] {
            let answered = RunAnswer {
                started_at: Timestamp::UNIX_EPOCH,
                text: "hi".into(),
                calls,
                finish,
                stopped_at: stopped_at.map(str::to_owned),
                usage: TokenUsage::default(),
                detail: UsageDetail::default(),
            };
            let running = AnsweringRun { run: RunId::from_bytes([1; 16]), model: "ops".into() };
            let mut messages = MessagesWriter::new(running);
            let whole = messages.write_whole(&answered);
            assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!(reason), &sequence));
            let end = json!({"stop_reason": reason, "stop_sequence": sequence});
            let events = messages.write_end(&answered);
            assert!(events.contains(&format!("\"delta\":{end}")), "{events}");
        }
    }
}
