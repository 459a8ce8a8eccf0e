//! The script read off a wire request, and its next move as a wire answer.

use std::borrow::Cow;

use dromia_contracts::content::CallStatus;
use dromia_models::chat::result_parts;
use dromia_models::names;
use dromia_models::scripted::{
    CallOutcome, Done, ScriptInput, ScriptMove, ScriptedCall, ScriptedFailure, next_move,
};
use dromia_models::tokens;
use serde::Deserialize;
use serde_json::{Value, json};

/// What a request asks for and how it is answered.
pub(super) struct PlannedAnswer {
    /// Bytes of its system messages.
    pub(super) system_bytes: usize,
    /// How long the answer takes.
    pub(super) slow_ms: u64,
    /// The answer.
    pub(super) answer: WireAnswer,
}

/// An answer, ready to be sent.
pub(super) enum WireAnswer {
    /// One JSON object.
    Whole(Vec<u8>),
    /// An error.
    Refused {
        /// Its status.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// The beginning of a JSON object; then the connection ends.
    Torn(Vec<u8>),
    /// Events of a stream.
    Events {
        /// Each with its empty line.
        events: Vec<String>,
        /// Whether the stream ends as it should; else the connection does.
        complete: bool,
    },
}

/// Reads a request and decides its answer; `None` for what is no request.
pub(super) fn plan_answer(body: &[u8]) -> Option<PlannedAnswer> {
    let request: WireRequest<'_> = serde_json::from_slice(body).ok()?;
    let system = request.messages.iter().filter(|message| message.role == "system");
    let system_bytes = system.map(|message| message.content_text().len()).sum();
    let ScriptMove { slow_ms, text, calls } = next_move(&read_script(&request.messages));
    let input_tokens = tokens::estimate_tokens(body.len());
    let answer = match text {
        Ok(text) if request.stream => {
            WireAnswer::Events { events: stream_events(&text, &calls, input_tokens), complete: true }
        }
        Ok(text) => WireAnswer::Whole(whole_body(&text, &calls, input_tokens)),
        Err(ScriptedFailure::Unavailable) => {
            WireAnswer::Refused { status: 503, body: error_body("told to be unavailable") }
        }
        Err(ScriptedFailure::Rejected) => {
            WireAnswer::Refused { status: 400, body: error_body("told to refuse the request") }
        }
        Err(ScriptedFailure::Cut) if request.stream => {
            let mut events = stream_events("an answer that breaks off ", &[], input_tokens);
            events.truncate(1);
            WireAnswer::Events { events, complete: false }
        }
        Err(ScriptedFailure::Cut) => {
            WireAnswer::Torn(b"{\"choices\":[{\"message\":{\"content\":\"an ans".to_vec())
        }
    };
    Some(PlannedAnswer { system_bytes, slow_ms, answer })
}

/// Writes an error as providers do.
pub(super) fn error_body(message: &str) -> Vec<u8> {
    json!({ "error": { "message": message, "type": "scripted" } }).to_string().into_bytes()
}

fn read_script<'a>(messages: &'a [WireMessage<'a>]) -> ScriptInput<'a> {
    let last = messages.iter().rposition(|message| message.role == "user");
    let input = last.map_or(Cow::Borrowed(""), |last| Cow::Borrowed(messages[last].content_text()));
    let since = &messages[last.map_or(0, |last| last + 1)..];
    let asked = since.iter().enumerate().filter(|(_, message)| message.role == "assistant");
    let done = asked.map(|(place, message)| {
        let told = since[place + 1..].iter().take_while(|message| message.role == "tool");
        let results: Vec<_> = told.collect();
        message.tool_calls.iter().flatten().map(|call| call_outcome(call, &results)).collect::<Done<'a>>()
    });
    ScriptInput { input, done: done.collect() }
}

fn call_outcome<'a>(call: &'a WireCall<'a>, results: &[&'a WireMessage<'a>]) -> CallOutcome<'a> {
    let told = results.iter().find(|message| message.tool_call_id.as_deref() == Some(&call.id));
    let content = told.map_or("", |message| message.content_text());
    let (status, text) = result_parts(content).unwrap_or((CallStatus::Ok, content));
    CallOutcome {
        tool: names::decode_name(&call.function.name),
        arguments: Cow::Borrowed(&call.function.arguments),
        status,
        text: Cow::Borrowed(text),
    }
}

fn usage_json(input_tokens: u32, text: &str, calls: &[ScriptedCall]) -> Value {
    let asked: usize = calls.iter().map(|call| call.tool.len() + call.arguments.len()).sum();
    let output_tokens = tokens::estimate_tokens(text.len() + asked);
    json!({
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": u64::from(input_tokens) + u64::from(output_tokens),
    })
}

fn finish_reason(calls: &[ScriptedCall]) -> &'static str {
    if calls.is_empty() { "stop" } else { "tool_calls" }
}

fn wire_call(index: usize, call: &ScriptedCall, arguments: &str) -> Value {
    json!({
        "index": index,
        "id": format!("call_{index}"),
        "type": "function",
        "function": { "name": names::encode_name(&call.tool), "arguments": arguments },
    })
}

fn whole_body(text: &str, calls: &[ScriptedCall], input_tokens: u32) -> Vec<u8> {
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        let calls = calls.iter().enumerate().map(|(index, call)| wire_call(index, call, &call.arguments));
        message["tool_calls"] = calls.collect();
    }
    json!({
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish_reason(calls) }],
        "usage": usage_json(input_tokens, text, calls),
    })
    .to_string()
    .into_bytes()
}

/// Writes a stream: text in words, each call's arguments in two fragments, the usage, the end.
fn stream_events(text: &str, calls: &[ScriptedCall], input_tokens: u32) -> Vec<String> {
    let choice =
        |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let event = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "scripted",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "scripted",
            "choices": choices,
            "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let mut events = Vec::new();
    let words = text.split_inclusive(' ').collect::<Vec<_>>();
    for piece in words.chunks(words.len().div_ceil(8).max(4)) {
        events.push(event(choice(json!({ "content": piece.concat() }), Value::Null), Value::Null));
    }
    for (index, call) in calls.iter().enumerate() {
        let (head, tail) =
            call.arguments.split_at(call.arguments.floor_char_boundary(call.arguments.len() / 2));
        let first = json!({ "tool_calls": [wire_call(index, call, head)] });
        let second = json!({ "tool_calls": [{ "index": index, "function": { "arguments": tail } }] });
        events.push(event(choice(first, Value::Null), Value::Null));
        events.push(event(choice(second, Value::Null), Value::Null));
    }
    events.push(event(choice(json!({}), json!(finish_reason(calls))), Value::Null));
    events.push(event(json!([]), usage_json(input_tokens, text, calls)));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

#[derive(Deserialize)]
struct WireRequest<'a> {
    #[serde(borrow)]
    messages: Vec<WireMessage<'a>>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<WireCall<'a>>>,
    #[serde(borrow, default)]
    tool_call_id: Option<Cow<'a, str>>,
}

impl WireMessage<'_> {
    fn content_text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    function: WireFunction<'a>,
}

#[derive(Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Cow<'a, str>,
}
