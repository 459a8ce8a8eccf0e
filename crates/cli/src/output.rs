//! What people and scripts see: tables and texts on stdout, notices on stderr, one JSON document with `--json`.
//!
//! No escape sequence is ever written by us, and texts of others lose their control characters before they reach
//! a terminal: what an agent says cannot move the cursor or set the clipboard.

use std::borrow::Cow;
use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::context::Context;
use crate::error::{Error, Outcome};

/// Writes the results of one command.
pub(crate) struct Output<'context> {
    context: &'context mut Context,
    json: bool,
}

impl<'context> Output<'context> {
    pub(crate) fn new(context: &'context mut Context, json: bool) -> Self {
        Self { context, json }
    }

    pub(crate) fn context(&mut self) -> &mut Context {
        self.context
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a document with `--json`, and otherwise what `text` makes of it.
    pub(crate) fn show<T: Serialize>(&mut self, document: &T, text: impl FnOnce(&T) -> String) -> Outcome {
        if self.json {
            return self.document(document);
        }
        let text = text(document);
        self.line(&text)
    }

    /// Prints one JSON document.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Outcome {
        let text =
            serde_json::to_string_pretty(document).map_err(|error| Error::Broken(error.to_string()))?;
        self.raw(text.as_bytes())?;
        self.raw(b"\n")
    }

    /// Prints one line, or several.
    pub(crate) fn line(&mut self, text: &str) -> Outcome {
        self.text(text)?;
        self.raw(b"\n")
    }

    /// Prints a piece of a line at once.
    pub(crate) fn text(&mut self, text: &str) -> Outcome {
        if self.context.out_is_terminal {
            self.raw(printable(text).as_bytes())
        } else {
            self.raw(text.as_bytes())
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Outcome {
        let out = &mut self.context.out;
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::io("write to stdout"))
    }

    /// Tells something beside the result.
    pub(crate) fn notice(&mut self, text: &str) -> Outcome {
        writeln!(self.context.err, "{}", printable(text)).map_err(Error::io("write to stderr"))
    }

    /// Prints a table.
    pub(crate) fn table(&mut self, heads: &[&str], rows: Vec<Vec<String>>) -> Outcome {
        let text = table(self.context.columns, heads, rows);
        self.line(&text)
    }
}

/// Draws a table without borders; cells beyond the width wrap.
pub(crate) fn table(columns: Option<u16>, heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.iter().map(|head| head.to_uppercase()));
    if let Some(columns) = columns {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).replace(['\n', '\t'], " ")));
    }
    let text = table.to_string();
    text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Draws names and values, one pair per line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = pairs.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// Takes the control characters out of a text, line breaks and tabs apart.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(bad) { Cow::Owned(text.replace(bad, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Writes a time as people read it: UTC, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Writes an amount of money, in units of the price table's currency.
pub(crate) fn money(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_border_and_no_trailing_space() {
        let rows = vec![vec!["ops".into(), "running".into()], vec!["reviewer".into(), "paused".into()]];
        insta::assert_snapshot!(table(None, &["handle", "state"], rows), @r"
        HANDLE    STATE
        ops       running
        reviewer  paused
        ");
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}d");
        let rows = vec![vec!["two\nlines\u{7}".into()]];
        assert_eq!(table(None, &["x"], rows).lines().count(), 2);
    }

    #[test]
    fn money_keeps_its_millionths() {
        assert_eq!(money(1_000_042), "1.000042");
    }
}
