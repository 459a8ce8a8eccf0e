//! What a run does, for a person who looks on: the text of the live line, and a line for each call that has ended.
//!
//! Every word comes from the journal. What a call was asked with is cut to a line; `run show` has all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use dromia_api::run::JournalEntryResource;
use dromia_api::{CallId, escape_hidden};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::error::Outcome;
use crate::output::{CommandOutput, LiveClock, LiveText, count_noun};

/// How many calls are remembered with what they were asked with: as many as one message may ask for.
const CALLS_MAX: usize = 32;

/// How many characters of what a call was asked with are kept.
const CALL_CHARS: usize = 160;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// What a run does now.
#[derive(Debug, Default)]
pub(super) struct RunActivity {
    /// What calls of the last step were asked with, and when those began that run.
    calls: BTreeMap<CallId, AskedCall>,
    /// Why the last attempt of a model failed.
    failure: String,
}

#[derive(Debug, Default)]
struct AskedCall {
    /// The tool and what it was asked with, in a line.
    text: String,
    began: Option<Timestamp>,
}

/// What is read of the fields of an entry, whatever its kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActivityFields {
    attempt: u32,
    attempts_max: Option<u32>,
    model: String,
    sent: Option<ActivitySender>,
    call: Option<CallId>,
    tool: String,
    status: String,
    message: String,
    on: String,
    until: Option<Timestamp>,
    approval: Option<String>,
    items: Vec<IgnoredAny>,
    /// Whether a call's result is an interim reply, which is shown as the agent's words.
    reply: bool,
}

#[derive(Debug, Deserialize)]
struct ActivitySender {
    by: Option<String>,
}

/// What is read of a body: the calls of a message, or the parts of a result.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActivityBody {
    calls: Vec<ActivityCall>,
    parts: Vec<ActivityPart>,
}

#[derive(Debug, Deserialize)]
struct ActivityCall {
    id: CallId,
    tool: String,
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct ActivityPart {
    #[serde(default)]
    text: String,
}

impl RunActivity {
    /// Takes an entry: prints what has ended, and says what goes on now.
    pub(super) fn take_entry(
        &mut self,
        entry: &JournalEntryResource,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        let fields: ActivityFields = serde_json::from_str(entry.fields.get()).unwrap_or_default();
        let body = entry.body.as_ref().and_then(|body| serde_json::from_str(body.get()).ok());
        let body: ActivityBody = body.unwrap_or_default();
        match (entry.kind.as_str(), fields.call) {
            ("model_called", _) => {
                let model = fields.sent.and_then(|sent| sent.by).unwrap_or(fields.model);
                show_since("thinking", format!(" ({})", escape_hidden(&model)), output)
            }
            ("model_replied", _) => {
                self.remember_calls(body.calls);
                output.show_live(None)
            }
            ("model_failed", _) => {
                self.failure = failure_text(&fields);
                output.show_live(None)
            }
            ("inputs_taken", _) => {
                output.show_live(None)?;
                let joined = count_noun(fields.items.len(), "message");
                output.print_notice(&format!("{joined} joined the turn"))
            }
            ("run_parked", call) => self.show_parked(entry, &fields, call, output),
            ("tool_started", Some(call)) => {
                let asked = self.calls.entry(call).or_default();
                if asked.text.is_empty() {
                    asked.text = escape_hidden(&fields.tool);
                }
                asked.began = Some(entry.at);
                let arrow = if output.is_plain() { "running" } else { "→" };
                show_since(&format!("{arrow} {}", asked.text), String::new(), output)
            }
            ("tool_finished", Some(call)) => {
                let asked = self.calls.remove(&call).unwrap_or_default();
                let took = asked.began.map(|began| entry.at.duration_since(began).unsigned_abs());
                let took = took.map(seconds_text).unwrap_or_default();
                output.show_live(None)?;
                match fields.status.as_str() {
                    // A journal that is read from its middle does not name it.
                    _ if asked.text.is_empty() || fields.reply => Ok(()),
                    "ok" => print_ended("done:", "✓", GOOD, &format!("{}  {took}", asked.text), output),
                    status => print_failed(&asked.text, status, &body.parts, output),
                }
            }
            // The run goes on without a call that still waits, as `run_waits` says.
            ("tool_refused", Some(call)) if fields.status != "awaiting" => {
                let asked = self.calls.remove(&call).unwrap_or_default();
                let text = if asked.text.is_empty() { escape_hidden(&fields.tool) } else { asked.text };
                output.show_live(None)?;
                print_failed(&text, &fields.status, &body.parts, output)
            }
            _ => Ok(()),
        }
    }

    fn remember_calls(&mut self, calls: Vec<ActivityCall>) {
        self.calls.clear();
        self.calls.extend(calls.into_iter().take(CALLS_MAX).map(|call| {
            let text = call_text(&call.tool, &call.arguments);
            (call.id, AskedCall { text, began: None })
        }));
    }

    fn show_parked(
        &self,
        entry: &JournalEntryResource,
        fields: &ActivityFields,
        call: Option<CallId>,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        let text = match (fields.on.as_str(), fields.until, &fields.approval) {
            ("retry", Some(until), _) => {
                // By the clock of the server: both times are its own.
                let rest = Duration::try_from(until.duration_since(entry.at)).unwrap_or_default();
                LiveText {
                    before: "retrying in".to_owned(),
                    clock: LiveClock::Until(Instant::now() + rest),
                    after: format!(": {}", self.failure),
                }
            }
            ("approval", _, Some(approval)) => {
                let asked = call.and_then(|call| self.calls.get(&call));
                let asked = asked.map(|asked| format!(": {}", asked.text)).unwrap_or_default();
                LiveText {
                    before: format!("waiting for approval {}{asked}", short_id(approval)),
                    clock: LiveClock::Still,
                    after: String::new(),
                }
            }
            _ => return output.show_live(None),
        };
        output.show_live(Some(text))
    }
}

/// Says why an attempt failed, and which of how many it was.
fn failure_text(fields: &ActivityFields) -> String {
    let count = match fields.attempts_max {
        Some(most) => format!("{} of {most}", fields.attempt),
        None => format!("attempt {}", fields.attempt),
    };
    format!("{} ({count})", escape_hidden(&fields.message))
}

fn show_since(before: &str, after: String, output: &mut CommandOutput<'_>) -> Outcome {
    let clock = LiveClock::Since(Instant::now());
    output.show_live(Some(LiveText { before: before.to_owned(), clock, after }))
}

/// Prints that a call ended badly, with the first line of why.
fn print_failed(text: &str, status: &str, parts: &[ActivityPart], output: &mut CommandOutput<'_>) -> Outcome {
    let why = parts.iter().flat_map(|part| part.text.lines()).map(str::trim).find(|line| !line.is_empty());
    let why = why.map(|line| format!(": {}", escape_hidden(line))).unwrap_or_default();
    let how = if status == "error" { "failed" } else { status };
    print_ended("failed:", "✗", BAD, &format!("{text}  {how}{why}"), output)
}

fn print_ended(word: &str, mark: &str, style: Style, text: &str, output: &mut CommandOutput<'_>) -> Outcome {
    let mark = if output.is_plain() { word } else { mark };
    output.print_marked(mark, style, text)
}

/// Writes a call in a line: the one argument it has, else each with its name.
pub(super) fn call_text(tool: &str, arguments: &str) -> String {
    let fields: Option<Map<String, Value>> = serde_json::from_str(arguments).ok();
    let told = match fields {
        Some(fields) if fields.len() == 1 => fields.values().map(value_text).collect(),
        Some(fields) => {
            let each = fields.iter().map(|(name, value)| format!("{name}={}", value_text(value)));
            each.collect::<Vec<_>>().join(" ")
        }
        None => arguments.to_owned(),
    };
    let whole = format!("{tool} {told}");
    let mut text: String = escape_hidden(whole.trim_end()).chars().take(CALL_CHARS).collect();
    if whole.chars().count() > CALL_CHARS {
        text.push_str("...");
    }
    text
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        value => value.to_string(),
    }
}

/// Writes how long something took, in seconds with a tenth.
pub(super) fn seconds_text(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// The last digits of an id, which tell it from its neighbours.
pub(super) fn short_id(id: &str) -> &str {
    const DIGITS: usize = 8;
    id.get(id.len().saturating_sub(DIGITS)..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_written_in_one_line() {
        for (tool, arguments, text) in [
            ("shell.execute", r#"{"command":"cargo test"}"#, "shell.execute cargo test"),
            ("exec", r#"{"argv":["git","push"]}"#, "exec git push"),
            ("file.write", r#"{"path":"a","content":"b\nc"}"#, "file.write content=b\\u{a}c path=a"),
            ("clock.now", "{}", "clock.now"),
            ("odd", "no json", "odd no json"),
        ] {
            assert_eq!(call_text(tool, arguments), text);
        }
        let long = call_text("x", &format!(r#"{{"a":"{}"}}"#, "y".repeat(500)));
        assert_eq!(long.chars().count(), CALL_CHARS + 3);
    }

    #[test]
    fn an_id_is_shortened_to_its_last_digits() {
        assert_eq!(short_id("apr_0199c0de00000000000000001b2c3d4e"), "1b2c3d4e");
        assert_eq!(short_id("x"), "x");
    }

    #[test]
    fn a_failed_attempt_says_of_how_many_it_was() {
        for (fields, text) in [
            (r#"{"attempt":2,"attempts_max":6,"message":"429 from openai"}"#, "429 from openai (2 of 6)"),
            (r#"{"attempt":2,"message":"a crash"}"#, "a crash (attempt 2)"),
        ] {
            assert_eq!(failure_text(&serde_json::from_str(fields).expect("fields")), text);
        }
    }
}
