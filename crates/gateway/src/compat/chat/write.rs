//! Writes chat completions and their chunks.

use dromia_contracts::model::FinishReason;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compat::dialect::OpenAiError;
use crate::compat::run_answer::{ClientCall, RunAnswer};
use crate::compat::turn::{AnswerWriter, AnsweringRun};
use crate::failure::ApiError;

/// Writes chat completions and their chunks.
pub(super) struct ChatWriter {
    pub(super) running: AnsweringRun,
    /// Seconds; the same in every answer of a run.
    pub(super) created: i64,
    /// Whether the stream tells the usage.
    pub(super) usage: bool,
}

impl ChatWriter {
    fn encode_chunk(&self, choices: &Value, usage: Option<Value>) -> String {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", self.running.run),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.running.model,
            "choices": choices,
        });
        if self.usage {
            // Where the usage is wanted, the chunks before it say that they have none.
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        format!("data: {chunk}\n\n")
    }

    fn delta_chunk(&self, delta: &Value, finish: Option<&str>) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        self.encode_chunk(&json!([choice]), None)
    }
}

impl AnswerWriter for ChatWriter {
    fn write_whole(&self, answered: &RunAnswer) -> Value {
        let mut message =
            json!({"role": "assistant", "content": answered.text, "refusal": null, "annotations": []});
        if !answered.calls.is_empty() {
            message["tool_calls"] = answered.calls.iter().map(tool_call).collect();
            if answered.text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        json!({
            "id": format!("chatcmpl-{}", self.running.run),
            "object": "chat.completion",
            "created": answered.started_at.as_second(),
            "model": self.running.model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": null,
                "finish_reason": finish_reason(answered),
            }],
            "usage": usage_object(answered),
        })
    }

    fn write_start(&mut self, at: Timestamp) -> String {
        self.created = at.as_second();
        self.delta_chunk(&json!({"role": "assistant", "content": "", "refusal": null}), None)
    }

    fn write_text(&mut self, piece: &str) -> String {
        self.delta_chunk(&json!({"content": piece}), None)
    }

    fn write_end(&mut self, answered: &RunAnswer) -> String {
        let mut text = String::new();
        for (index, call) in answered.calls.iter().enumerate() {
            let mut begun = tool_call(call);
            begun["index"] = json!(index);
            begun["function"]["arguments"] = json!("");
            text.push_str(&self.delta_chunk(&json!({"tool_calls": [begun]}), None));
            let rest = json!({"index": index, "function": {"arguments": call.arguments}});
            text.push_str(&self.delta_chunk(&json!({"tool_calls": [rest]}), None));
        }
        text.push_str(&self.delta_chunk(&json!({}), Some(finish_reason(answered))));
        if self.usage {
            text.push_str(&self.encode_chunk(&json!([]), Some(usage_object(answered))));
        }
        text.push_str("data: [DONE]\n\n");
        text
    }

    fn write_error(&mut self, failure: &ApiError, _: &str) -> String {
        // Clients read an object with an error as the failure of the whole stream.
        format!("data: {}\n\n", json!({"error": OpenAiError::from_error(failure)}))
    }
}

fn tool_call(call: &ClientCall) -> Value {
    let function = json!({"name": call.tool, "arguments": call.arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

fn finish_reason(answered: &RunAnswer) -> &'static str {
    match answered.finish {
        _ if !answered.calls.is_empty() => "tool_calls",
        // The agent's own calls are done when its run ends.
        FinishReason::Stop | FinishReason::ToolCalls => "stop",
        FinishReason::Length => "length",
    }
}

fn usage_object(answered: &RunAnswer) -> Value {
    let RunAnswer { usage, detail, .. } = answered;
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": u64::from(usage.input_tokens) + u64::from(usage.output_tokens),
        "prompt_tokens_details": {"cached_tokens": detail.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": detail.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
