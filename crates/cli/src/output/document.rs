//! JSON: one document, or one line per row, cut to the fields that are wanted.
//!
//! It is never coloured, and nothing is left out of it but fields. On a terminal it spells out what would not be shown, which
//! is the same document.

use std::borrow::Cow;
use std::fmt::Write as _;

use dromia_api::hides;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Output;
use crate::error::{Error, Outcome};
use crate::format::{Fields, Format};
use crate::schema::ROWS;

impl Output<'_> {
    /// Prints one JSON document, cut to the wanted fields; a listing is one line per row with `-o jsonl`.
    pub fn document(&mut self, document: &impl Serialize) -> Outcome {
        let text = if self.format == Format::Json && self.fields.names().is_empty() {
            serde_json::to_string_pretty(document).map_err(|error| broken(&error))?
        } else {
            let document = serde_json::to_value(document).map_err(|error| broken(&error))?;
            self.written(&document).map_err(|error| broken(&error))?
        };
        let told =
            if self.context.out_is_terminal { spelled_out(&text) } else { Cow::Borrowed(text.as_str()) };
        self.raw(told.as_bytes())?;
        if text.is_empty() { Ok(()) } else { self.raw(b"\n") }
    }

    /// Prints the document of a failure that stderr was told of in another way.
    pub fn failure(&mut self, error: &Error) -> Outcome {
        self.fields = Fields::default();
        self.document(&error.document())
    }

    fn written(&self, document: &Value) -> serde_json::Result<String> {
        let fields = self.fields.names();
        let rows = document.get(ROWS).and_then(Value::as_array);
        match (self.format, rows) {
            (Format::Jsonl, Some(rows)) => {
                let lines = rows.iter().map(|row| serde_json::to_string(&Chosen { of: row, fields }));
                Ok(lines.collect::<serde_json::Result<Vec<_>>>()?.join("\n"))
            }
            (Format::Jsonl, None) => serde_json::to_string(&Chosen { of: document, fields }),
            (_, Some(rows)) => {
                let mut document = document.clone();
                let rows = rows.iter().map(|row| serde_json::to_value(Chosen { of: row, fields }));
                document[ROWS] = Value::Array(rows.collect::<serde_json::Result<_>>()?);
                serde_json::to_string_pretty(&document)
            }
            (_, None) => serde_json::to_string_pretty(&Chosen { of: document, fields }),
        }
    }
}

fn broken(error: &serde_json::Error) -> Error {
    Error::Broken(error.to_string())
}

/// The wanted fields of an object, in the order of the wish; one that is absent is null.
struct Chosen<'document> {
    of: &'document Value,
    fields: &'document [String],
}

impl Serialize for Chosen<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fields.is_empty() {
            return self.of.serialize(serializer);
        }
        serializer.collect_map(self.fields.iter().map(|name| (name, self.of.get(name))))
    }
}

/// Spells out in JSON what a terminal would act on or not show. It stands in strings only, where JSON may say so, so it is the
/// same document.
fn spelled_out(json: &str) -> Cow<'_, str> {
    let is_odd = |c: char| c != '\n' && hides(c);
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
    fn a_document_on_a_terminal_is_the_same_and_hides_nothing() {
        let document = serde_json::json!({"quote": "a\u{9b}31m\u{202e}b\u{7f}\u{e0101}\nc\u{1b}[2J", "plain": "grüße 日本"});
        let json = serde_json::to_string_pretty(&document).expect("JSON");
        let told = spelled_out(&json);
        assert!(!told.contains(|c: char| c != '\n' && hides(c)), "{told:?}");
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
    fn wanted_fields_come_in_the_order_of_the_wish_and_an_absent_one_is_null() {
        let document = serde_json::json!({"a": 1, "b": [2], "c": 3});
        let fields: Fields = "c,x,a".parse().unwrap();
        let chosen = serde_json::to_string(&Chosen { of: &document, fields: fields.names() }).unwrap();
        assert_eq!(chosen, r#"{"c":3,"x":null,"a":1}"#);
    }
}
