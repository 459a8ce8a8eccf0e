//! What a client asks for in addition to its messages: tools of its own, how the model shall choose among them, and
//! what tunes its answers. One flat shape reads the tools of every API; what a place does not take is refused by its
//! path, but for tools that run at a provider: those are left out, and a header tells the sender which.

use std::collections::BTreeSet;

use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::client::{ClientOptions, ClientTool, SamplingOptions, ToolChoice};
use serde::Deserialize;
use serde_json::{Number, Value, json};

use super::field_error::invalid_field;
use super::tool_names::{NAME_BYTES_MAX, internal_name, is_name};
use crate::failure::Answer;

/// The most tools of one request.
const TOOLS_MAX: usize = 128;

/// How deep a schema may be nested. The stored input has it deeper than the request, and no reader goes deeper than 128.
pub(super) const SCHEMA_DEPTH_MAX: usize = 64;

/// The most bytes of their names, descriptions and schemas together.
const TOOLS_BYTES_MAX: usize = 128 * 1024;

/// How many kinds of tools that are left out are named, and how much of each.
const KINDS_NAMED_MAX: usize = 16;
const KIND_CHARS_MAX: usize = 40;

/// The most texts that end an answer, and the longest of them.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;

/// Whose words a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompatApi {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
}

/// A tool as a client declares it; which fields it has depends on the API.
#[derive(Debug, Deserialize)]
pub(super) struct ToolDeclaration {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Value>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    function: Option<FunctionDeclaration>,
}

#[derive(Debug, Deserialize)]
struct FunctionDeclaration {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Value>,
}

/// What the client says about calling tools.
enum RequestedToolChoice {
    Model(ToolChoice),
    /// The client's tools are not offered.
    Nothing,
}

/// What a request says about tools and answers, as far as its API has words for it.
#[derive(Debug, Default)]
pub(super) struct RequestOptions {
    pub(super) tools: Option<Vec<ToolDeclaration>>,
    /// The tools of an earlier request, if this one declares none.
    pub(super) earlier_tools: Vec<ClientTool>,
    pub(super) choice: Option<Value>,
    pub(super) one_call: bool,
    /// The most tokens, and the field that says so.
    pub(super) tokens: Option<(&'static str, u64)>,
    pub(super) temperature: Option<Number>,
    pub(super) top_p: Option<Number>,
    /// What ends an answer, and the field that says so.
    pub(super) stop: Option<(&'static str, Value)>,
    /// The form of the answer.
    pub(super) answer: Option<AnswerFormat>,
}

/// What a client offers to the model, and what of it is left out.
#[derive(Debug)]
pub(super) struct ReadOffer {
    pub(super) offer: ClientOptions,
    /// What is left out, for the sender; empty if nothing is.
    pub(super) warnings: Vec<String>,
}

impl RequestOptions {
    /// Reads what is asked for.
    pub(super) fn into_offer(self, form: CompatApi) -> Answer<ReadOffer> {
        let declared = self.tools.unwrap_or_default();
        let (declared, left_out): (Vec<_>, Vec<_>) = (0..)
            .zip(declared)
            .partition(|(_, tool): &(usize, ToolDeclaration)| !tool.runs_at_provider(form));
        let warnings = left_out_warning(left_out.into_iter().map(|(_, tool)| tool));
        let tools = if declared.is_empty() { self.earlier_tools } else { read_tools(form, declared)? };
        let choice = self.choice.filter(|choice| !choice.is_null());
        let one_call = self.one_call
            || choice.as_ref().is_some_and(|choice| choice["disable_parallel_tool_use"] == true);
        let choice = choice
            .map_or(Ok(RequestedToolChoice::Model(ToolChoice::Free)), |choice| read_choice(form, &choice))?;
        let (tools, choice) = match choice {
            RequestedToolChoice::Nothing => (Vec::new(), ToolChoice::Free),
            RequestedToolChoice::Model(ToolChoice::Required) if tools.is_empty() => {
                return Err(invalid_field("tool_choice", "a tool choice needs a tool in `tools`"));
            }
            RequestedToolChoice::Model(ToolChoice::Named(name))
                if tools.iter().all(|tool| tool.name != name) =>
            {
                return Err(invalid_field("tool_choice", "it names no tool of `tools`"));
            }
            RequestedToolChoice::Model(choice) => (tools, choice),
        };
        let wishes = SamplingOptions {
            choice,
            one_call,
            output_tokens_max: self.tokens.map(|(field, most)| token_limit(field, most)).transpose()?,
            temperature: check_range("temperature", self.temperature, 2.0)?,
            top_p: check_range("top_p", self.top_p, 1.0)?,
            stop: self.stop.map_or(Ok(Vec::new()), |(field, stop)| stop_texts(field, stop))?,
            answer: self.answer,
        };
        Ok(ReadOffer { offer: ClientOptions { tools, wishes }, warnings: warnings.into_iter().collect() })
    }
}

/// Says which tools are left out.
fn left_out_warning(tools: impl Iterator<Item = ToolDeclaration>) -> Option<String> {
    let plain = |kind: String| {
        let allowed = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
        kind.chars().filter(allowed).take(KIND_CHARS_MAX).collect::<String>()
    };
    let kinds: BTreeSet<_> = tools.map(|tool| plain(tool.kind.unwrap_or_default())).collect();
    let named: Vec<_> = kinds.iter().take(KINDS_NAMED_MAX).map(String::as_str).collect();
    (!named.is_empty()).then(|| format!("tools of these types were left out: {}", named.join(", ")))
}

fn read_tools(form: CompatApi, declared: Vec<(usize, ToolDeclaration)>) -> Answer<Vec<ClientTool>> {
    if declared.len() > TOOLS_MAX {
        return Err(invalid_field(
            "tools",
            &format!("there may be at most {TOOLS_MAX} tools, not {}", declared.len()),
        ));
    }
    let mut names = BTreeSet::new();
    let mut bytes = 0;
    let mut tools = Vec::with_capacity(declared.len());
    for (at, tool) in declared {
        let path = format!("tools[{at}]");
        let tool = tool.into_client_tool(form, &path)?;
        if !names.insert(tool.name.clone()) {
            return Err(invalid_field(&path, "another tool has this name already"));
        }
        bytes += tool.name.len() + tool.description.len() + tool.parameters.to_string().len();
        if bytes > TOOLS_BYTES_MAX {
            return Err(invalid_field(
                &path,
                &format!("the tools have more than {TOOLS_BYTES_MAX} bytes in all"),
            ));
        }
        tools.push(tool);
    }
    Ok(tools)
}

impl ToolDeclaration {
    /// Tells whether the tool is none that a client declares with a schema: its provider runs it, or knows what it takes.
    fn runs_at_provider(&self, form: CompatApi) -> bool {
        let Some(kind) = self.kind.as_deref() else { return false };
        match form {
            CompatApi::Chat => false,
            CompatApi::Responses => kind != "function",
            // Anthropic's own kinds end with the day of their version.
            CompatApi::Messages => kind
                .rsplit_once('_')
                .is_some_and(|(_, day)| day.len() == 8 && day.bytes().all(|digit| digit.is_ascii_digit())),
        }
    }

    fn into_client_tool(self, form: CompatApi, path: &str) -> Answer<ClientTool> {
        let kind = self.kind.as_deref();
        let known = match form {
            CompatApi::Chat | CompatApi::Responses => kind == Some("function"),
            CompatApi::Messages => matches!(kind, None | Some("custom")),
        };
        if !known {
            let kind: String = kind.unwrap_or_default().chars().take(40).collect();
            return Err(invalid_field(
                path,
                &format!("tools of the type {kind:?} are not supported, only functions"),
            ));
        }
        let (place, name, description, parameters) = match (form, self.function) {
            (CompatApi::Chat, Some(of)) => {
                (format!("{path}.function"), Some(of.name), of.description, of.parameters)
            }
            (CompatApi::Chat, None) => {
                return Err(invalid_field(&format!("{path}.function"), "it is missing"));
            }
            (CompatApi::Responses, _) => (path.to_owned(), self.name, self.description, self.parameters),
            (CompatApi::Messages, _) => (path.to_owned(), self.name, self.description, self.input_schema),
        };
        let name = name.filter(|name| is_name(name)).ok_or_else(|| {
            let problem =
                format!("a tool's name has 1 to {NAME_BYTES_MAX} ASCII letters, digits, `_` and `-`");
            invalid_field(&format!("{place}.name"), &problem)
        })?;
        let wrong = |problem: &str| {
            let field = if form == CompatApi::Messages { "input_schema" } else { "parameters" };
            Err(invalid_field(&format!("{place}.{field}"), problem))
        };
        let parameters = match parameters {
            None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
            Some(schema) if nesting_depth(&schema) > SCHEMA_DEPTH_MAX => {
                return wrong(&format!("its nesting is deeper than {SCHEMA_DEPTH_MAX} levels"));
            }
            Some(schema @ Value::Object(_)) => schema,
            Some(_) => return wrong("a JSON Schema must be an object"),
        };
        Ok(ClientTool {
            name: internal_name(&name),
            description: description.unwrap_or_default(),
            parameters,
        })
    }
}

/// Returns how deeply lists and maps are nested.
pub(super) fn nesting_depth(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(list) => 1 + list.iter().map(nesting_depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(nesting_depth).max().unwrap_or_default(),
    }
}

fn read_choice(form: CompatApi, choice: &Value) -> Answer<RequestedToolChoice> {
    let word = match form {
        CompatApi::Chat | CompatApi::Responses => choice.as_str().or(choice["type"].as_str()),
        CompatApi::Messages => choice["type"].as_str(),
    };
    let name = match form {
        CompatApi::Chat => &choice["function"]["name"],
        CompatApi::Responses | CompatApi::Messages => &choice["name"],
    };
    match (form, word.unwrap_or_default(), name.as_str()) {
        (_, "auto", _) => Ok(RequestedToolChoice::Model(ToolChoice::Free)),
        (_, "none", _) => Ok(RequestedToolChoice::Nothing),
        (CompatApi::Chat | CompatApi::Responses, "required", _) | (CompatApi::Messages, "any", _) => {
            Ok(RequestedToolChoice::Model(ToolChoice::Required))
        }
        (CompatApi::Chat | CompatApi::Responses, "function", Some(name))
        | (CompatApi::Messages, "tool", Some(name)) => {
            Ok(RequestedToolChoice::Model(ToolChoice::Named(internal_name(name))))
        }
        (_, word, _) => {
            let word: String = word.chars().take(40).collect();
            Err(invalid_field("tool_choice", &format!("a tool choice of the type {word:?} is not supported")))
        }
    }
}

fn token_limit(field: &str, most: u64) -> Answer<u32> {
    match u32::try_from(most) {
        Ok(0) => Err(invalid_field(field, "it must allow at least one token")),
        Ok(most) => Ok(most),
        // No model says so much; the operator's bound is the lower one.
        Err(_) => Ok(u32::MAX),
    }
}

fn check_range(field: &str, number: Option<Number>, most: f64) -> Answer<Option<Number>> {
    match number.as_ref().and_then(Number::as_f64) {
        Some(value) if !(0.0..=most).contains(&value) => {
            Err(invalid_field(field, &format!("it must be from 0 to {most}, not {value}")))
        }
        _ => Ok(number),
    }
}

fn stop_texts(field: &str, stop: Value) -> Answer<Vec<String>> {
    let stops = match stop {
        Value::Null => return Ok(Vec::new()),
        Value::String(stop) => vec![stop],
        Value::Array(stops) => stops
            .into_iter()
            .enumerate()
            .map(|(at, stop)| match stop {
                Value::String(stop) => Ok(stop),
                _ => Err(invalid_field(&format!("{field}[{at}]"), "it must be a string")),
            })
            .collect::<Answer<_>>()?,
        _ => return Err(invalid_field(field, "it must be a string or a list of strings")),
    };
    if stops.len() > STOPS_MAX {
        return Err(invalid_field(
            field,
            &format!("there may be at most {STOPS_MAX} strings, not {}", stops.len()),
        ));
    }
    if stops.iter().any(|stop| !(1..=STOP_BYTES_MAX).contains(&stop.len())) {
        return Err(invalid_field(field, &format!("each string must have 1 to {STOP_BYTES_MAX} bytes")));
    }
    Ok(stops)
}

#[cfg(test)]
mod tests;
