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

use self::write::Chat;
use super::content::{Content, invalid, is_empty, is_free_choice, refuse};
use super::history::{Claimed, History, MESSAGES_MAX, Said, before_the_last};
use super::offer::{Asking, Form, Tool};
use super::turn::{Asked, Heads, answer};
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathedBody, pathed};
use crate::failure::Answer;

#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    n: Option<Value>,
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
    logprobs: Option<Value>,
    #[serde(default)]
    top_logprobs: Option<Value>,
    #[serde(default)]
    logit_bias: Option<Value>,
    #[serde(default)]
    response_format: Option<Value>,
    #[serde(default)]
    modalities: Option<Value>,
    #[serde(default)]
    audio: Option<Value>,
    #[serde(default)]
    web_search_options: Option<Value>,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    functions: Option<Value>,
    #[serde(default)]
    function_call: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    function_call: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Call {
    id: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

pub(crate) async fn complete(
    State(core): State<Shared>,
    caller: Caller,
    heads: Heads,
    PathedBody(request): PathedBody<ChatRequest>,
) -> Answer<Response> {
    let usage = request.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true);
    let asked = request.asked(caller.scope.actor().clone(), heads.session.is_some())?;
    answer(core, caller, heads, asked, |running| Chat { running, created: 0, usage }).await
}

/// Reads a body, and returns what would be stored of it.
pub(crate) fn read(author: &Actor, continues: bool, bytes: &[u8]) -> Answer<InputBody> {
    let request: ChatRequest = pathed(bytes)?;
    Ok(request.asked(author.clone(), continues)?.body(author))
}

impl ChatRequest {
    /// Reads what is asked for; `continues` says whether a session has the past.
    fn asked(self, author: Actor, continues: bool) -> Answer<Asked> {
        self.check()?;
        let stream = self.stream == Some(true);
        let asking = Asking {
            tools: self.tools,
            choice: self.tool_choice,
            one_call: self.parallel_tool_calls == Some(false),
            tokens: match (self.max_completion_tokens, self.max_tokens) {
                (Some(most), _) => Some(("max_completion_tokens", most)),
                (None, most) => most.map(|most| ("max_tokens", most)),
            },
            temperature: self.temperature,
            top_p: self.top_p,
            stop: self.stop.map(|stop| ("stop", stop)),
        };
        let offer = asking.offer(Form::Chat)?;
        let history = History::new(author, continues);
        let said = said(history, self.messages)?;
        Ok(Asked { platform: "openai", model: self.model, said, offer, stream })
    }

    /// Refuses what would change the meaning of the answer and is not done here.
    fn check(&self) -> Answer<()> {
        refuse("n", self.n.as_ref(), |n| *n == 1)?;
        for (field, value) in [
            ("logprobs", &self.logprobs),
            ("logit_bias", &self.logit_bias),
            ("audio", &self.audio),
            ("functions", &self.functions),
        ] {
            refuse(field, value.as_ref(), is_empty)?;
        }
        refuse("top_logprobs", self.top_logprobs.as_ref(), |most| *most == 0)?;
        refuse("response_format", self.response_format.as_ref(), |format| format["type"] == "text")?;
        refuse("modalities", self.modalities.as_ref(), |modalities| *modalities == json!(["text"]))?;
        refuse("web_search_options", self.web_search_options.as_ref(), |_| false)?;
        refuse("function_call", self.function_call.as_ref(), is_free_choice)
    }
}

/// Reads the messages; only the last one, or the results at the end, where a session has the others.
fn said(mut history: History, messages: Vec<Message>) -> Answer<Said> {
    if messages.len() > MESSAGES_MAX {
        return Err(invalid("messages", &format!("at most {MESSAGES_MAX} messages, not {}", messages.len())));
    }
    let is_result = |message: &Message| message.role == "tool";
    let skipped = if history.continues() { before_the_last(&messages, is_result) } else { 0 };
    let last = format!("messages[{}]", messages.len().saturating_sub(1));
    for (at, message) in messages.into_iter().enumerate().skip(skipped) {
        add(&mut history, &format!("messages[{at}]"), message)?;
    }
    history.finish(&last)
}

fn add(history: &mut History, path: &str, message: Message) -> Answer<()> {
    if message.function_call.is_some_and(|call| !call.is_null()) {
        return Err(invalid(&format!("{path}.function_call"), "send `tool_calls` in its place"));
    }
    let place = format!("{path}.content");
    match message.role.as_str() {
        "user" => {
            let said = message.content.map(|content| content.said(&place)).transpose()?;
            return history.user(path, said.unwrap_or_default());
        }
        "tool" => {
            let given = message.content.map(|content| content.given(&place)).transpose()?.unwrap_or_default();
            return match message.tool_call_id {
                Some(id) => history.result(path, &id, given, false),
                None => Err(invalid(&format!("{path}.tool_call_id"), "a tool's message names its call")),
            };
        }
        _ => {}
    }
    let texts = message.content.map(|content| content.texts(&place)).transpose()?.unwrap_or_default();
    match message.role.as_str() {
        "system" | "developer" => history.system(path, &texts),
        "assistant" => {
            let calls = message.tool_calls.unwrap_or_default().into_iter().enumerate();
            let calls: Answer<Vec<_>> = calls.map(|(at, call)| claimed(path, at, call)).collect();
            history.assistant(path, texts, calls?)
        }
        _ => Err(invalid(&format!("{path}.role"), "one of system, developer, user, assistant and tool")),
    }
}

fn claimed(path: &str, at: usize, call: Call) -> Answer<Claimed> {
    let Some(Function { name, arguments }) = call.function else {
        let kind: String = call.kind.unwrap_or_default().chars().take(40).collect();
        return Err(invalid(
            &format!("{path}.tool_calls[{at}]"),
            &format!("a call of the type {kind:?} is not taken here"),
        ));
    };
    Ok(Claimed { id: call.id, tool: name, arguments })
}
