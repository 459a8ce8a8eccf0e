//! Requests and a sink for live text, as the tests need them.

use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::client::SamplingOptions;
use dromia_contracts::content::{
    AssistantMessage, CallStatus, ContentPart, InputMessage, ToolCall, ToolResult,
};
use dromia_contracts::label::Label;
use dromia_contracts::model::{DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest};
use dromia_contracts::tool::{EffectClass, Sensitivity, ToolDescriptor};
use dromia_contracts::transcript::{AssistantUnit, OpenUnit, Transcript};
use dromia_contracts::{Actor, CallId};
use dromia_guard::{EgressConfig, GuardedEgress, SystemNames};

/// Collects live text.
#[derive(Default)]
pub(crate) struct Collected(Mutex<Vec<String>>);

impl Collected {
    pub(crate) fn pieces(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeltaSink for Collected {
    fn push_delta(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }
}

/// The way out of a test; the address of its server is the one that is named.
pub(crate) fn egress() -> GuardedEgress {
    // A client builds its TLS side even if it never needs it.
    rustls::crypto::ring::default_provider().install_default().ok();
    GuardedEgress::new(EgressConfig::default(), Arc::new(SystemNames))
}

/// Prepares an attempt and makes it.
pub(crate) async fn attempt(
    model: &dyn LanguageModel,
    request: &ModelRequest,
    deltas: &Collected,
) -> Result<ModelReply, ModelError> {
    let prepared = model.prepare_attempt(request)?;
    model.call_model(request, &prepared, deltas).await
}

pub(crate) fn request(input: &str) -> ModelRequest {
    let mut transcript = Transcript::default();
    transcript.push_input(InputMessage {
        hops: 0,
        author: Actor::new("cli:ada"),
        parts: vec![ContentPart::new_text(input, Label::ACTOR_TEXT)],
    });
    ModelRequest {
        model: "scripted".to_owned(),
        system: "You are Ada.".into(),
        transcript,
        tools: Vec::new().into(),
        output_tokens_max: 1024,
        wishes: SamplingOptions::default(),
        key: "run:1".to_owned(),
    }
}

pub(crate) fn tool(name: &str) -> ToolDescriptor {
    ToolDescriptor {
        name: name.to_owned(),
        description: "Reads a text file of the workspace.".to_owned(),
        parameters: serde_json::json!({
            "type": "object",
            "properties": { "path": { "type": "string" }, "offset": { "type": "integer" } },
            "required": ["path"],
            "additionalProperties": false,
        }),
        effect: EffectClass::Pure,
        roles: Vec::new(),
        result_label: Label::UNKNOWN_FILE,
        sensitivity: Sensitivity::Low,
        records: None,
    }
}

/// Makes the unit of a step from a reply and the results of its calls.
pub(crate) fn unit(step: u32, reply: &ModelReply, results: &[(CallStatus, &str)]) -> AssistantUnit {
    let ids = (0..).map(|index| CallId { step, index });
    let calls = reply.calls.iter().zip(ids.clone());
    let calls =
        calls.map(|(call, id)| ToolCall { id, tool: call.tool.clone(), arguments: call.arguments.clone() });
    let parts = vec![ContentPart::new_text(reply.text.clone(), Label::UNKNOWN_FILE)];
    let mut open = OpenUnit::new(AssistantMessage { parts, calls: calls.collect() });
    for ((status, text), call) in results.iter().zip(ids) {
        let parts = vec![ContentPart::new_text(*text, Label::UNKNOWN_FILE)];
        open.add_result(ToolResult { call, status: *status, parts }).expect("the call is open");
    }
    open.close().expect("every call has its result")
}
