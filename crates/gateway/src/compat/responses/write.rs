//! Writes responses and the events of their stream.

use dromia_contracts::model::FinishReason;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compat::dialect::OpenAiError;
use crate::compat::run_answer::{ClientCall, RunAnswer};
use crate::compat::turn::{AnswerWriter, AnsweringRun};
use crate::failure::ApiError;

/// Writes responses and the events of their stream.
pub(super) struct ResponsesWriter {
    running: AnsweringRun,
    /// Seconds; the same in every answer of a run.
    created: i64,
    /// Events so far.
    sent: u64,
    /// Whether the item with the text was begun.
    speaks: bool,
}

impl ResponsesWriter {
    pub(super) fn new(running: AnsweringRun) -> Self {
        Self { running, created: 0, sent: 0, speaks: false }
    }

    fn response_object(&self, status: &str, output: &Value) -> Value {
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

    fn ended_response(&self, answered: &RunAnswer) -> Value {
        let status = if answered.finish == FinishReason::Length { "incomplete" } else { "completed" };
        let mut output = Vec::new();
        // An answer that is nothing but calls has no message.
        if !answered.text.is_empty() || answered.calls.is_empty() {
            output.push(self.message_item(status, &json!([text_part(&answered.text)])));
        }
        output.extend(answered.calls.iter().map(|call| function_call(call, "completed", &call.arguments)));
        let mut response = self.response_object(status, &json!(output));
        response["usage"] = usage_object(answered);
        if answered.finish == FinishReason::Length {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response
    }

    fn message_item(&self, status: &str, content: &Value) -> Value {
        json!({
            "id": format!("msg_{}", self.running.run),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        })
    }

    fn encode_event(&mut self, kind: &str, mut data: Value) -> String {
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
        self.encode_event(kind, data)
    }

    /// Begins the item with the text.
    fn begin_text_item(&mut self) -> String {
        if std::mem::replace(&mut self.speaks, true) {
            return String::new();
        }
        let item = self.message_item("in_progress", &json!([]));
        self.encode_event("response.output_item.added", json!({"output_index": 0, "item": item}))
            + &self.part_event("response.content_part.added", json!({"part": text_part("")}))
    }

    /// Tells an item that is a call, from its beginning to its end.
    fn call_events(&mut self, index: usize, call: &ClientCall) -> String {
        let (begun, done) =
            (function_call(call, "in_progress", ""), function_call(call, "completed", &call.arguments));
        let about = |field: &str| {
            let mut data = json!({"item_id": done["id"], "output_index": index});
            data[field] = json!(call.arguments);
            data
        };
        let mut all = about("arguments");
        all["name"] = json!(call.tool);
        [
            self.encode_event("response.output_item.added", json!({"output_index": index, "item": begun})),
            self.encode_event("response.function_call_arguments.delta", about("delta")),
            self.encode_event("response.function_call_arguments.done", all),
            self.encode_event("response.output_item.done", json!({"output_index": index, "item": done})),
        ]
        .concat()
    }
}

impl AnswerWriter for ResponsesWriter {
    fn write_whole(&self, answered: &RunAnswer) -> Value {
        let created = answered.started_at.as_second();
        Self { created, ..Self::new(self.running.clone()) }.ended_response(answered)
    }

    fn write_start(&mut self, at: Timestamp) -> String {
        self.created = at.as_second();
        let response = self.response_object("in_progress", &json!([]));
        self.encode_event("response.created", json!({"response": response}))
            + &self.encode_event("response.in_progress", json!({"response": response}))
    }

    fn write_text(&mut self, piece: &str) -> String {
        self.begin_text_item()
            + &self.part_event("response.output_text.delta", json!({"delta": piece, "logprobs": []}))
    }

    fn write_end(&mut self, answered: &RunAnswer) -> String {
        let response = self.ended_response(answered);
        let mut text = String::new();
        if !answered.text.is_empty() || answered.calls.is_empty() {
            let item = response["output"][0].clone();
            text.push_str(&self.begin_text_item());
            let said = json!({"text": answered.text, "logprobs": []});
            text.push_str(&self.part_event("response.output_text.done", said));
            let part = json!({"part": text_part(&answered.text)});
            text.push_str(&self.part_event("response.content_part.done", part));
            let done = json!({"output_index": 0, "item": item});
            text.push_str(&self.encode_event("response.output_item.done", done));
        }
        let first = usize::from(self.speaks);
        for (index, call) in (first..).zip(&answered.calls) {
            text.push_str(&self.call_events(index, call));
        }
        let last = if answered.finish == FinishReason::Length {
            "response.incomplete"
        } else {
            "response.completed"
        };
        text + &self.encode_event(last, json!({"response": response}))
    }

    fn write_error(&mut self, failure: &ApiError, _: &str) -> String {
        let mut response = self.response_object("failed", &json!([]));
        response["error"] = json!(OpenAiError::from_error(failure));
        self.encode_event("response.failed", json!({"response": response}))
    }
}

fn function_call(call: &ClientCall, status: &str, arguments: &str) -> Value {
    json!({
        "id": format!("fc_{}", call.id),
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.tool,
        "arguments": arguments,
    })
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage_object(answered: &RunAnswer) -> Value {
    let RunAnswer { usage, detail, .. } = answered;
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": detail.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": detail.reasoning_tokens},
        "total_tokens": u64::from(usage.input_tokens) + u64::from(usage.output_tokens),
    })
}
