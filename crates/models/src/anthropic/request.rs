//! Our request as Anthropic messages.
//!
//! Roles alternate here, so what the user's side says in a row (inputs, and the results of a unit's calls) is one
//! message with several blocks. A result that is an error holds text only, so its pictures follow the results.
//!
//! Two cache breakpoints are set where the prefix is long enough to be cached: behind the system text, which every turn
//! of the agent shares, and behind the last block, which the next step of the conversation shares.

use std::borrow::Cow;

use bytes::Bytes;
use dromia_contracts::CallId;
use dromia_contracts::client::{ToolChoice, Wishes};
use dromia_contracts::content::{CallStatus, Media, Part, ToolCall, ToolResult};
use dromia_contracts::model::ModelRequest;
use dromia_contracts::transcript::{Turn, Unit};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::chat::request::text_of;
use crate::letter::Letter;
use crate::names;
use crate::picture;
use crate::scripted::status_word;

/// A prefix shorter than this is cached by no model of the provider, so marking it gains nothing.
const CACHED_BYTES_MIN: usize = 4096;

/// Writes the body of one request.
pub(crate) fn body(letter: &Letter<'_>) -> Result<Bytes, serde_json::Error> {
    let request = letter.request;
    let tools: Vec<_> = request.tools.iter().map(Tool::of).collect();
    let tool_bytes: usize = request.tools.iter().map(|tool| tool.name.len() + tool.description.len()).sum();
    let prefix = request.system.len() + tool_bytes;
    let mut messages = messages(letter.turns);
    let blocks = messages.iter().flat_map(|message| &message.content);
    if prefix + blocks.map(Block::bytes).sum::<usize>() >= CACHED_BYTES_MIN
        && let Some(last) = messages.last_mut().and_then(|message| message.content.last_mut())
    {
        last.cache_control = Some(Cached::default());
    }
    let system = (!request.system.is_empty()).then(|| {
        let mut block = Block::from(Content::Text { text: Cow::Borrowed(&request.system) });
        block.cache_control = (prefix >= CACHED_BYTES_MIN).then(Cached::default);
        [block]
    });
    let (model, max_tokens) = (letter.model, letter.output_tokens_max);
    let wishes = &letter.request.wishes;
    let body = Body {
        model,
        max_tokens,
        system,
        tools,
        tool_choice: Choice::of(letter.request),
        messages,
        temperature: wishes.temperature.as_ref(),
        top_p: wishes.top_p.as_ref(),
        stop_sequences: &wishes.stop,
        stream: letter.stream,
    };
    Ok(serde_json::to_vec(&body)?.into())
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<[Block<'a>; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Number>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    stream: bool,
}

/// How the model shall choose among the tools; absent where that is left to it.
#[derive(Serialize)]
struct Choice<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

impl<'a> Choice<'a> {
    fn of(request: &'a ModelRequest) -> Option<Self> {
        let Wishes { choice, one_call, .. } = &request.wishes;
        if request.tools.is_empty() || (choice.is_free() && !one_call) {
            return None;
        }
        let (r#type, name) = match choice {
            ToolChoice::Free => ("auto", None),
            ToolChoice::Required => ("any", None),
            ToolChoice::Named(name) => ("tool", Some(names::encode(name))),
        };
        Some(Self { r#type, name, disable_parallel_tool_use: *one_call })
    }
}

#[derive(Serialize)]
struct Tool<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    input_schema: &'a Value,
}

impl<'a> Tool<'a> {
    fn of(tool: &'a dromia_contracts::tool::ToolDescriptor) -> Self {
        Self {
            name: names::encode(&tool.name),
            description: &tool.description,
            input_schema: &tool.parameters,
        }
    }
}

#[derive(Serialize)]
struct Message<'a> {
    role: Role,
    content: Vec<Block<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

#[derive(Serialize)]
struct Block<'a> {
    #[serde(flatten)]
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Cached>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text { text: Cow<'a, str> },
    Image { source: Source<'a> },
    ToolUse { id: CallId, name: Cow<'a, str>, input: Value },
    ToolResult { tool_use_id: CallId, content: Told<'a>, is_error: bool },
}

/// What a tool gave: a text alone, or its status, then its texts and pictures in their order.
#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Text(String),
    Shown(Vec<Content<'a>>),
}

/// A picture with its bytes.
#[derive(Serialize)]
struct Source<'a> {
    r#type: &'static str,
    media_type: &'static str,
    data: &'a str,
}

/// Where the provider's cache may begin anew.
#[derive(Serialize)]
struct Cached {
    r#type: &'static str,
}

impl Default for Cached {
    fn default() -> Self {
        Self { r#type: "ephemeral" }
    }
}

impl<'a> From<Content<'a>> for Block<'a> {
    fn from(content: Content<'a>) -> Self {
        Self { content, cache_control: None }
    }
}

impl Block<'_> {
    fn bytes(&self) -> usize {
        self.content.bytes()
    }
}

impl<'a> Content<'a> {
    fn image(media: Media, data: &'a str) -> Self {
        Self::Image { source: Source { r#type: "base64", media_type: media.as_str(), data } }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text { text } => text.len(),
            // An estimate is enough to decide about the cache.
            Self::ToolUse { .. } => 64,
            Self::Image { source } => source.data.len(),
            Self::ToolResult { content: Told::Text(text), .. } => text.len(),
            Self::ToolResult { content: Told::Shown(blocks), .. } => blocks.iter().map(Self::bytes).sum(),
        }
    }
}

fn messages(turns: &[Turn]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    for turn in turns {
        match turn {
            Turn::Input(input) => add_input(&mut messages, &input.parts),
            Turn::Unit(unit) => add_unit(&mut messages, unit),
        }
    }
    messages
}

/// Adds what somebody says: one text, or its texts and pictures in their order.
fn add_input<'a>(messages: &mut Vec<Message<'a>>, parts: &'a [Part]) {
    if !parts.iter().any(Part::is_image) {
        return add_text(messages, Role::User, text_of(parts));
    }
    for part in parts {
        match part {
            Part::Text { text, .. } => add_text(messages, Role::User, Cow::Borrowed(text)),
            Part::Image { media, data, .. } => add(messages, Role::User, Content::image(*media, data)),
        }
    }
}

fn add_unit<'a>(messages: &mut Vec<Message<'a>>, unit: &'a Unit) {
    let said = unit.message();
    add_text(messages, Role::Assistant, text_of(&said.parts));
    for call in &said.calls {
        let content =
            Content::ToolUse { id: call.id, name: names::encode(&call.tool), input: arguments(call) };
        add(messages, Role::Assistant, content);
    }
    for result in unit.results() {
        add(messages, Role::User, told(result));
    }
    // The provider wants the results of all calls before anything else.
    for result in unit.results().iter().filter(|result| is_error(result) && picture::is_shown(result)) {
        add_text(messages, Role::User, Cow::Owned(picture::caption(result)));
        for (media, data) in picture::of(result) {
            add(messages, Role::User, Content::image(media, data));
        }
    }
}

/// Adds text; the format refuses a block without any.
fn add_text<'a>(messages: &mut Vec<Message<'a>>, role: Role, text: Cow<'a, str>) {
    if !text.trim().is_empty() {
        add(messages, role, Content::Text { text });
    }
}

fn add<'a>(messages: &mut Vec<Message<'a>>, role: Role, content: Content<'a>) {
    match messages.last_mut().filter(|last| last.role == role) {
        Some(last) => last.content.push(content.into()),
        None => messages.push(Message { role, content: vec![content.into()] }),
    }
}

/// The arguments as the object that the format insists on; what is none travels inside one.
fn arguments(call: &ToolCall) -> Value {
    match serde_json::from_str::<Value>(&call.arguments) {
        Ok(object @ Value::Object(_)) => object,
        Ok(_) | Err(_) => serde_json::json!({ "unreadable": call.arguments }),
    }
}

fn told(result: &ToolResult) -> Content<'_> {
    let (status, is_error) = (status_word(result.status), is_error(result));
    let content = if is_error || !picture::is_shown(result) {
        Told::Text(format!("[{status}] {}", text_of(&result.parts)))
    } else {
        let status = Content::Text { text: Cow::Owned(format!("[{status}]")) };
        Told::Shown(std::iter::once(status).chain(result.parts.iter().filter_map(shown)).collect())
    };
    Content::ToolResult { tool_use_id: result.call, content, is_error }
}

/// A part inside a result; the format refuses a text without words.
fn shown(part: &Part) -> Option<Content<'_>> {
    match part {
        Part::Text { text, .. } if text.trim().is_empty() => None,
        Part::Text { text, .. } => Some(Content::Text { text: Cow::Borrowed(text) }),
        Part::Image { media, data, .. } => Some(Content::image(*media, data)),
    }
}

fn is_error(result: &ToolResult) -> bool {
    result.status != CallStatus::Ok
}
