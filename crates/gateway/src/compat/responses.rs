//! `POST /v1/responses`: the responses of the OpenAI API.
//!
//! Of what tunes a model, `temperature`, `top_p` and `max_output_tokens` have their effect; what else there is is
//! accepted and left to the agent's configuration. A conversation goes on in its session, named by `X-Dromia-Session` or
//! by `previous_response_id`, or with its items as `input`, of which those that were answered here may be references; what
//! else would change the meaning of the answer and is not done here is refused by its name.

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
use super::answer_format::read_answer_format;
use super::client_tools::{CompatApi, ReadOffer, RequestOptions, ToolDeclaration};
use super::compat_request::CompatRequest;
use super::content::{MessageContent, is_empty};
use super::earlier_answers::{ContinuationWords, EarlierItem, EarlierItems, find_continued};
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
pub(crate) struct ResponsesRequest {
    model: String,
    input: ResponsesInput,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    previous_response_id: Option<String>,
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
    #[serde(flatten)]
    others: OtherFields,
}

/// What would change the meaning of the answer and is not done here.
const REFUSED: &[FieldRule] = &[
    ("background", is_empty),
    ("conversation", is_empty),
    ("prompt", is_empty),
    ("max_tool_calls", is_empty),
    ("top_logprobs", |most| *most == 0),
];

/// In whose words a response is continued.
const PREVIOUS: ContinuationWords = ContinuationWords {
    prefix: "resp_",
    field: "previous_response_id",
    missing: ("previous_response_not_found", 400),
    continued: "previous_response_continued",
    unfinished: "previous_response_in_progress",
};

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
    id: Option<String>,
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
    mut heads: RequestHeads,
    PathedBody(mut request): PathedBody<ResponsesRequest>,
) -> Answer<Response> {
    let author = caller.scope.actor().clone();
    let mut stale = None;
    let past = match &request.previous_response_id {
        None => PastLocation::of_header(heads.session),
        Some(previous) => {
            let names = (request.model.as_str(), previous.as_str());
            let earlier = find_continued(&core, &caller, &heads, names, &PREVIOUS).await?;
            (heads.session, stale) = (Some(earlier.session), earlier.stale);
            PastLocation::Before(earlier.system)
        }
    };
    request.resolve_references(&core, &caller).await?;
    let asked = request.into_compat_request(author, past)?;
    // The engine knows whether the calls are still open, or were answered so.
    if let Some(failure) = stale.filter(|_| asked.said.answers.is_none()) {
        return Err(failure);
    }
    submit_and_answer(core, caller, heads, asked, ResponsesWriter::new).await
}

/// Reads a body, and returns what would be stored of it.
pub(crate) fn parse_responses_body(author: &Actor, continues: bool, bytes: &[u8]) -> Answer<InputBody> {
    let request: ResponsesRequest = parse_json_with_path(bytes)?;
    let past = PastLocation::known_to_session(continues);
    Ok(request.into_compat_request(author.clone(), past)?.into_input_body(author))
}

impl ResponsesRequest {
    /// Puts what the references name in their place. A session that has the past needs none of it.
    async fn resolve_references(&mut self, core: &Shared, caller: &Caller) -> Answer<()> {
        let mut earlier = EarlierItems::new(core, &caller.scope, &self.model);
        for (at, item) in self.input.0.iter_mut().enumerate().take(MESSAGES_MAX) {
            // Without a type, an item with an id alone is a reference, too.
            let is_bare = item.kind.is_none() && item.role.is_none() && item.id.is_some();
            if is_bare || item.kind.as_deref() == Some("item_reference") {
                let path = format!("input[{at}].id");
                let Some(id) = &item.id else {
                    return Err(invalid_field(&path, "a reference names an item"));
                };
                *item = ResponsesInputItem::from_earlier(earlier.read_item(id, &path).await?);
            }
        }
        Ok(())
    }

    /// Reads what is asked for.
    fn into_compat_request(mut self, author: Actor, past: PastLocation) -> Answer<CompatRequest> {
        let text = self.others.take("text");
        let format = text.as_ref().and_then(|text| text.get("format"));
        self.others.refuse_unsupported(REFUSED)?;
        let stream = self.stream == Some(true);
        let asking = RequestOptions {
            tools: self.tools,
            earlier_tools: Vec::new(),
            choice: self.tool_choice,
            one_call: self.parallel_tool_calls == Some(false),
            tokens: self.max_output_tokens.map(|most| ("max_output_tokens", most)),
            temperature: self.temperature,
            top_p: self.top_p,
            stop: None,
            answer: read_answer_format("text.format", format)?,
        };
        let ReadOffer { offer, warnings } = asking.into_offer(CompatApi::Responses)?;
        let history = ConversationHistory::new(author, past);
        let said = read_items(history, self.instructions, self.input.0)?;
        Ok(CompatRequest {
            platform: "openai",
            model: self.model,
            said,
            offer,
            stream,
            warnings,
            answer_field: "text.format",
        })
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
    if let Some(instructions) = instructions {
        history.begin_with_system("instructions", &[instructions])?;
    }
    let is_result = |item: &ResponsesInputItem| item.kind.as_deref() == Some("function_call_output");
    let skipped = if history.takes_last_only() { before_the_last(&items, is_result) } else { 0 };
    let last = format!("input[{}]", items.len() - 1);
    let mut items = items.into_iter().enumerate().skip(skipped).peekable();
    while let Some((at, item)) = items.next() {
        let path = format!("input[{at}]");
        let (mut texts, mut calls) = (Vec::new(), Vec::new());
        if item.is_call() {
            calls.push(claimed_call(&path, item)?);
        } else if item.is_said_by_assistant() && items.peek().is_some_and(|(_, next)| next.is_call()) {
            texts =
                item.content.map_or(Ok(Vec::new()), |said| said.into_texts(&format!("{path}.content")))?;
        } else {
            add_item(&mut history, &path, item)?;
            continue;
        }
        // Calls that follow one another, and what is said before them, are one message.
        while let Some((at, item)) = items.next_if(|(_, item)| item.is_call()) {
            calls.push(claimed_call(&format!("input[{at}]"), item)?);
        }
        history.add_assistant(&path, texts, calls)?;
    }
    history.finish(&last)
}

impl ResponsesInputItem {
    /// Makes the item that an earlier answer held.
    fn from_earlier(item: EarlierItem) -> Self {
        match item {
            EarlierItem::Text(text) => {
                let (role, content) = (Some("assistant".to_owned()), Some(MessageContent::Text(text)));
                Self { role, content, ..Self::default() }
            }
            EarlierItem::Call(call, tool, arguments) => {
                let (kind, call_id) = (Some("function_call".to_owned()), Some(call));
                Self { kind, call_id, name: Some(tool), arguments: Some(arguments), ..Self::default() }
            }
        }
    }

    fn is_call(&self) -> bool {
        self.kind.as_deref() == Some("function_call")
    }

    fn is_said_by_assistant(&self) -> bool {
        matches!(self.kind.as_deref(), None | Some("message")) && self.role.as_deref() == Some("assistant")
    }
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
