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
use dromia_contracts::client::ClientTool;
use dromia_contracts::content::ContentPart;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use serde::Deserialize;
use serde_json::{Number, Value, json};

use self::write::MessagesWriter;
use super::answer_format::read_answer_format;
use super::client_tools::{CompatApi, ReadOffer, RequestOptions, ToolDeclaration};
use super::compat_request::CompatRequest;
use super::content::{MessageContent, MessageContentBlock, is_empty, not_taken};
use super::earlier_answers::{ContinuationWords, find_continued};
use super::field_error::invalid_field;
use super::history::{ClaimedToolCall, ConversationHistory, ConversationInput, MESSAGES_MAX, PastLocation};
use super::other_fields::{FieldRule, OtherFields};
use super::request_heads::RequestHeads;
use super::submission::locate_error;
use super::turn::submit_and_answer;
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathedBody, parse_json_with_path};
use crate::failure::{Answer, ApiError};
use crate::routes::event::named_agent;

#[derive(Debug, Deserialize)]
pub(crate) struct MessagesRequest {
    model: String,
    messages: Vec<AnthropicRequestMessage>,
    #[serde(default)]
    system: Option<MessageContent>,
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
    tools: Option<Vec<ToolDeclaration>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    thread: Option<MessageThread>,
    #[serde(flatten)]
    others: OtherFields,
}

/// A conversation that the server holds, so that the client sends only what is new.
#[derive(Debug, Deserialize)]
struct MessageThread {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    previous_message_id: Option<String>,
}

/// What would change the meaning of the answer and is not done here.
const REFUSED: &[FieldRule] = &[("mcp_servers", is_empty), ("container", is_empty), ("compaction", is_empty)];

/// In whose words a thread is continued. Its clients send the whole conversation again where they know the word.
const THREAD: ContinuationWords = ContinuationWords {
    prefix: "msg_",
    field: "thread.previous_message_id",
    missing: ("thread_not_found", 404),
    continued: "thread_already_continued",
    unfinished: "thread_continue_in_flight",
};

#[derive(Debug, Deserialize)]
struct AnthropicRequestMessage {
    role: String,
    content: MessageContent,
}

pub(crate) async fn create_message(
    State(core): State<Shared>,
    caller: Caller,
    mut heads: RequestHeads,
    PathedBody(request): PathedBody<MessagesRequest>,
) -> Answer<Response> {
    let author = caller.scope.actor().clone();
    let Some(previous) = request.previous_message()? else {
        let past = PastLocation::of_header(heads.session);
        let asked = request.into_compat_request(author, past, Vec::new())?;
        return submit_and_answer(core, caller, heads, asked, MessagesWriter::new).await;
    };
    let names = (request.model.as_str(), previous.as_str());
    let thread = find_continued(&core, &caller, &heads, names, &THREAD).await?;
    // The thread has the system text and the tools that it was created with.
    let asked = request.into_compat_request(author, PastLocation::Before(thread.system), thread.tools)?;
    match thread.stale {
        // The engine knows whether these calls are still open, or were answered so.
        Some(failure) if asked.said.answers.is_none() => return Err(failure),
        _ => heads.session = Some(thread.session),
    }
    submit_and_answer(core, caller, heads, asked, MessagesWriter::new).await
}

/// Counts the tokens with which a model would be asked for the message, without a session.
pub(crate) async fn count_tokens(
    State(core): State<Shared>,
    caller: Caller,
    heads: RequestHeads,
    PathedBody(request): PathedBody<MessagesRequest>,
) -> Answer<Json<Value>> {
    if heads.session.is_some() {
        let text = format!(
            "this route cannot count the messages of a session; send the messages without {SESSION_HEADER}"
        );
        return Err(ApiError::invalid_request(text));
    }
    if request.previous_message()?.is_some() {
        return Err(invalid_field(
            THREAD.field,
            "this route cannot count a thread; send the whole conversation",
        ));
    }
    let author = caller.scope.actor().clone();
    let asked = request.into_compat_request(author.clone(), PastLocation::Request, Vec::new())?;
    let agent = named_agent(&core, &caller.scope, &asked.model).await;
    let agent = agent.map_err(|failure| failure.at_field("model"))?;
    let declares = !asked.offer.tools.is_empty();
    let counted = core.ports.runs.count_tokens(caller.scope, agent, asked.into_input_body(&author)).await;
    let tokens = counted.map_err(|fault| locate_error(&core, declares, ApiError::from(fault)))?;
    Ok(Json(json!({"input_tokens": tokens})))
}

/// Reads a body, and returns what would be stored of it.
pub(crate) fn parse_messages_body(author: &Actor, continues: bool, bytes: &[u8]) -> Answer<InputBody> {
    let request: MessagesRequest = parse_json_with_path(bytes)?;
    let past = PastLocation::known_to_session(continues);
    Ok(request.into_compat_request(author.clone(), past, Vec::new())?.into_input_body(author))
}

impl MessagesRequest {
    /// Returns the id of the message behind which the thread goes on.
    fn previous_message(&self) -> Answer<Option<String>> {
        let Some(thread) = &self.thread else { return Ok(None) };
        match (thread.kind.as_str(), &thread.previous_message_id) {
            ("create", None) => Ok(None),
            ("continue", Some(previous)) => Ok(Some(previous.clone())),
            ("continue", None) => Err(invalid_field(THREAD.field, "it must name the message to continue")),
            _ => Err(invalid_field(
                "thread.type",
                "it must be create, or continue with a `previous_message_id`",
            )),
        }
    }

    /// Reads what is asked for; the tools are those of an earlier request.
    fn into_compat_request(
        mut self,
        author: Actor,
        past: PastLocation,
        earlier_tools: Vec<ClientTool>,
    ) -> Answer<CompatRequest> {
        self.others.refuse_unsupported(REFUSED)?;
        let config = self.others.take("output_config");
        // The older name of the same.
        let older = self.others.take("output_format");
        let newer = config.as_ref().and_then(|config| config.get("format"));
        let answer = match read_answer_format("output_config.format", newer)? {
            None => read_answer_format("output_format", older.as_ref())?,
            known => known,
        };
        let stream = self.stream == Some(true);
        let asking = RequestOptions {
            tools: self.tools,
            earlier_tools,
            choice: self.tool_choice,
            one_call: false,
            tokens: self.max_tokens.map(|most| ("max_tokens", most)),
            temperature: self.temperature,
            top_p: self.top_p,
            stop: self.stop_sequences.map(|stop| ("stop_sequences", stop)),
            answer,
        };
        let ReadOffer { offer, warnings } = asking.into_offer(CompatApi::Messages)?;
        let history = ConversationHistory::new(author, past);
        let said = read_messages(history, self.system, self.messages)?;
        Ok(CompatRequest {
            platform: "anthropic",
            model: self.model,
            said,
            offer,
            stream,
            warnings,
            answer_field: "output_config.format",
        })
    }
}

/// Reads the messages; only the last one, where a session has the others.
fn read_messages(
    mut history: ConversationHistory,
    system: Option<MessageContent>,
    messages: Vec<AnthropicRequestMessage>,
) -> Answer<ConversationInput> {
    if messages.len() > MESSAGES_MAX {
        return Err(invalid_field(
            "messages",
            &format!("there may be at most {MESSAGES_MAX} messages, not {}", messages.len()),
        ));
    }
    if let Some(system) = system {
        history.begin_with_system("system", &system.into_texts("system")?)?;
    }
    if messages.is_empty() {
        return Err(invalid_field("messages", "there is no message to answer"));
    }
    let skipped = if history.takes_last_only() { messages.len() - 1 } else { 0 };
    let last = format!("messages[{}]", messages.len() - 1);
    for (at, message) in messages.into_iter().enumerate().skip(skipped) {
        let path = format!("messages[{at}]");
        match message.role.as_str() {
            "user" => add_user_message(&mut history, &path, message.content)?,
            "assistant" => add_assistant_message(&mut history, &path, message.content)?,
            // Clients change their instructions in the middle of a conversation, too.
            "system" => {
                history.add_system(&path, &message.content.into_texts(&format!("{path}.content"))?)?;
            }
            _ => return Err(invalid_field(&format!("{path}.role"), "it must be user, assistant or system")),
        }
    }
    history.finish(&last)
}

/// Adds a user's message: results of tools first, as this API wants them, then words.
fn add_user_message(history: &mut ConversationHistory, path: &str, content: MessageContent) -> Answer<()> {
    let blocks = match content {
        MessageContent::Text(text) => {
            return history.add_user(path, vec![ContentPart::new_text(text, Label::ACTOR_TEXT)]);
        }
        MessageContent::Blocks(blocks) => blocks,
    };
    let mut said = Vec::new();
    let mut results = 0;
    for (at, block) in blocks.into_iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        if block.kind == "tool_result" {
            add_tool_result(history, &path, block)?;
            results += 1;
        } else {
            said.push(block.into_user_part(&path)?);
        }
    }
    if said.is_empty() && results > 0 { Ok(()) } else { history.add_user(path, said) }
}

fn add_tool_result(history: &mut ConversationHistory, path: &str, block: MessageContentBlock) -> Answer<()> {
    let Some(call) = block.tool_use_id else {
        return Err(invalid_field(&format!("{path}.tool_use_id"), "a result must name its call"));
    };
    let given = match block.content {
        Some(content) => content.into_tool_parts(&format!("{path}.content"))?,
        None => Vec::new(),
    };
    history.add_result(path, &call, given, block.is_error == Some(true))
}

fn add_assistant_message(
    history: &mut ConversationHistory,
    path: &str,
    content: MessageContent,
) -> Answer<()> {
    let blocks = match content {
        MessageContent::Text(text) => return history.add_assistant(path, vec![text], Vec::new()),
        MessageContent::Blocks(blocks) => blocks,
    };
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    for (at, block) in blocks.into_iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        match block.kind.as_str() {
            "text" => texts.push(block.into_text(&path)?),
            // Only the provider that wrote them can read them back.
            "thinking" | "redacted_thinking" => {}
            "tool_use" => {
                let (Some(id), Some(tool)) = (block.id, block.name) else {
                    return Err(invalid_field(&path, "a call needs an id and a name"));
                };
                let arguments = block.input.unwrap_or_else(|| json!({})).to_string();
                calls.push(ClaimedToolCall { id, tool, arguments });
            }
            kind => return Err(not_taken(kind, &path)),
        }
    }
    history.add_assistant(path, texts, calls)
}
