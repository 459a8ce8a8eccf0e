//! Writes messages and the events of their stream.

use dromia_contracts::model::Finish;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compat::dialect::Dialect;
use crate::compat::listen::Answered;
use crate::compat::turn::{Format, Running};
use crate::failure::Failure;

/// Writes messages and the events of their stream.
pub(super) struct Messages {
    pub(super) running: Running,
}

impl Messages {
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
        let content = match answered.text.as_str() {
            "" => json!([]),
            text => json!([{"type": "text", "text": text}]),
        };
        self.message(&content, Some(stop_reason(answered.finish)), &usage(answered))
    }

    fn began(&mut self, _: Timestamp) -> String {
        // What the tokens were is known at the end, and told there.
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        let message = self.message(&json!([]), None, &usage);
        event("message_start", &json!({"type": "message_start", "message": message}))
            + &event(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            )
    }

    fn text(&mut self, piece: &str) -> String {
        let delta = json!({"type": "text_delta", "text": piece});
        event("content_block_delta", &json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    }

    fn answered(&mut self, answered: &Answered) -> String {
        let delta = json!({"stop_reason": stop_reason(answered.finish), "stop_sequence": null});
        event("content_block_stop", &json!({"type": "content_block_stop", "index": 0}))
            + &event(
                "message_delta",
                &json!({"type": "message_delta", "delta": delta, "usage": usage(answered)}),
            )
            + &event("message_stop", &json!({"type": "message_stop"}))
    }

    fn broken(&mut self, failure: &Failure, request_id: &str) -> String {
        let body = Dialect::Anthropic.body(failure, request_id);
        format!("event: error\ndata: {}\n\n", String::from_utf8_lossy(&body))
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
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
