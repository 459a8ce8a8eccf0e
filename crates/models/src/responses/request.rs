//! Our request as a response to be created.
//!
//! The whole conversation travels in each request and the provider is asked to store nothing: the journal is the
//! only memory, so no answer depends on what a provider still knows.

use std::borrow::Cow;

use bytes::Bytes;
use dromia_contracts::CallId;
use dromia_contracts::client::ToolChoice;
use dromia_contracts::content::{Part, ToolResult};
use dromia_contracts::model::ModelRequest;
use dromia_contracts::transcript::{Turn, Unit};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::chat::request::{arguments, text_of};
use crate::letter::Letter;
use crate::names;
use crate::picture::{self, data_url};
use crate::scripted::status_word;

/// Writes the body of one request.
pub(crate) fn body(letter: &Letter<'_>) -> Result<Bytes, serde_json::Error> {
    let request = letter.request;
    let mut input = Vec::new();
    for turn in letter.turns {
        match turn {
            Turn::Input(said) => {
                input.push(Item::Message { role: "user", content: said_by_user(&said.parts) });
            }
            Turn::Unit(unit) => add_unit(&mut input, unit),
        }
    }
    let tools = request.tools.iter().map(|tool| Tool {
        r#type: "function",
        name: names::encode(&tool.name),
        description: &tool.description,
        parameters: &tool.parameters,
        strict: false,
    });
    let body = Body {
        model: letter.model,
        instructions: &request.system,
        input,
        tools: tools.collect(),
        tool_choice: Choice::of(request),
        parallel_tool_calls: (request.wishes.one_call && !request.tools.is_empty()).then_some(false),
        max_output_tokens: letter.output_tokens_max,
        temperature: request.wishes.temperature.as_ref(),
        top_p: request.wishes.top_p.as_ref(),
        stream: letter.stream,
        store: false,
    };
    Ok(serde_json::to_vec(&body)?.into())
}

fn add_unit<'a>(input: &mut Vec<Item<'a>>, unit: &'a Unit) {
    let said = unit.message();
    let text = text_of(&said.parts);
    if !text.is_empty() {
        input.push(Item::Message { role: "assistant", content: vec![Content::OutputText { text }] });
    }
    for call in &said.calls {
        input.push(Item::FunctionCall {
            call_id: call.id,
            name: names::encode(&call.tool),
            arguments: arguments(call),
        });
    }
    for result in unit.results() {
        input.push(Item::FunctionCallOutput { call_id: result.call, output: Output::of(result) });
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Number>,
    stream: bool,
    store: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Named { r#type: &'static str, name: Cow<'a, str> },
}

impl<'a> Choice<'a> {
    /// What the first answer must call, where anything must be called.
    fn of(request: &'a ModelRequest) -> Option<Self> {
        match &request.wishes.choice {
            _ if request.tools.is_empty() => None,
            ToolChoice::Free => None,
            ToolChoice::Required => Some(Self::Word("required")),
            ToolChoice::Named(name) => Some(Self::Named { r#type: "function", name: names::encode(name) }),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Message { role: &'static str, content: Vec<Content<'a>> },
    FunctionCall { call_id: CallId, name: Cow<'a, str>, arguments: Cow<'a, str> },
    FunctionCallOutput { call_id: CallId, output: Output<'a> },
}

/// What a tool gave: a text alone, or its status, then its texts and pictures in their order.
#[derive(Serialize)]
#[serde(untagged)]
enum Output<'a> {
    Text(String),
    Shown(Vec<Content<'a>>),
}

impl<'a> Output<'a> {
    fn of(result: &'a ToolResult) -> Self {
        let status = status_word(result.status);
        if !picture::is_shown(result) {
            return Self::Text(format!("[{status}] {}", text_of(&result.parts)));
        }
        let status = Content::InputText { text: Cow::Owned(format!("[{status}]")) };
        Self::Shown(std::iter::once(status).chain(result.parts.iter().map(Content::of)).collect())
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    InputText { text: Cow<'a, str> },
    InputImage { image_url: String, detail: &'static str },
    OutputText { text: Cow<'a, str> },
}

impl<'a> Content<'a> {
    fn of(part: &'a Part) -> Self {
        match part {
            Part::Text { text, .. } => Self::InputText { text: Cow::Borrowed(text) },
            Part::Image { media, data, .. } => {
                Self::InputImage { image_url: data_url(*media, data), detail: "auto" }
            }
        }
    }
}

/// What somebody says: one text, or its texts and pictures in their order.
fn said_by_user(parts: &[Part]) -> Vec<Content<'_>> {
    if !parts.iter().any(Part::is_image) {
        return vec![Content::InputText { text: text_of(parts) }];
    }
    parts.iter().map(Content::of).collect()
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    name: Cow<'a, str>,
    description: &'a str,
    parameters: &'a Value,
    strict: bool,
}
