//! YAML of a document: the same values as its JSON, in blocks.
//!
//! Only what JSON has is written: no tags, no anchors, no comments. A text that a reader of YAML could take for something else
//! is written as in JSON, which is YAML too.

use std::fmt::Write as _;

use serde_json::Value;

/// Writes a document, without a line break at its end.
pub(super) fn format_yaml(document: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, document, 0);
    text.trim_start().to_owned()
}

/// Writes a value behind a key or a dash. The fields of an object begin on a line of their own, but for the first behind a
/// dash.
fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                if !text.ends_with("- ") {
                    begin_line(text, depth);
                }
                write_scalar(text, name);
                text.push(':');
                if is_scalar(value) {
                    text.push(' ');
                }
                write_value(text, value, depth + 1);
            }
        }
        Value::Array(rows) if !rows.is_empty() => {
            for row in rows {
                begin_line(text, depth);
                text.push_str("- ");
                write_value(text, row, depth + 1);
            }
        }
        Value::String(words) => write_scalar(text, words),
        other => {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "{other}");
        }
    }
}

/// Whether a value is written on the line of its key.
fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(rows) => rows.is_empty(),
        _ => true,
    }
}

fn begin_line(text: &mut String, depth: usize) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
}

/// Words that YAML reads as something else than a text.
const NO_TEXTS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

/// Writes a text in one line, in quotes where a reader could take it for something else.
pub(crate) fn write_scalar(text: &mut String, words: &str) {
    let is_plain = words.starts_with(|c: char| c.is_ascii_alphabetic())
        && words.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./*".contains(&byte))
        && !NO_TEXTS.contains(&words.to_ascii_lowercase().as_str());
    if is_plain {
        text.push_str(words);
        return;
    }
    // JSON's form is YAML's for what is in quotes; what no reader shows is spelled out.
    text.push('"');
    for c in words.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() || dromia_api::is_hidden_char(c) || c == '\u{feff}' => {
                // Writing to a string cannot fail.
                let _infallible = write!(text, "\\U{:08X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_in_blocks() {
        let document = serde_json::json!({
            "items": [{"id": "run_1", "cost": 3, "note": "a: b", "at": "2026-01-02T03:04:05Z"}, {"id": "no"}],
            "next": null, "none": [], "hidden": "a\u{202e}b", "two\nlines": {"deep": ["x", true]},
        });
        insta::assert_snapshot!(format_yaml(&document), @r#"
        hidden: "a\U0000202Eb"
        items:
          - at: "2026-01-02T03:04:05Z"
            cost: 3
            id: run_1
            note: "a: b"
          - id: "no"
        next: null
        none: []
        "two\nlines":
          deep:
            - x
            - true
        "#);
    }
}
