//! Our request as chat completions JSON, written straight to bytes.
//!
//! Inputs become `user` messages; a unit becomes an `assistant` message with `tool_calls`, followed by one `tool`
//! message per result. A result begins with its status in brackets, always, so that no tool can forge one. A `tool`
//! message holds text only, so the pictures of a unit's results follow them in one `user` message. Because an
//! [`AssistantUnit`](dromia_contracts::transcript::AssistantUnit) holds a result for every call, no orphan can reach
//! the provider.

use std::borrow::Cow;

use bytes::Bytes;
use dromia_contracts::CallId;
use dromia_contracts::client::ToolChoice;
use dromia_contracts::content::{CallStatus, ContentPart, ToolCall, ToolResult, parts_text};
use dromia_contracts::tool::ToolDescriptor;
use dromia_contracts::transcript::{AssistantUnit, TranscriptTurn};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::encoded_request::{EncodableRequest, openai_answer_format};
use crate::http::OutputLimit;
use crate::image::{self, data_url};
use crate::names;
use crate::scripted::{status_of, status_word};

/// Writes the body of one request.
pub(crate) fn encode_body(letter: &EncodableRequest<'_>) -> Result<Bytes, serde_json::Error> {
    let mut bytes = Vec::with_capacity(4096);
    serde_json::to_writer(&mut bytes, &ChatBody(letter))?;
    Ok(bytes.into())
}

/// Splits the content of a `tool` message into the status and the text of the result.
pub fn result_parts(content: &str) -> Option<(CallStatus, &str)> {
    let (word, text) = content.strip_prefix('[')?.split_once(']')?;
    Some((status_of(word)?, text.strip_prefix(' ').unwrap_or(text)))
}

struct ChatBody<'a>(&'a EncodableRequest<'a>);

impl Serialize for ChatBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(letter) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", letter.model)?;
        map.serialize_entry("messages", &ChatMessages(letter))?;
        let wishes = &letter.request.wishes;
        if !letter.request.tools.is_empty() {
            map.serialize_entry("tools", &ChatTools(&letter.request.tools))?;
            match &wishes.choice {
                ToolChoice::Free => {}
                ToolChoice::Required => map.serialize_entry("tool_choice", "required")?,
                ToolChoice::Named(name) => {
                    map.serialize_entry("tool_choice", &ChatToolChoice::for_function(name))?;
                }
            }
            if wishes.one_call {
                map.serialize_entry("parallel_tool_calls", &false)?;
            }
        }
        if let Some(temperature) = &wishes.temperature {
            map.serialize_entry("temperature", temperature)?;
        }
        if let Some(top_p) = &wishes.top_p {
            map.serialize_entry("top_p", top_p)?;
        }
        if !wishes.stop.is_empty() {
            map.serialize_entry("stop", &wishes.stop)?;
        }
        if let Some(answer) = letter.answer {
            map.serialize_entry("response_format", &openai_answer_format(answer, true))?;
        }
        let limit = match letter.output_limit {
            OutputLimit::MaxTokens => "max_tokens",
            OutputLimit::MaxCompletionTokens => "max_completion_tokens",
        };
        map.serialize_entry(limit, &letter.output_tokens_max)?;
        if letter.stream {
            map.serialize_entry("stream", &true)?;
            map.serialize_entry("stream_options", &StreamOptions { include_usage: true })?;
        }
        map.end()
    }
}

/// The one tool that must be called.
#[derive(Serialize)]
struct ChatToolChoice<'a> {
    r#type: &'static str,
    function: FunctionName<'a>,
}

#[derive(Serialize)]
struct FunctionName<'a> {
    name: Cow<'a, str>,
}

impl<'a> ChatToolChoice<'a> {
    fn for_function(name: &'a str) -> Self {
        Self { r#type: "function", function: FunctionName { name: names::encode_name(name) } }
    }
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

struct ChatMessages<'a>(&'a EncodableRequest<'a>);

impl Serialize for ChatMessages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let system = &self.0.request.system;
        if !system.is_empty() {
            seq.serialize_element(&ChatMessage::System { content: system })?;
        }
        for turn in self.0.turns {
            match turn {
                TranscriptTurn::Input(input) => {
                    seq.serialize_element(&ChatMessage::User {
                        content: ChatContent::from_parts(&input.parts),
                    })?;
                }
                TranscriptTurn::Summary(parts) => {
                    seq.serialize_element(&ChatMessage::User { content: ChatContent::from_parts(parts) })?;
                }
                TranscriptTurn::Unit(unit) => {
                    seq.serialize_element(&assistant_message(unit))?;
                    for result in unit.results() {
                        seq.serialize_element(&tool_message(result))?;
                    }
                    let shown = result_pictures(unit);
                    if !shown.is_empty() {
                        seq.serialize_element(&ChatMessage::User { content: ChatContent::Pieces(shown) })?;
                    }
                }
            }
        }
        seq.end()
    }
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum ChatMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: ChatContent<'a>,
    },
    Assistant {
        content: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ChatToolCall<'a>>,
    },
    Tool {
        tool_call_id: CallId,
        content: String,
    },
}

/// The content of a message: a text alone, or with pictures.
#[derive(Serialize)]
#[serde(untagged)]
enum ChatContent<'a> {
    Text(Cow<'a, str>),
    Pieces(Vec<ChatContentPart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ChatContentPart<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

impl<'a> ChatContent<'a> {
    fn from_parts(parts: &'a [ContentPart]) -> Self {
        if !parts.iter().any(ContentPart::is_image) {
            return Self::Text(text_of(parts));
        }
        let piece = |part: &'a ContentPart| match part {
            ContentPart::Text { text, .. } => ChatContentPart::Text { text: Cow::Borrowed(text) },
            ContentPart::Image { media, data, .. } => ChatContentPart::from_image_url(data_url(*media, data)),
        };
        Self::Pieces(parts.iter().map(piece).collect())
    }
}

impl ChatContentPart<'_> {
    fn from_image_url(url: String) -> Self {
        Self::ImageUrl { image_url: ImageUrl { url } }
    }
}

/// The pictures of a unit's results, those of each result behind a line that names it.
fn result_pictures(unit: &AssistantUnit) -> Vec<ChatContentPart<'_>> {
    let of_one = |result: &ToolResult| {
        let caption = ChatContentPart::Text { text: Cow::Owned(image::pictures_caption(result)) };
        let images = image::result_pictures(result)
            .map(|(media, data)| ChatContentPart::from_image_url(data_url(media, data)));
        std::iter::once(caption).chain(images).collect::<Vec<_>>()
    };
    unit.results().iter().filter(|result| image::is_shown(result)).flat_map(of_one).collect()
}

#[derive(Serialize)]
struct ChatToolCall<'a> {
    id: CallId,
    r#type: &'static str,
    function: ChatFunctionCall<'a>,
}

#[derive(Serialize)]
struct ChatFunctionCall<'a> {
    name: Cow<'a, str>,
    arguments: Cow<'a, str>,
}

fn assistant_message(unit: &AssistantUnit) -> ChatMessage<'_> {
    let message = unit.message();
    ChatMessage::Assistant {
        content: text_of(&message.parts),
        tool_calls: message.calls.iter().map(encode_call).collect(),
    }
}

fn encode_call(call: &ToolCall) -> ChatToolCall<'_> {
    ChatToolCall {
        id: call.id,
        r#type: "function",
        function: ChatFunctionCall { name: names::encode_name(&call.tool), arguments: arguments_json(call) },
    }
}

/// The arguments of a call as JSON text. Strict servers refuse a whole conversation for one call whose arguments
/// are not JSON, and the transcript keeps what the model wrote; so what is not JSON travels inside JSON.
pub(crate) fn arguments_json(call: &ToolCall) -> Cow<'_, str> {
    if serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments).is_ok() {
        Cow::Borrowed(&*call.arguments)
    } else {
        Cow::Owned(serde_json::json!({ "unreadable": call.arguments }).to_string())
    }
}

fn tool_message(result: &ToolResult) -> ChatMessage<'static> {
    let content = format!("[{}] {}", status_word(result.status), text_of(&result.parts));
    ChatMessage::Tool { tool_call_id: result.call, content }
}

struct ChatTools<'a>(&'a [ToolDescriptor]);

impl Serialize for ChatTools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ChatTool<'a> {
            r#type: &'static str,
            function: ChatFunction<'a>,
        }
        #[derive(Serialize)]
        struct ChatFunction<'a> {
            name: Cow<'a, str>,
            description: &'a str,
            parameters: &'a serde_json::Value,
        }
        serializer.collect_seq(self.0.iter().map(|tool| ChatTool {
            r#type: "function",
            function: ChatFunction {
                name: names::encode_name(&tool.name),
                description: &tool.description,
                parameters: &tool.parameters,
            },
        }))
    }
}

pub(crate) fn text_of(parts: &[ContentPart]) -> Cow<'_, str> {
    match parts {
        [] => Cow::Borrowed(""),
        [only] => Cow::Borrowed(only.as_text()),
        several => Cow::Owned(parts_text(several)),
    }
}
