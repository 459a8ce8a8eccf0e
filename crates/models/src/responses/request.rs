//! Our request as a response to be created.
//!
//! The whole conversation travels in each request and the provider is asked to store nothing: the journal is the
//! only memory, so no answer depends on what a provider still knows.

use std::borrow::Cow;

use bytes::Bytes;
use dromia_contracts::CallId;
use dromia_contracts::client::ToolChoice;
use dromia_contracts::content::{ContentPart, ToolResult};
use dromia_contracts::model::ModelRequest;
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use serde::Serialize;
use serde_json::{Number, Value, json};

use crate::chat::request::{arguments_json, text_of};
use crate::encoded_request::{EncodableRequest, openai_answer_format};
use crate::image::{self, data_url};
use crate::names;
use crate::scripted::status_word;

/// Writes the body of one request.
pub(crate) fn encode_body(letter: &EncodableRequest<'_>) -> Result<Bytes, serde_json::Error> {
    let request = letter.request;
    let mut input = Vec::new();
    for turn in letter.turns {
        match turn {
            TranscriptTurn::Input(said) => {
                input.push(ResponsesItem::Message { role: "user", content: said_by_user(&said.parts) });
            }
            TranscriptTurn::Summary(parts) => {
                input.push(ResponsesItem::Message { role: "user", content: said_by_user(parts) });
            }
            TranscriptTurn::Unit(unit) => add_unit(&mut input, unit),
        }
    }
    let tools = request.tools.iter().map(|tool| ResponsesTool {
        r#type: "function",
        name: names::encode_name(&tool.name),
        description: &tool.description,
        parameters: &tool.parameters,
        strict: false,
    });
    let body = ResponsesBody {
        model: letter.model,
        instructions: &request.system,
        input,
        tools: tools.collect(),
        tool_choice: ResponsesToolChoice::from_request(request),
        parallel_tool_calls: (request.wishes.one_call && !request.tools.is_empty()).then_some(false),
        max_output_tokens: letter.output_tokens_max,
        temperature: request.wishes.temperature.as_ref(),
        top_p: request.wishes.top_p.as_ref(),
        text: letter.answer.map(|answer| json!({"format": openai_answer_format(answer, false)})),
        stream: letter.stream,
        store: false,
    };
    Ok(serde_json::to_vec(&body)?.into())
}

fn add_unit<'a>(input: &mut Vec<ResponsesItem<'a>>, unit: &'a AssistantUnit) {
    let said = unit.message();
    let text = text_of(&said.parts);
    if !text.is_empty() {
        input.push(ResponsesItem::Message {
            role: "assistant",
            content: vec![ResponsesContent::OutputText { text }],
        });
    }
    for call in &said.calls {
        input.push(ResponsesItem::FunctionCall {
            call_id: call.id,
            name: names::encode_name(&call.tool),
            arguments: arguments_json(call),
        });
    }
    for result in unit.results() {
        input.push(ResponsesItem::FunctionCallOutput {
            call_id: result.call,
            output: ResponsesToolOutput::from_result(result),
        });
    }
}

#[derive(Serialize)]
struct ResponsesBody<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<ResponsesItem<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ResponsesTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ResponsesToolChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Value>,
    stream: bool,
    store: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResponsesToolChoice<'a> {
    Word(&'static str),
    Named { r#type: &'static str, name: Cow<'a, str> },
}

impl<'a> ResponsesToolChoice<'a> {
    /// What the first answer must call, where anything must be called.
    fn from_request(request: &'a ModelRequest) -> Option<Self> {
        match &request.wishes.choice {
            _ if request.tools.is_empty() => None,
            ToolChoice::Free => None,
            ToolChoice::Required => Some(Self::Word("required")),
            ToolChoice::Named(name) => {
                Some(Self::Named { r#type: "function", name: names::encode_name(name) })
            }
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponsesItem<'a> {
    Message { role: &'static str, content: Vec<ResponsesContent<'a>> },
    FunctionCall { call_id: CallId, name: Cow<'a, str>, arguments: Cow<'a, str> },
    FunctionCallOutput { call_id: CallId, output: ResponsesToolOutput<'a> },
}

/// What a tool gave: a text alone, or its status, then its texts and pictures in their order.
#[derive(Serialize)]
#[serde(untagged)]
enum ResponsesToolOutput<'a> {
    Text(String),
    Shown(Vec<ResponsesContent<'a>>),
}

impl<'a> ResponsesToolOutput<'a> {
    fn from_result(result: &'a ToolResult) -> Self {
        let status = status_word(result.status);
        if !image::is_shown(result) {
            return Self::Text(format!("[{status}] {}", text_of(&result.parts)));
        }
        let status = ResponsesContent::InputText { text: Cow::Owned(format!("[{status}]")) };
        Self::Shown(
            std::iter::once(status).chain(result.parts.iter().map(ResponsesContent::from_part)).collect(),
        )
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponsesContent<'a> {
    InputText { text: Cow<'a, str> },
    InputImage { image_url: String, detail: &'static str },
    OutputText { text: Cow<'a, str> },
}

impl<'a> ResponsesContent<'a> {
    fn from_part(part: &'a ContentPart) -> Self {
        match part {
            ContentPart::Text { text, .. } => Self::InputText { text: Cow::Borrowed(text) },
            ContentPart::Image { media, data, .. } => {
                Self::InputImage { image_url: data_url(*media, data), detail: "auto" }
            }
        }
    }
}

/// A user's message: one text, or its texts and pictures in their order.
fn said_by_user(parts: &[ContentPart]) -> Vec<ResponsesContent<'_>> {
    if !parts.iter().any(ContentPart::is_image) {
        return vec![ResponsesContent::InputText { text: text_of(parts) }];
    }
    parts.iter().map(ResponsesContent::from_part).collect()
}

#[derive(Serialize)]
struct ResponsesTool<'a> {
    r#type: &'static str,
    name: Cow<'a, str>,
    description: &'a str,
    parameters: &'a Value,
    strict: bool,
}
