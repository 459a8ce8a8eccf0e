//! Writes messages and the events of their stream.

use dromia_contracts::model::Finish;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compat::dialect::Dialect;
use crate::compat::listen::{Answered, ClientCall};
use crate::compat::turn::{Format, Running};
use crate::failure::Failure;

/// Writes messages and the events of their stream.
pub(super) struct Messages {
    running: Running,
    /// Whether the block of the text was begun.
    speaks: bool,
}

impl Messages {
    pub(super) fn new(running: Running) -> Self {
        Self { running, speaks: false }
    }

    fn message(&self, content: &Value, end: Option<End<'_>>, usage: &Value) -> Value {
        let End { reason, sequence } = end.unwrap_or_default();
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

impl Format for Messages {
    fn whole(&self, answered: &Answered) -> Value {
        let mut content = Vec::new();
        if !answered.text.is_empty() {
            content.push(json!({"type": "text", "text": answered.text}));
        }
        content.extend(answered.calls.iter().map(|call| block(call, input(call))));
        self.message(&json!(content), Some(End::of(answered)), &usage(answered))
    }

    fn began(&mut self, _: Timestamp) -> String {
        // What the tokens were is known at the end, and told there.
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        let message = self.message(&json!([]), None, &usage);
        event("message_start", &json!({"type": "message_start", "message": message}))
    }

    fn text(&mut self, piece: &str) -> String {
        let begun = if self.speaks { String::new() } else { start(0, &json!({"type": "text", "text": ""})) };
        self.speaks = true;
        begun + &delta(0, &json!({"type": "text_delta", "text": piece}))
    }

    fn answered(&mut self, answered: &Answered) -> String {
        let mut text = if self.speaks { stop(0) } else { String::new() };
        let first = usize::from(self.speaks);
        for (index, call) in (first..).zip(&answered.calls) {
            text.push_str(&start(index, &block(call, json!({}))));
            let arguments = json!({"type": "input_json_delta", "partial_json": call.arguments});
            text.push_str(&delta(index, &arguments));
            text.push_str(&stop(index));
        }
        let End { reason, sequence } = End::of(answered);
        let end = json!({"stop_reason": reason, "stop_sequence": sequence});
        text.push_str(&event(
            "message_delta",
            &json!({"type": "message_delta", "delta": end, "usage": usage(answered)}),
        ));
        text.push_str(&event("message_stop", &json!({"type": "message_stop"})));
        text
    }

    fn broken(&mut self, failure: &Failure, request_id: &str) -> String {
        let body = Dialect::Anthropic.body(failure, request_id);
        format!("event: error\ndata: {}\n\n", String::from_utf8_lossy(&body))
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn start(index: usize, block: &Value) -> String {
    let data = json!({"type": "content_block_start", "index": index, "content_block": block});
    event("content_block_start", &data)
}

fn delta(index: usize, delta: &Value) -> String {
    event("content_block_delta", &json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn stop(index: usize) -> String {
    event("content_block_stop", &json!({"type": "content_block_stop", "index": index}))
}

fn block(call: &ClientCall, input: Value) -> Value {
    let mut block = json!({"type": "tool_use", "id": call.id, "name": call.tool});
    block["input"] = input;
    block
}

/// The arguments as the object that they are; nothing else is handed to a client.
fn input(call: &ClientCall) -> Value {
    serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}))
}

/// Why a message ended, in the words of this API.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct End<'answered> {
    reason: Option<&'static str>,
    sequence: Option<&'answered str>,
}

impl<'answered> End<'answered> {
    fn of(answered: &'answered Answered) -> Self {
        let because = |reason| Self { reason: Some(reason), sequence: None };
        match (answered.finish, &answered.stopped_at) {
            _ if !answered.calls.is_empty() => because("tool_use"),
            (Finish::Length, _) => because("max_tokens"),
            (Finish::Stop, Some(text)) => Self { sequence: Some(text.as_str()), ..because("stop_sequence") },
            // The agent's own calls are done when its run ends.
            (Finish::Stop | Finish::ToolCalls, _) => because("end_turn"),
        }
    }
}

/// This API counts what its cache held beside the other tokens of the request, not among them.
fn usage(answered: &Answered) -> Value {
    let Answered { usage, detail, .. } = answered;
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
    use dromia_contracts::model::{Usage, UsageDetail};

    use super::*;

    #[test]
    fn a_message_says_why_it_ended_whole_and_in_events() {
        let call = ClientCall { id: "c".into(), tool: "t".into(), arguments: "{}".into() };
        for (finish, stopped_at, calls, reason, sequence) in [
            (Finish::Stop, None, vec![], "end_turn", Value::Null),
            (Finish::Stop, Some("END"), vec![], "stop_sequence", json!("END")),
            (Finish::Length, None, vec![], "max_tokens", Value::Null),
            (Finish::ToolCalls, None, vec![call], "tool_use", Value::Null),
        ] {
            let answered = Answered {
                started_at: Timestamp::UNIX_EPOCH,
                text: "hi".into(),
                calls,
                finish,
                stopped_at: stopped_at.map(str::to_owned),
                usage: Usage::default(),
                detail: UsageDetail::default(),
            };
            let running = Running { run: RunId::from_bytes([1; 16]), model: "ops".into() };
            let mut messages = Messages::new(running);
            let whole = messages.whole(&answered);
            assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!(reason), &sequence));
            let end = json!({"stop_reason": reason, "stop_sequence": sequence});
            let events = messages.answered(&answered);
            assert!(events.contains(&format!("\"delta\":{end}")), "{events}");
        }
    }
}
