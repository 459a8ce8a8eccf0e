//! The arguments of each tool, from which its schema is derived, and their canonical form.
//!
//! Invariant: the fields of every argument type are declared in alphabetical order, so that its JSON has sorted
//! keys and equal calls have equal bytes. Defaults are filled in and limits are applied here, so that the gate
//! sees what will happen. Nothing is ignored: an unknown field is refused.

mod program;
mod request;
mod text;

use std::num::NonZeroU32;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::id::SessionId;
use dromia_contracts::tool::REPLY_BYTES_MAX;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

pub(crate) use self::program::{ProgramExecute, ShellExecute, TIMEOUT_S_MAX};
pub(crate) use self::request::{HeaderText, HttpRequest, NamedSecret, REQUEST_BYTES_MAX};
pub(crate) use self::text::{FileEdit, FileSearch, MatchLocation};
use crate::path::{FilePath, WorkspacePath};

/// The most bytes that one read gives.
pub(crate) const READ_BYTES_MAX: u32 = 64 << 10;
/// The most bytes that one write or append takes: with a model's usual escapes it fits an answer's bound.
const WRITE_BYTES_MAX: usize = 512 << 10;
/// The most bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeNow {}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRead {
    /// Bytes, at most 65536.
    #[serde(default = "read_limit_default", deserialize_with = "read_limit")]
    pub(crate) limit: u32,
    /// First byte.
    #[serde(default)]
    pub(crate) offset: u64,
    #[schemars(with = "String")]
    pub(crate) path: FilePath,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileList {
    /// After this name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) after: String,
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) path: WorkspacePath,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PastRead {
    pub(crate) handle: String,
    /// Bytes, at most 65536.
    #[serde(default = "read_limit_default", deserialize_with = "read_limit")]
    pub(crate) limit: u32,
    /// First byte.
    #[serde(default)]
    pub(crate) offset: u64,
}

// What `file.write` and `file.append` take; a model would be told a description.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileContent {
    #[serde(deserialize_with = "write_content")]
    pub(crate) content: String,
    #[schemars(with = "String")]
    pub(crate) path: FilePath,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileDelete {
    #[schemars(with = "String")]
    pub(crate) path: FilePath,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InterimReply {
    #[serde(deserialize_with = "reply_text")]
    pub(crate) text: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageSend {
    /// ses_…
    #[schemars(with = "String")]
    pub(crate) session: SessionId,
    #[serde(deserialize_with = "message_text")]
    pub(crate) text: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSpawn {
    /// Its handle; you by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) agent: Option<HandleSlug>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub(crate) deadline_s: Option<NonZeroU32>,
    /// Such as file.read; yours by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rights: Vec<String>,
    /// analyst, coder, researcher, reviewer, tester or writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) role: Option<HandleSlug>,
    #[serde(deserialize_with = "message_text")]
    pub(crate) task: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerRoute {
    #[serde(deserialize_with = "message_text")]
    pub(crate) text: String,
    /// ses_…
    #[schemars(with = "String")]
    pub(crate) worker: SessionId,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerCancel {
    /// ses_…
    #[schemars(with = "String")]
    pub(crate) worker: SessionId,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BranchBegin {
    #[serde(deserialize_with = "message_text")]
    pub(crate) task: String,
    /// A later branch on it replaces this one.
    #[serde(default, deserialize_with = "topic_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) topic: Option<String>,
}

/// The most bytes of a topic.
const TOPIC_BYTES_MAX: usize = 80;

fn topic_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    if text.trim().is_empty() || text.len() > TOPIC_BYTES_MAX {
        return Err(de::Error::custom(format!(
            "a topic has 1 to {TOPIC_BYTES_MAX} bytes; this one has {}",
            text.len()
        )));
    }
    Ok(Some(text))
}

/// Reads arguments; says what is wrong and where.
pub(crate) fn parse_arguments<T: DeserializeOwned>(arguments: &str) -> Result<T, String> {
    // Some models send nothing at all where a tool needs no argument.
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    // serde would also read a struct from an array, by position; a schema of kind object does not allow that.
    if !arguments.trim_start().starts_with('{') {
        return Err("expected a JSON object".to_owned());
    }
    let mut json = serde_json::Deserializer::from_str(arguments);
    let parsed =
        serde_path_to_error::deserialize(&mut json).map_err(|error| match error.path().to_string() {
            place if place == "." || place == "?" => error.inner().to_string(),
            place => format!("{place}: {}", error.inner()),
        })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// Puts arguments into canonical form.
pub(crate) fn canonical_arguments<T: DeserializeOwned + Serialize>(
    arguments: &str,
) -> Result<String, String> {
    let parsed: T = parse_arguments(arguments)?;
    serde_json::to_string(&parsed).map_err(|error| error.to_string())
}

/// Derives the schema of an argument type and strips what a model has no use for; every byte of it is sent with
/// every model request.
pub(crate) fn argument_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    strip_schema_noise(&mut schema);
    schema
}

fn strip_schema_noise(schema: &mut Value) {
    const NOISE: [&str; 5] = ["$schema", "title", "format", "default", "minimum"];
    if let Some(object) = schema.as_object_mut() {
        object.retain(|key, _| !NOISE.contains(&key.as_str()));
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.values_mut().for_each(strip_schema_noise);
        }
    }
}

fn read_limit_default() -> u32 {
    READ_BYTES_MAX
}

fn read_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(de::Error::custom("the limit is at least 1")),
        limit => Ok(limit.min(READ_BYTES_MAX)),
    }
}

fn write_content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserialize_bounded(deserializer, WRITE_BYTES_MAX)
}

fn reply_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = deserialize_bounded(deserializer, REPLY_BYTES_MAX)?;
    if text.trim().is_empty() { Err(de::Error::custom("the text is empty")) } else { Ok(text) }
}

fn message_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = deserialize_bounded(deserializer, MESSAGE_BYTES_MAX)?;
    if text.is_empty() { Err(de::Error::custom("the text is empty")) } else { Ok(text) }
}

fn deserialize_bounded<'de, D: Deserializer<'de>>(
    deserializer: D,
    bytes_max: usize,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > bytes_max {
        return Err(de::Error::custom(format!("{} bytes are more than the {bytes_max} allowed", text.len())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_arguments_get_sorted_keys_and_filled_defaults() {
        for (given, expected) in [
            (
                canonical_arguments::<FileRead>(r#" {"path":"./a//"} "#),
                Err("path: a path must not contain an empty name; write names with one / between them, such \
                     as notes/today.md, or . for the workspace at line 1 column 17"
                    .to_owned()),
            ),
            (
                canonical_arguments::<FileRead>(r#"{"path":"./a","limit":999999}"#),
                Ok(r#"{"limit":65536,"offset":0,"path":"a"}"#.to_owned()),
            ),
            (
                canonical_arguments::<FileContent>(r#"{"path":"b/./c","content":"x"}"#),
                Ok(r#"{"content":"x","path":"b/c"}"#.to_owned()),
            ),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"HTTPS://EXAMPLE.com:443/a/../b?q#f","headers":{"X-A":"1"}}"#),
                Ok(r#"{"headers":{"x-a":"1"},"limit":65536,"method":"GET","offset":0,"url":"https://example.com/b?q"}"#
                    .to_owned()),
            ),
            (
                canonical_arguments::<HttpRequest>(
                    r#"{"url":"https://h/","query":{"k":{"secret":"b"}},"headers":{"A":{"secret":"a"}}}"#,
                ),
                Ok(r#"{"headers":{"a":{"secret":"a"}},"limit":65536,"method":"GET","offset":0,"query":{"k":{"secret":"b"}},"url":"https://h/"}"#
                    .to_owned()),
            ),
            (canonical_arguments::<FileList>(""), Ok(r#"{"path":"."}"#.to_owned())),
            (canonical_arguments::<TimeNow>("{}"), Ok("{}".to_owned())),
            (
                canonical_arguments::<ProgramExecute>(r#"{"timeout_s":600,"argv":["ls","-l"]}"#),
                Ok(r#"{"argv":["ls","-l"],"cwd":".","timeout_s":600}"#.to_owned()),
            ),
            (
                canonical_arguments::<ShellExecute>(r#"{"command":"ls","cwd":"a/"}"#),
                Ok(r#"{"command":"ls","cwd":"a","timeout_s":60}"#.to_owned()),
            ),
        ] {
            assert_eq!(given, expected);
        }
    }

    #[test]
    fn unfit_file_arguments_are_refused_with_their_place() {
        for (problem, place) in [
            (canonical_arguments::<FileRead>(r#"{"path":1}"#), "path: invalid type"),
            (canonical_arguments::<FileRead>(r#"{"path":"a","limit":0}"#), "limit: the limit is at least 1"),
            (canonical_arguments::<FileRead>(r#"{"path":"a","offset":-1}"#), "offset: invalid value"),
            (canonical_arguments::<FileRead>(r#"{"limit":1}"#), "missing field `path`"),
            (canonical_arguments::<FileRead>(r#"{"path":"a","mode":"x"}"#), "unknown field `mode`"),
            (canonical_arguments::<FileRead>(r#"{"path":"a","path":"b"}"#), "duplicate field `path`"),
            (canonical_arguments::<FileRead>(r#"{"path":"a"} {}"#), "trailing characters"),
            (canonical_arguments::<FileRead>(r#"[65536,0,"a"]"#), "expected a JSON object"),
            (canonical_arguments::<FileRead>("a"), "expected a JSON object"),
            (canonical_arguments::<HttpRequest>(r#"{"url":"ftp://h/"}"#), "url: a URL begins with https://"),
            (canonical_arguments::<HttpRequest>(r#"{"url":"http:h"}"#), "url: a URL begins with https://"),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"https://a b/"}"#),
                "url: a URL must not have spaces",
            ),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"https://u:p@h/"}"#),
                "url: a URL must not have a user name",
            ),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"https://h/","method":"TRACE"}"#),
                "method: unknown variant",
            ),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"https://h/","headers":{"A":"1","a":"2"}}"#),
                "headers: a header appears twice",
            ),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"https://h/","headers":{"A":1}}"#),
                "headers: a header is a string or",
            ),
            (
                canonical_arguments::<HttpRequest>(
                    r#"{"url":"https://h/","headers":{"A":{"secret":"a","b":1}}}"#,
                ),
                "headers: unknown field `b`",
            ),
            (
                canonical_arguments::<HttpRequest>(r#"{"url":"https://h/","query":{"k":{"secret":"a b"}}}"#),
                "name a secret by its name alone",
            ),
            (canonical_arguments::<ProgramExecute>(r#"{"argv":[]}"#), "argv: the program is missing"),
            (
                canonical_arguments::<ProgramExecute>(r#"{"argv":["a\u0000"]}"#),
                "argv: a word contains a NUL byte",
            ),
            (
                canonical_arguments::<ProgramExecute>(r#"{"argv":["a"],"cwd":".."}"#),
                "cwd: a path must not contain ..",
            ),
            (
                canonical_arguments::<ProgramExecute>(r#"{"argv":["a"],"timeout_s":0}"#),
                "timeout_s: the timeout must be at least 1",
            ),
            (
                canonical_arguments::<ProgramExecute>(r#"{"argv":["a"],"timeout_s":601}"#),
                "timeout_s: 601 seconds are more than the 600 allowed; ask for less",
            ),
            (
                canonical_arguments::<ShellExecute>(r#"{"command":"a","timeout_s":700}"#),
                "timeout_s: 700 seconds are more than the 600 allowed; ask for less",
            ),
            (canonical_arguments::<ShellExecute>(r#"{"command":" "}"#), "command: the command is empty"),
            (
                canonical_arguments::<MessageSend>(r#"{"session":"run_1","text":"x"}"#),
                "session: expected ses_",
            ),
            (
                canonical_arguments::<MessageSend>(
                    r#"{"session":"ses_00000000000000000000000000000000","text":""}"#,
                ),
                "text: the text is empty",
            ),
        ] {
            let problem = problem.expect_err(place);
            assert!(problem.contains(place), "{problem:?} does not say {place:?}");
        }
        let long = format!(r#"{{"path":"a","content":"{}"}}"#, "x".repeat(WRITE_BYTES_MAX + 1));
        assert!(
            canonical_arguments::<FileContent>(&long)
                .expect_err("too long")
                .contains("content: 524289 bytes")
        );
    }
}
