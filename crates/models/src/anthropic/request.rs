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
use dromia_contracts::client::{SamplingOptions, ToolChoice};
use dromia_contracts::content::{CallStatus, ContentPart, ImageMediaType, ToolCall, ToolResult};
use dromia_contracts::model::ModelRequest;
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use serde::Serialize;
use serde_json::{Number, Value, json};

use crate::chat::request::text_of;
use crate::encoded_request::EncodableRequest;
use crate::image;
use crate::names;
use crate::scripted::status_word;

/// A prefix shorter than this is cached by no model of the provider, so marking it gains nothing.
const CACHED_BYTES_MIN: usize = 4096;

/// Writes the body of one request.
pub(crate) fn encode_body(letter: &EncodableRequest<'_>) -> Result<Bytes, serde_json::Error> {
    let request = letter.request;
    let tools: Vec<_> = request.tools.iter().map(AnthropicTool::from_descriptor).collect();
    let tool_bytes: usize = request.tools.iter().map(|tool| tool.name.len() + tool.description.len()).sum();
    let prefix = request.system.len() + tool_bytes;
    let mut messages = build_messages(letter.turns);
    let blocks = messages.iter().flat_map(|message| &message.content);
    if prefix + blocks.map(AnthropicBlock::byte_count).sum::<usize>() >= CACHED_BYTES_MIN
        && let Some(last) = messages.last_mut().and_then(|message| message.content.last_mut())
    {
        last.cache_control = Some(CacheControl::default());
    }
    let system = (!request.system.is_empty()).then(|| {
        let mut block = AnthropicBlock::from(AnthropicContent::Text { text: Cow::Borrowed(&request.system) });
        block.cache_control = (prefix >= CACHED_BYTES_MIN).then(CacheControl::default);
        [block]
    });
    let (model, max_tokens) = (letter.model, letter.output_tokens_max);
    let wishes = &letter.request.wishes;
    let body = AnthropicBody {
        model,
        max_tokens,
        system,
        tools,
        tool_choice: AnthropicToolChoice::from_request(letter.request),
        messages,
        temperature: wishes.temperature.as_ref(),
        top_p: wishes.top_p.as_ref(),
        stop_sequences: &wishes.stop,
        output_config: letter
            .answer
            .map(|answer| json!({"format": {"type": "json_schema", "schema": answer.effective_schema()}})),
        stream: letter.stream,
    };
    Ok(serde_json::to_vec(&body)?.into())
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<[AnthropicBlock<'a>; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<AnthropicTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<AnthropicToolChoice<'a>>,
    messages: Vec<AnthropicMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Number>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    stream: bool,
}

/// How the model shall choose among the tools; absent where that is left to it.
#[derive(Serialize)]
struct AnthropicToolChoice<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

impl<'a> AnthropicToolChoice<'a> {
    fn from_request(request: &'a ModelRequest) -> Option<Self> {
        let SamplingOptions { choice, one_call, .. } = &request.wishes;
        if request.tools.is_empty() || (choice.is_free() && !one_call) {
            return None;
        }
        let (r#type, name) = match choice {
            ToolChoice::Free => ("auto", None),
            ToolChoice::Required => ("any", None),
            ToolChoice::Named(name) => ("tool", Some(names::encode_name(name))),
        };
        Some(Self { r#type, name, disable_parallel_tool_use: *one_call })
    }
}

#[derive(Serialize)]
struct AnthropicTool<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    input_schema: &'a Value,
}

impl<'a> AnthropicTool<'a> {
    fn from_descriptor(tool: &'a dromia_contracts::tool::ToolDescriptor) -> Self {
        Self {
            name: names::encode_name(&tool.name),
            description: &tool.description,
            input_schema: &tool.parameters,
        }
    }
}

#[derive(Serialize)]
struct AnthropicMessage<'a> {
    role: MessageRole,
    content: Vec<AnthropicBlock<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum MessageRole {
    User,
    Assistant,
}

#[derive(Serialize)]
struct AnthropicBlock<'a> {
    #[serde(flatten)]
    content: AnthropicContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnthropicContent<'a> {
    Text { text: Cow<'a, str> },
    Image { source: ImageSource<'a> },
    ToolUse { id: CallId, name: Cow<'a, str>, input: Value },
    ToolResult { tool_use_id: CallId, content: AnthropicToolOutput<'a>, is_error: bool },
}

/// What a tool gave: a text alone, or its status, then its texts and pictures in their order.
#[derive(Serialize)]
#[serde(untagged)]
enum AnthropicToolOutput<'a> {
    Text(String),
    Shown(Vec<AnthropicContent<'a>>),
}

/// A picture with its bytes.
#[derive(Serialize)]
struct ImageSource<'a> {
    r#type: &'static str,
    media_type: &'static str,
    data: &'a str,
}

/// A cache breakpoint: the provider may cache the prefix up to here.
#[derive(Serialize)]
struct CacheControl {
    r#type: &'static str,
}

impl Default for CacheControl {
    fn default() -> Self {
        Self { r#type: "ephemeral" }
    }
}

impl<'a> From<AnthropicContent<'a>> for AnthropicBlock<'a> {
    fn from(content: AnthropicContent<'a>) -> Self {
        Self { content, cache_control: None }
    }
}

impl AnthropicBlock<'_> {
    fn byte_count(&self) -> usize {
        self.content.byte_count()
    }
}

impl<'a> AnthropicContent<'a> {
    fn from_image(media: ImageMediaType, data: &'a str) -> Self {
        Self::Image { source: ImageSource { r#type: "base64", media_type: media.as_str(), data } }
    }

    fn byte_count(&self) -> usize {
        match self {
            Self::Text { text } => text.len(),
            // An estimate is enough to decide about the cache.
            Self::ToolUse { .. } => 64,
            Self::Image { source } => source.data.len(),
            Self::ToolResult { content: AnthropicToolOutput::Text(text), .. } => text.len(),
            Self::ToolResult { content: AnthropicToolOutput::Shown(blocks), .. } => {
                blocks.iter().map(Self::byte_count).sum()
            }
        }
    }
}

fn build_messages(turns: &[TranscriptTurn]) -> Vec<AnthropicMessage<'_>> {
    let mut messages = Vec::new();
    for turn in turns {
        match turn {
            TranscriptTurn::Input(input) => add_input(&mut messages, &input.parts),
            TranscriptTurn::Summary(parts) => add_input(&mut messages, parts),
            TranscriptTurn::Unit(unit) => add_unit(&mut messages, unit),
        }
    }
    messages
}

/// Adds a user's message: one text, or its texts and pictures in their order.
fn add_input<'a>(messages: &mut Vec<AnthropicMessage<'a>>, parts: &'a [ContentPart]) {
    if !parts.iter().any(ContentPart::is_image) {
        return add_text(messages, MessageRole::User, text_of(parts));
    }
    for part in parts {
        match part {
            ContentPart::Text { text, .. } => add_text(messages, MessageRole::User, Cow::Borrowed(text)),
            ContentPart::Image { media, data, .. } => {
                add_content(messages, MessageRole::User, AnthropicContent::from_image(*media, data));
            }
        }
    }
}

fn add_unit<'a>(messages: &mut Vec<AnthropicMessage<'a>>, unit: &'a AssistantUnit) {
    let said = unit.message();
    add_text(messages, MessageRole::Assistant, text_of(&said.parts));
    for call in &said.calls {
        let content = AnthropicContent::ToolUse {
            id: call.id,
            name: names::encode_name(&call.tool),
            input: arguments_object(call),
        };
        add_content(messages, MessageRole::Assistant, content);
    }
    for result in unit.results() {
        add_content(messages, MessageRole::User, tool_result_content(result));
    }
    // The provider wants the results of all calls before anything else.
    for result in unit.results().iter().filter(|result| is_error(result) && image::is_shown(result)) {
        add_text(messages, MessageRole::User, Cow::Owned(image::pictures_caption(result)));
        for (media, data) in image::result_pictures(result) {
            add_content(messages, MessageRole::User, AnthropicContent::from_image(media, data));
        }
    }
}

/// Adds text; the format refuses a block without any.
fn add_text<'a>(messages: &mut Vec<AnthropicMessage<'a>>, role: MessageRole, text: Cow<'a, str>) {
    if !text.trim().is_empty() {
        add_content(messages, role, AnthropicContent::Text { text });
    }
}

fn add_content<'a>(
    messages: &mut Vec<AnthropicMessage<'a>>,
    role: MessageRole,
    content: AnthropicContent<'a>,
) {
    match messages.last_mut().filter(|last| last.role == role) {
        Some(last) => last.content.push(content.into()),
        None => messages.push(AnthropicMessage { role, content: vec![content.into()] }),
    }
}

/// The arguments as the object that the format insists on; what is none travels inside one.
fn arguments_object(call: &ToolCall) -> Value {
    match serde_json::from_str::<Value>(&call.arguments) {
        Ok(object @ Value::Object(_)) => object,
        Ok(_) | Err(_) => serde_json::json!({ "unreadable": call.arguments }),
    }
}

fn tool_result_content(result: &ToolResult) -> AnthropicContent<'_> {
    let (status, is_error) = (status_word(result.status), is_error(result));
    let content = if is_error || !image::is_shown(result) {
        AnthropicToolOutput::Text(format!("[{status}] {}", text_of(&result.parts)))
    } else {
        let status = AnthropicContent::Text { text: Cow::Owned(format!("[{status}]")) };
        AnthropicToolOutput::Shown(
            std::iter::once(status).chain(result.parts.iter().filter_map(result_part_content)).collect(),
        )
    };
    AnthropicContent::ToolResult { tool_use_id: result.call, content, is_error }
}

/// A part inside a result; the format refuses a text without words.
fn result_part_content(part: &ContentPart) -> Option<AnthropicContent<'_>> {
    match part {
        ContentPart::Text { text, .. } if text.trim().is_empty() => None,
        ContentPart::Text { text, .. } => Some(AnthropicContent::Text { text: Cow::Borrowed(text) }),
        ContentPart::Image { media, data, .. } => Some(AnthropicContent::from_image(*media, data)),
    }
}

fn is_error(result: &ToolResult) -> bool {
    result.status != CallStatus::Ok
}
