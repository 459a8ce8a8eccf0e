//! What people and scripts see: tables and texts on stdout, notices on stderr, one JSON document with `--json`, one
//! line per row with `-o jsonl` or `--jsonl`.
//!
//! This is the only place that knows formats. JSON is never coloured; texts are, by us, where
//! [`ColorHints`](crate::format::ColorHints) say so. Texts of others lose their control characters before they reach
//! a terminal, and JSON spells them out: what an agent says cannot move the cursor or set the clipboard.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use dromia_api::hides;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::args::Global;
use crate::context::Context;
use crate::error::{Error, Outcome, Standing};
use crate::format::{Fields, Format};
use crate::schema::ROWS;

const HEAD: Style = Style::new().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const ASIDE: Style = Style::new().dimmed();

/// Writes the results of one command.
#[derive(Debug)]
pub struct Output<'context> {
    context: &'context mut Context,
    format: Format,
    fields: Fields,
    /// What was asked for beside a form that it cannot be: JSON beside a table, lines beside a document.
    torn: Option<&'static str>,
    out_is_colored: bool,
    err_is_colored: bool,
    /// What goes on in the server if this command ends now.
    left: Option<Standing>,
    /// The tenant that was named, which commands in hints name too.
    tenant: Option<String>,
    unread: Unread,
}

/// What it means that whoever read the result has gone, as `head` does when it has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// The command ends: it may have been printing what never ends.
    Ends,
    /// Nothing: the command does what it does and ends as it would, and what is left to print is dropped.
    Passes,
}

/// The commands that look at one tenant, by their first word.
const OF_A_TENANT: [&str; 16] = [
    "agent",
    "approval",
    "ask",
    "audit",
    "budget",
    "capability",
    "chat",
    "cost",
    "delivery",
    "event",
    "run",
    "secret",
    "session",
    "token",
    "tool",
    "whoami",
];

impl<'context> Output<'context> {
    /// Takes the format from the command line. What is wrong with it is told by [`Output::check`].
    pub fn new(context: &'context mut Context, global: &Global) -> Self {
        let color = |is_terminal| context.color_hints.is_colored(global.color, is_terminal);
        let (out_is_colored, err_is_colored) =
            (color(context.out_is_terminal), color(context.err_is_terminal));
        let format = match (global.output, &global.json) {
            _ if global.jsonl => Format::Jsonl,
            (Some(Format::Table) | None, Some(_)) => Format::Json,
            (format, _) => format.unwrap_or_default(),
        };
        let torn = match global.output {
            Some(Format::Table) if global.jsonl => Some("--jsonl and -o table"),
            Some(Format::Json) if global.jsonl => Some("--jsonl and -o json"),
            Some(Format::Table) if global.json.is_some() => Some("--json and -o table"),
            Some(Format::Table | Format::Json | Format::Jsonl) | None => None,
        };
        let fields = global.json.clone().unwrap_or_default();
        let tenant = global.tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        Self {
            context,
            format,
            fields,
            torn,
            out_is_colored,
            err_is_colored,
            left: None,
            tenant,
            unread: Unread::Ends,
        }
    }

    /// The same for a command that works without a server. How it ends may be a verdict, which holds whether anybody reads
    /// all of the result or not.
    pub fn of_local(context: &'context mut Context, global: &Global) -> Self {
        Self { unread: Unread::Passes, ..Self::new(context, global) }
    }

    /// Refuses a format that contradicts itself and fields that the command does not print, before anything is done.
    pub fn check(&self) -> Outcome {
        if let Some(both) = self.torn {
            return Err(Error::Usage(format!("{both} cannot both be meant; leave one out")));
        }
        let known = &self.context.fields;
        let Some(unknown) = self.fields.names().iter().find(|name| !known.contains(name)) else {
            return Ok(());
        };
        Err(Error::Usage(if known.is_empty() {
            format!("there is no field {unknown:?}: this command has no fields to choose from")
        } else {
            format!("there is no field {unknown:?}; the fields are {}", known.join(", "))
        }))
    }

    /// The surroundings.
    pub fn context(&mut self) -> &mut Context {
        self.context
    }

    /// Whether a program reads the result.
    pub fn is_json(&self) -> bool {
        self.format != Format::Table
    }

    /// Whether a program reads it line by line.
    pub fn is_jsonl(&self) -> bool {
        self.format == Format::Jsonl
    }

    /// Prints a document for a program, and otherwise what `text` makes of it.
    pub fn show<T: Serialize>(&mut self, document: &T, text: impl FnOnce(&T) -> String) -> Outcome {
        if self.is_json() {
            return self.document(document);
        }
        let text = text(document);
        self.line(&text)
    }

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

    /// Prints one line, or several.
    pub fn line(&mut self, text: &str) -> Outcome {
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
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if self.unread == Unread::Passes && error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(Error::io(Error::WRITE)),
        }
    }

    /// Tells something beside the result.
    pub fn notice(&mut self, text: &str) -> Outcome {
        let text = self.hinted(text);
        writeln!(self.context.err, "{}", printable(&text)).map_err(Error::io("write to stderr"))
    }

    /// The same for what is longer than a line: on a terminal it is broken between words, and no command is.
    pub(crate) fn notice_wrapped(&mut self, text: &str) -> Outcome {
        let text = self.hinted(text);
        let columns = self.context.columns.filter(|_| self.context.err_is_terminal);
        let text = columns.map_or_else(|| text.to_string(), |columns| wrapped(&text, columns.into()));
        writeln!(self.context.err, "{}", printable(&text)).map_err(Error::io("write to stderr"))
    }

    /// A notice with the tenant in the commands of its hint.
    fn hinted<'text>(&self, text: &'text str) -> Cow<'text, str> {
        match text.strip_prefix("hint: ") {
            Some(hint) => Cow::Owned(format!("hint: {}", self.in_tenant(hint))),
            None => Cow::Borrowed(text),
        }
    }

    /// Tells a piece of a line beside the result, dimmed where there is colour; a line break at its end ends the line.
    pub(crate) fn aside(&mut self, text: &str) -> Outcome {
        let (text, end) = text.strip_suffix('\n').map_or((text, ""), |text| (text, "\n"));
        let text = painted(self.err_is_colored, ASIDE, &printable(text));
        let err = &mut self.context.err;
        write!(err, "{text}{end}").and_then(|()| err.flush()).map_err(Error::io("write to stderr"))
    }

    /// Tells an error in at most two lines, and with JSON as a document too; nobody is left to tell if that fails.
    pub fn tell(&mut self, error: &Error) {
        let code = error
            .problem()
            .map(|problem| format!(" ({}, {})", problem.code, problem.request_id))
            .unwrap_or_default();
        let mut told = self.labelled("error:", ERROR, &format!("{error}{code}"));
        if let Some(hint) = error.hint().map(|hint| self.in_tenant(&hint)) {
            told = told.and_then(|()| self.labelled("hint:", HINT, &hint));
        }
        if self.is_json() {
            told = told.and_then(|()| self.failure(error));
        }
        drop(told);
    }

    /// Notes what goes on in the server, for [`Output::leave`].
    pub(crate) fn goes_on(&mut self, standing: Option<Standing>) {
        self.left = standing;
    }

    /// Tells a person who pressed Ctrl-C what goes on without the command.
    pub(crate) fn leave(&mut self) {
        let Some(Standing { known, next }) = self.left.take() else { return };
        // What was printed last may have no end of its line yet.
        let told = self.notice(&format!("\n{known}"));
        let next = self.in_tenant(&next);
        drop(told.and_then(|()| self.labelled("hint:", HINT, &next)));
    }

    /// Writes the tenant that was named into the commands of a hint: without it they look at another one.
    fn in_tenant(&self, hint: &str) -> String {
        const MARK: &str = "`dromia ";
        let Some(tenant) = &self.tenant else { return hint.to_owned() };
        let mut pieces = hint.split(MARK);
        let mut told = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let word = piece.split([' ', '`']).next().unwrap_or_default();
            told.push_str(MARK);
            if OF_A_TENANT.contains(&word) {
                told.extend(["-T ", tenant, " "]);
            }
            told.push_str(piece);
        }
        told
    }

    fn labelled(&mut self, label: &str, style: Style, text: &str) -> Outcome {
        let label = painted(self.err_is_colored, style, label);
        writeln!(self.context.err, "{label} {}", printable(text)).map_err(Error::io("write to stderr"))
    }

    /// Whether results are coloured.
    pub fn is_colored(&self) -> bool {
        self.out_is_colored && !self.is_json()
    }

    /// Writes a word in colour, if there is any. The word must be ours.
    pub fn paint(&self, style: Style, word: &str) -> String {
        painted(self.out_is_colored, style, word)
    }

    /// Prints lines of ours, which may be painted.
    pub fn painted_lines(&mut self, text: &str) -> Outcome {
        self.raw(text.as_bytes())?;
        self.raw(b"\n")
    }

    /// Prints a table.
    pub fn table(&mut self, heads: &[&str], rows: Vec<Vec<String>>) -> Outcome {
        let text = table(self.context.columns, heads, rows);
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let head = self.paint(HEAD, head);
        // The cells have lost their control characters already; the head's are ours.
        self.painted_lines(&if rest.is_empty() { head } else { format!("{head}\n{rest}") })
    }
}

fn broken(error: &serde_json::Error) -> Error {
    Error::Broken(error.to_string())
}

fn painted(is_colored: bool, style: Style, word: &str) -> String {
    if is_colored { format!("{style}{word}{style:#}") } else { word.to_owned() }
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

/// The longest word that no width breaks, in characters: the id of a record of the audit has 39.
const WORD_MAX: usize = 48;

/// Draws a table without borders. Cells beyond the width wrap between words: an id in pieces cannot be copied, so a table of
/// ids is rather wider than it should be.
pub fn table(columns: Option<u16>, heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut widest: Vec<usize> = heads.iter().map(|head| word(head)).collect();
    for row in &rows {
        for (widest, cell) in widest.iter_mut().zip(row) {
            *widest = word(cell).max(*widest);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.iter().map(|head| head.to_uppercase()));
    if let Some(columns) = columns {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).replace(['\n', '\t'], " ")));
    }
    if columns.is_some() {
        // A bound counts the blank on both sides of a cell, too.
        let bounds = widest.iter().map(|widest| u16::try_from(widest + 2).unwrap_or(u16::MAX));
        table.set_constraints(bounds.map(|bound| ColumnConstraint::LowerBoundary(Width::Fixed(bound))));
    }
    let text = table.to_string();
    text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// How long the longest word is that is to stay whole.
fn word(cell: &str) -> usize {
    let words = cell.split_whitespace().map(|word| word.chars().count());
    words.filter(|length| *length <= WORD_MAX).max().unwrap_or_default()
}

/// Draws names and values, one pair per line.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = pairs.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// What stands before the further lines of a text.
const FURTHER: &str = "  ";

/// Breaks a text between words. What stands in backticks is to be copied, so it stays whole, whatever the width.
fn wrapped(text: &str, columns: usize) -> String {
    let mut is_command = false;
    let words = text.split(|c: char| {
        is_command ^= c == '`';
        c == ' ' && !is_command
    });
    let (mut told, mut column) = (String::with_capacity(text.len()), 0);
    for (index, word) in words.enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > columns {
            told.extend(["\n", FURTHER]);
            column = FURTHER.len();
        } else if index > 0 {
            told.push(' ');
            column += 1;
        }
        told.push_str(word);
        column += length;
    }
    told
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

/// Takes the control characters out of a text, line breaks and tabs apart.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(bad) { Cow::Owned(text.replace(bad, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Writes a time as people read it: UTC, to the second.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Writes how many there are of something, which has a plural with `s`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Writes an amount of money, in units of the price table's currency.
pub(crate) fn money(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_tenant_where_its_command_looks_at_one() {
        let mut context = Context::of_process(String::new());
        let hint = "`dromia agent list`, `dromia up`, `dromia whoami` or `dromia -T x run list`";
        assert_eq!(Output::new(&mut context, &Global::default()).in_tenant(hint), hint);
        let global = Global { tenant: Some("acme".parse().expect("a handle")), ..Global::default() };
        assert_eq!(
            Output::new(&mut context, &global).in_tenant(hint),
            "`dromia -T acme agent list`, `dromia up`, `dromia -T acme whoami` or `dromia -T x run list`"
        );
    }

    #[test]
    fn a_long_notice_is_broken_between_words_and_never_in_a_command() {
        let hint =
            "hint: `dromia approval show apr_1` shows all of it; answer with `dromia approval deny apr_1`";
        insta::assert_snapshot!(wrapped(hint, 40), @r"
        hint: `dromia approval show apr_1` shows
          all of it; answer with
          `dromia approval deny apr_1`
        ");
        // A command that is longer than the line is still one.
        let narrow = wrapped(hint, 10);
        assert!(narrow.contains("\n  `dromia approval show apr_1`\n"), "{narrow}");
        assert_eq!(
            narrow.split_whitespace().collect::<Vec<_>>(),
            hint.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(wrapped(hint, 400), hint);
    }

    #[test]
    fn a_notice_is_broken_on_a_terminal_alone() {
        #[derive(Clone, Default)]
        struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("nobody panicked").write(bytes)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for (is_terminal, lines) in [(true, 2), (false, 1)] {
            let kept = Kept::default();
            let mut context = Context::of_process(String::new());
            context.err = Box::new(kept.clone());
            context.err_is_terminal = is_terminal;
            context.columns = Some(40);
            let global = Global { tenant: Some("acme".parse().expect("a handle")), ..Global::default() };
            let told = Output::new(&mut context, &global)
                .notice_wrapped("hint: `dromia run list` and `dromia run why x`");
            told.expect("it is written");
            let text = String::from_utf8(kept.0.lock().expect("nobody panicked").clone()).expect("text");
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.contains("`dromia -T acme run why x`"), "{text}");
        }
    }

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
    fn a_table_is_aligned_and_has_no_border_and_no_trailing_space() {
        let rows = vec![vec!["ops".into(), "running".into()], vec!["reviewer".into(), "paused".into()]];
        insta::assert_snapshot!(table(None, &["handle", "state"], rows), @r"
        HANDLE    STATE
        ops       running
        reviewer  paused
        ");
    }

    #[test]
    fn a_narrow_table_wraps_between_words_and_breaks_no_id() {
        let id = "run_0199c0de0199c0de0199c0de0199c0de";
        let row = |what: &str| vec![id.to_owned(), "2026-01-02 03:04:05Z".to_owned(), what.to_owned()];
        let rows = vec![row("some words that do not fit beside it"), row(&"x".repeat(200))];
        for columns in [20, 40, 60, 80] {
            let text = table(Some(columns), &["id", "at", "what"], rows.clone());
            assert_eq!(text.matches(id).count(), 2, "at {columns}:\n{text}");
            assert!(text.contains("2026-01-02") && text.contains("03:04:05Z"), "at {columns}:\n{text}");
        }
        let wide = table(Some(300), &["id", "at", "what"], rows);
        assert_eq!(wide.lines().count(), 3, "{wide}");
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}d");
        let rows = vec![vec!["two\nlines\u{7}".into()]];
        assert_eq!(table(None, &["x"], rows).lines().count(), 2);
    }

    #[test]
    fn one_is_told_in_the_singular() {
        let told = [0, 1, 2].map(|count| counted(count, "check"));
        assert_eq!(told, ["0 checks", "1 check", "2 checks"]);
    }

    #[test]
    fn money_keeps_its_millionths() {
        assert_eq!(money(1_000_042), "1.000042");
    }

    #[test]
    fn wanted_fields_come_in_the_order_of_the_wish_and_an_absent_one_is_null() {
        let document = serde_json::json!({"a": 1, "b": [2], "c": 3});
        let fields: Fields = "c,x,a".parse().unwrap();
        let chosen = serde_json::to_string(&Chosen { of: &document, fields: fields.names() }).unwrap();
        assert_eq!(chosen, r#"{"c":3,"x":null,"a":1}"#);
    }
}
