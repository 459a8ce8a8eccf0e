//! Writes responses and the events of their stream.

use dromia_contracts::model::Finish;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compat::dialect::OpenAiError;
use crate::compat::listen::Answered;
use crate::compat::turn::{Format, Running};
use crate::failure::Failure;

/// Writes responses and the events of their stream.
pub(super) struct Responses {
    pub(super) running: Running,
    /// Seconds; the same in every answer of a run.
    pub(super) created: i64,
    /// Events so far.
    pub(super) sent: u64,
}

impl Responses {
    fn response(&self, status: &str, output: &Value) -> Value {
        json!({
            "id": format!("resp_{}", self.running.run),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": null,
            "max_output_tokens": null,
            "metadata": {},
            "model": self.running.model,
            "output": output,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": true,
            "temperature": null,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": null,
            "truncation": "disabled",
            "usage": null,
        })
    }

    fn ended(&self, answered: &Answered) -> Value {
        let status = if answered.finish == Finish::Length { "incomplete" } else { "completed" };
        let part = part(&answered.text);
        let mut response = self.response(status, &json!([self.item(status, &json!([part]))]));
        response["usage"] = usage(answered);
        if answered.finish == Finish::Length {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response
    }

    fn item(&self, status: &str, content: &Value) -> Value {
        json!({
            "id": format!("msg_{}", self.running.run),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        })
    }

    fn event(&mut self, kind: &str, mut data: Value) -> String {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.sent);
        self.sent += 1;
        format!("event: {kind}\ndata: {data}\n\n")
    }

    /// An event about the one part of the one item.
    fn part_event(&mut self, kind: &str, mut data: Value) -> String {
        data["item_id"] = json!(format!("msg_{}", self.running.run));
        data["output_index"] = json!(0);
        data["content_index"] = json!(0);
        self.event(kind, data)
    }
}

impl Format for Responses {
    fn whole(&self, answered: &Answered) -> Value {
        let created = answered.started_at.as_second();
        Self { running: self.running.clone(), created, sent: 0 }.ended(answered)
    }

    fn began(&mut self, at: Timestamp) -> String {
        self.created = at.as_second();
        let response = self.response("in_progress", &json!([]));
        let item = self.item("in_progress", &json!([]));
        [
            self.event("response.created", json!({"response": response})),
            self.event("response.in_progress", json!({"response": response})),
            self.event("response.output_item.added", json!({"output_index": 0, "item": item})),
            self.part_event("response.content_part.added", json!({"part": part("")})),
        ]
        .concat()
    }

    fn text(&mut self, piece: &str) -> String {
        self.part_event("response.output_text.delta", json!({"delta": piece, "logprobs": []}))
    }

    fn answered(&mut self, answered: &Answered) -> String {
        let response = self.ended(answered);
        let item = response["output"][0].clone();
        let last =
            if answered.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
        [
            self.part_event("response.output_text.done", json!({"text": answered.text, "logprobs": []})),
            self.part_event("response.content_part.done", json!({"part": part(&answered.text)})),
            self.event("response.output_item.done", json!({"output_index": 0, "item": item})),
            self.event(last, json!({"response": response})),
        ]
        .concat()
    }

    fn broken(&mut self, failure: &Failure, _: &str) -> String {
        let mut response = self.response("failed", &json!([]));
        response["error"] = json!(OpenAiError::of(failure));
        self.event("response.failed", json!({"response": response}))
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage(answered: &Answered) -> Value {
    let Answered { usage, detail, .. } = answered;
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": detail.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": detail.reasoning_tokens},
        "total_tokens": u64::from(usage.input_tokens) + u64::from(usage.output_tokens),
    })
}
