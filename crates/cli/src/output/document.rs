//! JSON: one document, or one line per row, cut to the fields that are wanted.
//!
//! It is never coloured, and nothing is left out of it but fields. On a terminal it spells out what would not be shown, which
//! is the same document.

use std::borrow::Cow;
use std::fmt::Write as _;

use dromia_api::is_hidden_char;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::CommandOutput;
use super::yaml::format_yaml;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::format::{FieldSelection, OutputFormat};
use crate::schema::ROWS;

impl CommandOutput<'_> {
    /// Prints one JSON document, cut to the wanted fields; a listing is one line per row with `-o jsonl`.
    pub fn print_document(&mut self, document: &impl Serialize) -> Outcome {
        let text = if self.format == OutputFormat::Json && self.fields.field_names().is_empty() {
            serde_json::to_string_pretty(document).map_err(|error| serialization_error(&error))?
        } else {
            let document = serde_json::to_value(document).map_err(|error| serialization_error(&error))?;
            if self.format == OutputFormat::Name {
                names_of(&document)?
            } else {
                document_text(self.format, self.fields.field_names(), &document)
                    .map_err(|error| serialization_error(&error))?
            }
        };
        let text = filter_text(self, text)?;
        let told =
            if self.context.out_is_terminal { spelled_out(&text) } else { Cow::Borrowed(text.as_str()) };
        self.write_bytes(told.as_bytes())?;
        if text.is_empty() { Ok(()) } else { self.write_bytes(b"\n") }
    }

    /// Prints the document of a failure that stderr shows in another form.
    pub fn print_failure(&mut self, error: &Error) -> Outcome {
        if !matches!(self.jq, Ok(None)) {
            // A filter is for results, and stderr says what went wrong.
            return Ok(());
        }
        self.fields = FieldSelection::default();
        self.print_document(&error.error_document())
    }
}

/// Prints one row of what never ends as a line of JSON.
pub(crate) fn print_json_row(row: &impl Serialize, output: &mut CommandOutput<'_>) -> Outcome {
    let text = serde_json::to_string(row).map_err(|error| serialization_error(&error))?;
    match filter_text(output, text)? {
        text if text.is_empty() => Ok(()),
        text => output.print_line(&text),
    }
}

/// Has what is printed as JSON pass the filter of `--jq`: the document, or each of its lines.
fn filter_text(output: &CommandOutput<'_>, text: String) -> Outcome<String> {
    let Ok(Some(filter)) = &output.jq else { return Ok(text) };
    let filtered = if output.format == OutputFormat::Json {
        filter.filter_document(&text, Some("  "))
    } else {
        let lines = text.lines().map(|line| filter.filter_document(line, None));
        let lines = lines.filter(|line| line.as_ref().map_or(true, |line| !line.is_empty()));
        lines.collect::<Result<Vec<_>, _>>().map(|lines| lines.join("\n"))
    };
    filtered.map_err(|problem| Error::Local {
        exit: CommandExit::Failed,
        message: format!("--jq: {problem}; the command was carried out"),
    })
}

/// Writes a document as JSON, or as YAML where that is wanted.
fn whole_text(format: OutputFormat, document: &Value) -> serde_json::Result<String> {
    if format == OutputFormat::Yaml {
        return Ok(format_yaml(document));
    }
    serde_json::to_string_pretty(document)
}

fn document_text(format: OutputFormat, fields: &[String], document: &Value) -> serde_json::Result<String> {
    let rows = document.get(ROWS).and_then(Value::as_array);
    match (format, rows) {
        (OutputFormat::Jsonl, Some(rows)) => {
            let lines = rows.iter().map(|row| serde_json::to_string(&SelectedFields { of: row, fields }));
            Ok(lines.collect::<serde_json::Result<Vec<_>>>()?.join("\n"))
        }
        (OutputFormat::Jsonl, None) => serde_json::to_string(&SelectedFields { of: document, fields }),
        (_, Some(rows)) => {
            let mut document = document.clone();
            let rows = rows.iter().map(|row| serde_json::to_value(SelectedFields { of: row, fields }));
            document[ROWS] = Value::Array(rows.collect::<serde_json::Result<_>>()?);
            whole_text(format, &document)
        }
        (_, None) => whole_text(format, &serde_json::to_value(SelectedFields { of: document, fields })?),
    }
}

/// The fields by which commands know a thing, the first that it has. One that is a thing itself is known by its own.
pub(super) const NAMES: [&str; 10] =
    ["handle", "id", "name", "code", "run", "session", "agent", "delivery", "record", "tenant"];

fn name_of(value: &Value) -> Option<String> {
    NAMES.iter().find_map(|name| match value.get(name)? {
        Value::String(name) => Some(name.clone()),
        Value::Object(fields) => {
            let own = NAMES.iter().find_map(|name| fields.get(*name)?.as_str());
            own.map(str::to_owned)
        }
        _ => None,
    })
}

/// Lists the names of the rows of a document, or its own.
fn names_of(document: &Value) -> Outcome<String> {
    let names = match document.get(ROWS).and_then(Value::as_array) {
        Some(rows) => rows.iter().map(name_of).collect::<Option<Vec<_>>>().map(|names| names.join("\n")),
        None => name_of(document),
    };
    names.ok_or_else(|| Error::Usage(NAMELESS.to_owned()))
}

/// What is said where `-o name` has nothing to print.
pub(super) const NAMELESS: &str =
    "this command prints nothing that has a name; use another form than -o name";

fn serialization_error(error: &serde_json::Error) -> Error {
    Error::Broken(error.to_string())
}

/// The wanted fields of an object, in the order of the wish; one that is absent is null.
struct SelectedFields<'document> {
    of: &'document Value,
    fields: &'document [String],
}

impl Serialize for SelectedFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fields.is_empty() {
            return self.of.serialize(serializer);
        }
        serializer.collect_map(self.fields.iter().map(|name| (name, self.of.get(name))))
    }
}

/// Escapes in JSON the characters that a terminal would act on or not show. They occur in strings only, where JSON has
/// escapes, so it is the same document.
fn spelled_out(json: &str) -> Cow<'_, str> {
    let is_odd = |c: char| c != '\n' && is_hidden_char(c);
    if !json.contains(is_odd) {
        return Cow::Borrowed(json);
    }
    let mut told = String::with_capacity(json.len());
    for c in json.chars() {
        if is_odd(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _infallible = write!(told, "\\u{unit:04x}");
            }
        } else {
            told.push(c);
        }
    }
    Cow::Owned(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_on_a_terminal_escapes_hidden_characters() {
        let document = serde_json::json!({"quote": "a\u{9b}31m\u{202e}b\u{7f}\u{e0101}\nc\u{1b}[2J", "plain": "grüße 日本"});
        let json = serde_json::to_string_pretty(&document).expect("JSON");
        let told = spelled_out(&json);
        assert!(!told.contains(|c: char| c != '\n' && is_hidden_char(c)), "{told:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&told).expect("JSON"), document);
        assert!(
            told.contains("\\u009b31m\\u202e")
                && told.contains("\\udb40\\udd01")
                && told.contains("grüße 日本"),
            "{told}"
        );
        assert!(matches!(spelled_out("{\n  \"a\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn selected_fields_keep_their_order_and_absent_ones_are_null() {
        let document = serde_json::json!({"a": 1, "b": [2], "c": 3});
        let fields: FieldSelection = "c,x,a".parse().unwrap();
        let chosen =
            serde_json::to_string(&SelectedFields { of: &document, fields: fields.field_names() }).unwrap();
        assert_eq!(chosen, r#"{"c":3,"x":null,"a":1}"#);
    }
}
