//! Our request in the provider's words, written straight to bytes.
//!
//! Inputs become `user` messages; a unit becomes an `assistant` message with `tool_calls`, followed by one
//! `tool` message per result. A result begins with its status in brackets, always, so that no tool can forge
//! one. A `tool` message holds text only, so the pictures of a unit's results follow them in one `user` message.
//! Because a [`Unit`] holds a result for every call, no orphan can reach the provider.

use std::borrow::Cow;

use bytes::Bytes;
use dromia_contracts::CallId;
use dromia_contracts::client::ToolChoice;
use dromia_contracts::content::{CallStatus, Part, ToolCall, ToolResult, parts_text};
use dromia_contracts::tool::ToolDescriptor;
use dromia_contracts::transcript::{Turn, Unit};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::http::OutputLimit;
use crate::letter::Letter;
use crate::names;
use crate::picture::{self, data_url};
use crate::scripted::{status_of, status_word};

/// Writes the body of one request.
pub(crate) fn body(letter: &Letter<'_>) -> Result<Bytes, serde_json::Error> {
    let mut bytes = Vec::with_capacity(4096);
    serde_json::to_writer(&mut bytes, &Body(letter))?;
    Ok(bytes.into())
}

/// Splits the content of a `tool` message into the status and the text of the result.
pub fn result_parts(content: &str) -> Option<(CallStatus, &str)> {
    let (word, text) = content.strip_prefix('[')?.split_once(']')?;
    Some((status_of(word)?, text.strip_prefix(' ').unwrap_or(text)))
}

struct Body<'a>(&'a Letter<'a>);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(letter) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", letter.model)?;
        map.serialize_entry("messages", &Messages(letter))?;
        let wishes = &letter.request.wishes;
        if !letter.request.tools.is_empty() {
            map.serialize_entry("tools", &Tools(&letter.request.tools))?;
            match &wishes.choice {
                ToolChoice::Free => {}
                ToolChoice::Required => map.serialize_entry("tool_choice", "required")?,
                ToolChoice::Named(name) => map.serialize_entry("tool_choice", &Named::of(name))?,
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
struct Named<'a> {
    r#type: &'static str,
    function: Name<'a>,
}

#[derive(Serialize)]
struct Name<'a> {
    name: Cow<'a, str>,
}

impl<'a> Named<'a> {
    fn of(name: &'a str) -> Self {
        Self { r#type: "function", function: Name { name: names::encode(name) } }
    }
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

struct Messages<'a>(&'a Letter<'a>);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let system = &self.0.request.system;
        if !system.is_empty() {
            seq.serialize_element(&Message::System { content: system })?;
        }
        for turn in self.0.turns {
            match turn {
                Turn::Input(input) => {
                    seq.serialize_element(&Message::User { content: Said::of(&input.parts) })?;
                }
                Turn::Unit(unit) => {
                    seq.serialize_element(&assistant(unit))?;
                    for result in unit.results() {
                        seq.serialize_element(&answer(result))?;
                    }
                    let shown = shown(unit);
                    if !shown.is_empty() {
                        seq.serialize_element(&Message::User { content: Said::Pieces(shown) })?;
                    }
                }
            }
        }
        seq.end()
    }
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Said<'a>,
    },
    Assistant {
        content: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: CallId,
        content: String,
    },
}

/// What somebody says: a text alone, or with pictures.
#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Text(Cow<'a, str>),
    Pieces(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

impl<'a> Said<'a> {
    fn of(parts: &'a [Part]) -> Self {
        if !parts.iter().any(Part::is_image) {
            return Self::Text(text_of(parts));
        }
        let piece = |part: &'a Part| match part {
            Part::Text { text, .. } => Piece::Text { text: Cow::Borrowed(text) },
            Part::Image { media, data, .. } => Piece::image(data_url(*media, data)),
        };
        Self::Pieces(parts.iter().map(piece).collect())
    }
}

impl Piece<'_> {
    fn image(url: String) -> Self {
        Self::ImageUrl { image_url: ImageUrl { url } }
    }
}

/// The pictures of a unit's results, those of each result behind a line that names it.
fn shown(unit: &Unit) -> Vec<Piece<'_>> {
    let of_one = |result: &ToolResult| {
        let caption = Piece::Text { text: Cow::Owned(picture::caption(result)) };
        let images = picture::of(result).map(|(media, data)| Piece::image(data_url(media, data)));
        std::iter::once(caption).chain(images).collect::<Vec<_>>()
    };
    unit.results().iter().filter(|result| picture::is_shown(result)).flat_map(of_one).collect()
}

#[derive(Serialize)]
struct Call<'a> {
    id: CallId,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: Cow<'a, str>,
    arguments: Cow<'a, str>,
}

fn assistant(unit: &Unit) -> Message<'_> {
    let message = unit.message();
    Message::Assistant {
        content: text_of(&message.parts),
        tool_calls: message.calls.iter().map(asked).collect(),
    }
}

fn asked(call: &ToolCall) -> Call<'_> {
    Call {
        id: call.id,
        r#type: "function",
        function: Function { name: names::encode(&call.tool), arguments: arguments(call) },
    }
}

/// The arguments of a call as JSON text. Strict servers refuse a whole conversation for one call whose arguments
/// are not JSON, and the transcript keeps what the model wrote; so what is not JSON travels inside JSON.
pub(crate) fn arguments(call: &ToolCall) -> Cow<'_, str> {
    if serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments).is_ok() {
        Cow::Borrowed(&*call.arguments)
    } else {
        Cow::Owned(serde_json::json!({ "unreadable": call.arguments }).to_string())
    }
}

fn answer(result: &ToolResult) -> Message<'static> {
    let content = format!("[{}] {}", status_word(result.status), text_of(&result.parts));
    Message::Tool { tool_call_id: result.call, content }
}

struct Tools<'a>(&'a [ToolDescriptor]);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tool<'a> {
            r#type: &'static str,
            function: Declared<'a>,
        }
        #[derive(Serialize)]
        struct Declared<'a> {
            name: Cow<'a, str>,
            description: &'a str,
            parameters: &'a serde_json::Value,
        }
        serializer.collect_seq(self.0.iter().map(|tool| Tool {
            r#type: "function",
            function: Declared {
                name: names::encode(&tool.name),
                description: &tool.description,
                parameters: &tool.parameters,
            },
        }))
    }
}

pub(crate) fn text_of(parts: &[Part]) -> Cow<'_, str> {
    match parts {
        [] => Cow::Borrowed(""),
        [only] => Cow::Borrowed(only.as_text()),
        several => Cow::Owned(parts_text(several)),
    }
}
