//! `POST /v1/chat/completions`: the chat completions of the OpenAI API.
//!
//! Of what tunes a model, `temperature`, `top_p`, `stop` and the most tokens have their effect; `seed` and its like are
//! accepted and left to the agent's configuration. What would change the meaning of the answer and is not done here is
//! refused by its name.

mod write;

use axum::extract::State;
use axum::response::Response;
use dromia_contracts::Actor;
use dromia_contracts::input::InputBody;
use serde::Deserialize;
use serde_json::{Number, Value, json};

use self::write::ChatWriter;
use super::answer_format::read_answer_format;
use super::client_tools::{CompatApi, ReadOffer, RequestOptions, ToolDeclaration};
use super::compat_request::CompatRequest;
use super::content::{MessageContent, is_empty, is_free_choice};
use super::field_error::invalid_field;
use super::history::{
    ClaimedToolCall, ConversationHistory, ConversationInput, MESSAGES_MAX, PastLocation, before_the_last,
};
use super::other_fields::{FieldRule, OtherFields};
use super::request_heads::RequestHeads;
use super::turn::submit_and_answer;
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathedBody, parse_json_with_path};
use crate::failure::Answer;

#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    model: String,
    messages: Vec<ChatRequestMessage>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<Number>,
    #[serde(default)]
    top_p: Option<Number>,
    #[serde(default)]
    stop: Option<Value>,
    #[serde(default)]
    tools: Option<Vec<ToolDeclaration>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(flatten)]
    others: OtherFields,
}

/// What would change the meaning of the answer and is not done here.
const REFUSED: &[FieldRule] = &[
    ("n", |n| *n == 1),
    ("logprobs", is_empty),
    ("top_logprobs", |most| *most == 0),
    ("logit_bias", is_empty),
    ("modalities", |modalities| *modalities == json!(["text"])),
    ("audio", is_empty),
    ("web_search_options", |_| false),
    ("functions", is_empty),
    ("function_call", is_free_choice),
];

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ChatRequestMessage {
    role: String,
    #[serde(default)]
    content: Option<MessageContent>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ChatMessageCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    function_call: Option<Value>,
    #[serde(default)]
    audio: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ChatMessageCall {
    id: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    function: Option<ChatMessageFunction>,
}

#[derive(Debug, Deserialize)]
struct ChatMessageFunction {
    name: String,
    arguments: String,
}

pub(crate) async fn complete_chat(
    State(core): State<Shared>,
    caller: Caller,
    heads: RequestHeads,
    PathedBody(request): PathedBody<ChatRequest>,
) -> Answer<Response> {
    let usage = request.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true);
    let past = PastLocation::of_header(heads.session);
    let asked = request.into_compat_request(caller.scope.actor().clone(), past)?;
    submit_and_answer(core, caller, heads, asked, |running| ChatWriter { running, created: 0, usage }).await
}

/// Reads a body, and returns what would be stored of it.
pub(crate) fn parse_chat_body(author: &Actor, continues: bool, bytes: &[u8]) -> Answer<InputBody> {
    let request: ChatRequest = parse_json_with_path(bytes)?;
    let past = PastLocation::known_to_session(continues);
    Ok(request.into_compat_request(author.clone(), past)?.into_input_body(author))
}

impl ChatRequest {
    /// Reads what is asked for.
    fn into_compat_request(mut self, author: Actor, past: PastLocation) -> Answer<CompatRequest> {
        let format = self.others.take("response_format");
        self.others.refuse_unsupported(REFUSED)?;
        let stream = self.stream == Some(true);
        let asking = RequestOptions {
            tools: self.tools,
            earlier_tools: Vec::new(),
            choice: self.tool_choice,
            one_call: self.parallel_tool_calls == Some(false),
            tokens: match (self.max_completion_tokens, self.max_tokens) {
                (Some(most), _) => Some(("max_completion_tokens", most)),
                (None, most) => most.map(|most| ("max_tokens", most)),
            },
            temperature: self.temperature,
            top_p: self.top_p,
            stop: self.stop.map(|stop| ("stop", stop)),
            answer: read_answer_format("response_format", format.as_ref())?,
        };
        let ReadOffer { offer, warnings } = asking.into_offer(CompatApi::Chat)?;
        let history = ConversationHistory::new(author, past);
        let said = read_messages(history, self.messages)?;
        Ok(CompatRequest {
            platform: "openai",
            model: self.model,
            said,
            offer,
            stream,
            warnings,
            answer_field: "response_format",
        })
    }
}

/// Reads the messages; only the last one, or the results at the end, where a session has the others.
fn read_messages(
    mut history: ConversationHistory,
    messages: Vec<ChatRequestMessage>,
) -> Answer<ConversationInput> {
    if messages.len() > MESSAGES_MAX {
        return Err(invalid_field(
            "messages",
            &format!("there may be at most {MESSAGES_MAX} messages, not {}", messages.len()),
        ));
    }
    let is_result = |message: &ChatRequestMessage| message.role == "tool";
    let skipped = if history.takes_last_only() { before_the_last(&messages, is_result) } else { 0 };
    let last = format!("messages[{}]", messages.len().saturating_sub(1));
    for (at, message) in messages.into_iter().enumerate().skip(skipped) {
        add_message(&mut history, &format!("messages[{at}]"), message)?;
    }
    history.finish(&last)
}

fn add_message(history: &mut ConversationHistory, path: &str, message: ChatRequestMessage) -> Answer<()> {
    if message.function_call.is_some_and(|call| !call.is_null()) {
        return Err(invalid_field(&format!("{path}.function_call"), "send `tool_calls` instead"));
    }
    if message.audio.is_some_and(|audio| !audio.is_null()) {
        return Err(invalid_field(
            &format!("{path}.audio"),
            "audio is not supported; send its text as `content`",
        ));
    }
    let place = format!("{path}.content");
    match message.role.as_str() {
        "user" => {
            let said = message.content.map(|content| content.into_user_parts(&place)).transpose()?;
            return history.add_user(path, said.unwrap_or_default());
        }
        "tool" => {
            let given = message
                .content
                .map(|content| content.into_tool_parts(&place))
                .transpose()?
                .unwrap_or_default();
            return match message.tool_call_id {
                Some(id) => history.add_result(path, &id, given, false),
                None => {
                    Err(invalid_field(&format!("{path}.tool_call_id"), "a tool message must name its call"))
                }
            };
        }
        _ => {}
    }
    let mut texts =
        message.content.map(|content| content.into_texts(&place)).transpose()?.unwrap_or_default();
    texts.extend(message.refusal);
    match message.role.as_str() {
        "system" | "developer" => history.add_system(path, &texts),
        "assistant" => {
            let calls = message.tool_calls.unwrap_or_default().into_iter().enumerate();
            let calls: Answer<Vec<_>> = calls.map(|(at, call)| claimed_call(path, at, call)).collect();
            history.add_assistant(path, texts, calls?)
        }
        _ => Err(invalid_field(
            &format!("{path}.role"),
            "it must be one of system, developer, user, assistant and tool",
        )),
    }
}

fn claimed_call(path: &str, at: usize, call: ChatMessageCall) -> Answer<ClaimedToolCall> {
    let Some(ChatMessageFunction { name, arguments }) = call.function else {
        let kind: String = call.kind.unwrap_or_default().chars().take(40).collect();
        return Err(invalid_field(
            &format!("{path}.tool_calls[{at}]"),
            &format!("calls of the type {kind:?} are not supported"),
        ));
    };
    Ok(ClaimedToolCall { id: call.id, tool: name, arguments })
}
