//! `POST /v1/messages` and `POST /v1/messages/count_tokens`: the messages of the Anthropic API.
//!
//! Of what tunes a model, `max_tokens`, `temperature`, `top_p` and `stop_sequences` have their effect; what else there is
//! is accepted and left to the agent's configuration. What would change the meaning of the answer and is not done here
//! is refused by its name. A count reads the same body, stores nothing and asks no model: it is this server's own count,
//! which decides what fits a window.

mod write;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use dromia_api::SESSION_HEADER;
use dromia_contracts::Actor;
use dromia_contracts::content::Part;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use serde::Deserialize;
use serde_json::{Number, Value, json};

use self::write::Messages;
use super::content::{Block, Content, invalid, is_empty, not_taken, refuse};
use super::history::{Claimed, History, MESSAGES_MAX, Said};
use super::offer::{Asking, Form, Tool};
use super::turn::{Asked, Heads, answer, declared};
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathedBody, pathed};
use crate::failure::{Answer, Failure};
use crate::routes::event::named_agent;

#[derive(Debug, Deserialize)]
pub(crate) struct MessagesRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    system: Option<Content>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<Number>,
    #[serde(default)]
    top_p: Option<Number>,
    #[serde(default)]
    stop_sequences: Option<Value>,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    mcp_servers: Option<Value>,
    #[serde(default)]
    container: Option<Value>,
    #[serde(default)]
    output_config: Option<Value>,
    #[serde(default)]
    output_format: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Content,
}

pub(crate) async fn create(
    State(core): State<Shared>,
    caller: Caller,
    heads: Heads,
    PathedBody(request): PathedBody<MessagesRequest>,
) -> Answer<Response> {
    let asked = request.asked(caller.scope.actor().clone(), heads.session.is_some())?;
    answer(core, caller, heads, asked, Messages::new).await
}

/// Counts the tokens with which a model would be asked for the message, without a session.
pub(crate) async fn count(
    State(core): State<Shared>,
    caller: Caller,
    heads: Heads,
    PathedBody(request): PathedBody<MessagesRequest>,
) -> Answer<Json<Value>> {
    if heads.session.is_some() {
        let text = format!("what a session holds is not counted; send the messages without {SESSION_HEADER}");
        return Err(Failure::invalid(text));
    }
    let author = caller.scope.actor().clone();
    let asked = request.asked(author.clone(), false)?;
    let agent = named_agent(&core, &caller.scope, &asked.model).await;
    let agent = agent.map_err(|failure| failure.at("model"))?;
    let declares = !asked.offer.tools.is_empty();
    let counted = core.ports.runs.count(caller.scope, agent, asked.body(&author)).await;
    let tokens = counted.map_err(|fault| declared(&core, declares, Failure::from(fault)))?;
    Ok(Json(json!({"input_tokens": tokens})))
}

/// Reads a body, and returns what would be stored of it.
pub(crate) fn read(author: &Actor, continues: bool, bytes: &[u8]) -> Answer<InputBody> {
    let request: MessagesRequest = pathed(bytes)?;
    Ok(request.asked(author.clone(), continues)?.body(author))
}

impl MessagesRequest {
    /// Reads what is asked for; `continues` says whether a session has the past.
    fn asked(self, author: Actor, continues: bool) -> Answer<Asked> {
        self.check()?;
        let stream = self.stream == Some(true);
        let asking = Asking {
            tools: self.tools,
            choice: self.tool_choice,
            one_call: false,
            tokens: self.max_tokens.map(|most| ("max_tokens", most)),
            temperature: self.temperature,
            top_p: self.top_p,
            stop: self.stop_sequences.map(|stop| ("stop_sequences", stop)),
        };
        let offer = asking.offer(Form::Messages)?;
        let history = History::new(author, continues);
        let said = said(history, self.system, self.messages)?;
        Ok(Asked { platform: "anthropic", model: self.model, said, offer, stream })
    }

    /// Refuses what would change the meaning of the answer and is not done here.
    fn check(&self) -> Answer<()> {
        for (field, value) in [
            ("mcp_servers", &self.mcp_servers),
            ("container", &self.container),
            ("output_format", &self.output_format),
        ] {
            refuse(field, value.as_ref(), is_empty)?;
        }
        refuse("output_config", self.output_config.as_ref(), |config| {
            config.get("format").is_none_or(is_empty)
        })
    }
}

/// Reads the messages; only the last one, where a session has the others.
fn said(mut history: History, system: Option<Content>, messages: Vec<Message>) -> Answer<Said> {
    if messages.len() > MESSAGES_MAX {
        return Err(invalid("messages", &format!("at most {MESSAGES_MAX} messages, not {}", messages.len())));
    }
    if let Some(system) = system.filter(|_| !history.continues()) {
        history.system("system", &system.texts("system")?)?;
    }
    if messages.is_empty() {
        return Err(invalid("messages", "there is no message to answer"));
    }
    let skipped = if history.continues() { messages.len() - 1 } else { 0 };
    let last = format!("messages[{}]", messages.len() - 1);
    for (at, message) in messages.into_iter().enumerate().skip(skipped) {
        let path = format!("messages[{at}]");
        match message.role.as_str() {
            "user" => user(&mut history, &path, message.content)?,
            "assistant" => assistant(&mut history, &path, message.content)?,
            _ => return Err(invalid(&format!("{path}.role"), "one of user and assistant")),
        }
    }
    history.finish(&last)
}

/// Adds a user's message: results of tools first, as this API wants them, then words.
fn user(history: &mut History, path: &str, content: Content) -> Answer<()> {
    let blocks = match content {
        Content::Text(text) => return history.user(path, vec![Part::text(text, Label::ACTOR_TEXT)]),
        Content::Blocks(blocks) => blocks,
    };
    let mut said = Vec::new();
    let mut results = 0;
    for (at, block) in blocks.into_iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        if block.kind == "tool_result" {
            result(history, &path, block)?;
            results += 1;
        } else {
            said.push(block.said(&path)?);
        }
    }
    if said.is_empty() && results > 0 { Ok(()) } else { history.user(path, said) }
}

fn result(history: &mut History, path: &str, block: Block) -> Answer<()> {
    let Some(call) = block.tool_use_id else {
        return Err(invalid(&format!("{path}.tool_use_id"), "a result names its call"));
    };
    let given = match block.content {
        Some(content) => content.given(&format!("{path}.content"))?,
        None => Vec::new(),
    };
    history.result(path, &call, given, block.is_error == Some(true))
}

fn assistant(history: &mut History, path: &str, content: Content) -> Answer<()> {
    let blocks = match content {
        Content::Text(text) => return history.assistant(path, vec![text], Vec::new()),
        Content::Blocks(blocks) => blocks,
    };
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    for (at, block) in blocks.into_iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        match block.kind.as_str() {
            "text" => texts.push(block.text(&path)?),
            // Only the provider that wrote them can read them back.
            "thinking" | "redacted_thinking" => {}
            "tool_use" => {
                let (Some(id), Some(tool)) = (block.id, block.name) else {
                    return Err(invalid(&path, "a call has an id and a name"));
                };
                let arguments = block.input.unwrap_or_else(|| json!({})).to_string();
                calls.push(Claimed { id, tool, arguments });
            }
            kind => return Err(not_taken(kind, &path)),
        }
    }
    history.assistant(path, texts, calls)
}
