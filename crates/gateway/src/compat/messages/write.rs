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

    fn message(&self, content: &Value, stop_reason: Option<&str>, usage: &Value) -> Value {
        json!({
            "id": format!("msg_{}", self.running.run),
            "type": "message",
            "role": "assistant",
            "model": self.running.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
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
        self.message(&json!(content), Some(stop_reason(answered)), &usage(answered))
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
        let end = json!({"stop_reason": stop_reason(answered), "stop_sequence": null});
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

fn stop_reason(answered: &Answered) -> &'static str {
    match answered.finish {
        _ if !answered.calls.is_empty() => "tool_use",
        // The agent's own calls are done when its run ends.
        Finish::Stop | Finish::ToolCalls => "end_turn",
        Finish::Length => "max_tokens",
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
