//! `POST /v1/responses`: the responses of the OpenAI API.
//!
//! Of what tunes a model, `temperature`, `top_p` and `max_output_tokens` have their effect; what else there is is
//! accepted and left to the agent's configuration. A conversation goes on in its session, named
//! by `X-Dromia-Session`, or with its items as `input`; what else would change the meaning of the answer and is not done
//! here is refused by its name.

mod write;

use std::fmt;

use axum::extract::State;
use axum::response::Response;
use dromia_contracts::Actor;
use dromia_contracts::input::InputBody;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use self::write::ResponsesWriter;
use super::client_tools::{CompatApi, RequestOptions, ToolDeclaration};
use super::content::{MessageContent, invalid_field, is_empty, refuse_unsupported};
use super::history::{
    ClaimedToolCall, ConversationHistory, ConversationInput, MESSAGES_MAX, before_the_last,
};
use super::turn::{CompatRequest, RequestHeads, submit_and_answer};
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathedBody, parse_json_with_path};
use crate::failure::Answer;

#[derive(Debug, Deserialize)]
pub(crate) struct ResponsesRequest {
    model: String,
    input: ResponsesInput,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    background: Option<Value>,
    #[serde(default)]
    previous_response_id: Option<Value>,
    #[serde(default)]
    conversation: Option<Value>,
    #[serde(default)]
    prompt: Option<Value>,
    #[serde(default)]
    text: Option<Value>,
    #[serde(default)]
    top_logprobs: Option<Value>,
    #[serde(default)]
    max_tool_calls: Option<Value>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<Number>,
    #[serde(default)]
    top_p: Option<Number>,
    #[serde(default)]
    tools: Option<Vec<ToolDeclaration>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
}

/// Items; a text alone is one message of the user.
#[derive(Debug)]
struct ResponsesInput(Vec<ResponsesInputItem>);

impl<'de> Deserialize<'de> for ResponsesInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputVisitor;

        impl<'de> Visitor<'de> for InputVisitor {
            type Value = ResponsesInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("it must be a string or a list of items")
            }

            fn visit_str<E>(self, text: &str) -> Result<ResponsesInput, E> {
                let (role, content) = (Some("user".to_owned()), Some(MessageContent::Text(text.to_owned())));
                Ok(ResponsesInput(vec![ResponsesInputItem {
                    role,
                    content,
                    ..ResponsesInputItem::default()
                }]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ResponsesInput, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(ResponsesInput(items))
            }
        }

        deserializer.deserialize_any(InputVisitor)
    }
}

/// One item of the input; which fields it has depends on its kind.
#[derive(Debug, Default, Deserialize)]
struct ResponsesInputItem {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    content: Option<MessageContent>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    #[serde(default)]
    output: Option<MessageContent>,
}

pub(crate) async fn create_response(
    State(core): State<Shared>,
    caller: Caller,
    heads: RequestHeads,
    PathedBody(request): PathedBody<ResponsesRequest>,
) -> Answer<Response> {
    let asked = request.into_compat_request(caller.scope.actor().clone(), heads.session.is_some())?;
    submit_and_answer(core, caller, heads, asked, ResponsesWriter::new).await
}

/// Reads a body, and returns what would be stored of it.
pub(crate) fn parse_responses_body(author: &Actor, continues: bool, bytes: &[u8]) -> Answer<InputBody> {
    let request: ResponsesRequest = parse_json_with_path(bytes)?;
    Ok(request.into_compat_request(author.clone(), continues)?.input_body(author))
}

impl ResponsesRequest {
    /// Reads what is asked for; `continues` says whether a session has the past.
    fn into_compat_request(self, author: Actor, continues: bool) -> Answer<CompatRequest> {
        self.refuse_unsupported_fields()?;
        let stream = self.stream == Some(true);
        let asking = RequestOptions {
            tools: self.tools,
            choice: self.tool_choice,
            one_call: self.parallel_tool_calls == Some(false),
            tokens: self.max_output_tokens.map(|most| ("max_output_tokens", most)),
            temperature: self.temperature,
            top_p: self.top_p,
            stop: None,
        };
        let offer = asking.into_offer(CompatApi::Responses)?;
        let history = ConversationHistory::new(author, continues);
        let said = read_items(history, self.instructions, self.input.0)?;
        Ok(CompatRequest { platform: "openai", model: self.model, said, offer, stream })
    }

    /// Refuses what would change the meaning of the answer and is not done here.
    fn refuse_unsupported_fields(&self) -> Answer<()> {
        for field in ["previous_response_id", "conversation"] {
            let value = if field == "conversation" { &self.conversation } else { &self.previous_response_id };
            refuse_unsupported(field, value.as_ref(), is_empty).map_err(|failure| {
                failure.with_hint("continue in a session with the header X-Dromia-Session")
            })?;
        }
        for (field, value) in [
            ("background", &self.background),
            ("prompt", &self.prompt),
            ("max_tool_calls", &self.max_tool_calls),
        ] {
            refuse_unsupported(field, value.as_ref(), is_empty)?;
        }
        refuse_unsupported(
            "text.format",
            self.text.as_ref().and_then(|text| text.get("format")),
            |format| format["type"] == "text",
        )?;
        refuse_unsupported("top_logprobs", self.top_logprobs.as_ref(), |most| *most == 0)
    }
}

/// Reads the items; only the last one, or the results at the end, where a session has the others.
fn read_items(
    mut history: ConversationHistory,
    instructions: Option<String>,
    items: Vec<ResponsesInputItem>,
) -> Answer<ConversationInput> {
    if items.len() > MESSAGES_MAX {
        return Err(invalid_field(
            "input",
            &format!("there may be at most {MESSAGES_MAX} items, not {}", items.len()),
        ));
    }
    if items.is_empty() {
        return Err(invalid_field("input", "there is no item to answer"));
    }
    if let Some(instructions) = instructions.filter(|_| !history.continues_session()) {
        history.add_system("instructions", &[instructions])?;
    }
    let is_result = |item: &ResponsesInputItem| item.kind.as_deref() == Some("function_call_output");
    let skipped = if history.continues_session() { before_the_last(&items, is_result) } else { 0 };
    let last = format!("input[{}]", items.len() - 1);
    let mut items = items.into_iter().enumerate().skip(skipped).peekable();
    while let Some((at, item)) = items.next() {
        let path = format!("input[{at}]");
        if item.kind.as_deref() != Some("function_call") {
            add_item(&mut history, &path, item)?;
            continue;
        }
        // Calls that follow one another were asked for in one message.
        let mut calls = vec![claimed_call(&path, item)?];
        while let Some((at, item)) = items.next_if(|(_, item)| item.kind.as_deref() == Some("function_call"))
        {
            calls.push(claimed_call(&format!("input[{at}]"), item)?);
        }
        history.add_assistant(&path, Vec::new(), calls)?;
    }
    history.finish(&last)
}

fn add_item(history: &mut ConversationHistory, path: &str, item: ResponsesInputItem) -> Answer<()> {
    match item.kind.as_deref() {
        None | Some("message") => {
            let Some(content) = item.content else {
                return Err(invalid_field(&format!("{path}.content"), "a message needs content"));
            };
            if item.role.as_deref() == Some("user") {
                let said = content.into_user_parts(&format!("{path}.content"))?;
                return history.add_user(path, said);
            }
            let texts = content.into_texts(&format!("{path}.content"))?;
            match item.role.as_deref() {
                Some("system" | "developer") => history.add_system(path, &texts),
                Some("assistant") => history.add_assistant(path, texts, Vec::new()),
                _ => {
                    let roles = "it must be one of system, developer, user and assistant";
                    Err(invalid_field(&format!("{path}.role"), roles))
                }
            }
        }
        Some("function_call_output") => {
            let Some(call) = item.call_id else {
                return Err(invalid_field(&format!("{path}.call_id"), "an output must name its call"));
            };
            let given = match item.output {
                Some(output) => output.into_tool_parts(&format!("{path}.output"))?,
                None => Vec::new(),
            };
            history.add_result(path, &call, given, false)
        }
        // Only the provider that wrote it can read it back.
        Some("reasoning") => Ok(()),
        Some(kind) => {
            let kind: String = kind.chars().take(40).collect();
            let problem = format!("items of the type {kind:?} are not supported");
            Err(invalid_field(&format!("{path}.type"), &problem))
        }
    }
}

fn claimed_call(path: &str, item: ResponsesInputItem) -> Answer<ClaimedToolCall> {
    match (item.call_id, item.name, item.arguments) {
        (Some(id), Some(tool), Some(arguments)) => Ok(ClaimedToolCall { id, tool, arguments }),
        _ => Err(invalid_field(path, "a call needs a call_id, a name and arguments")),
    }
}
