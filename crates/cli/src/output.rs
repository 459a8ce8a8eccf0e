//! What people and scripts see: tables and texts on stdout, notices on stderr, one JSON document with `--json`, one
//! line per row with `-o jsonl` or `--jsonl`.
//!
//! This is the only place that knows formats. JSON is never coloured; texts are, by us, where
//! [`ColorHints`](crate::format::ColorHints) say so. Texts of others lose their control characters before they reach
//! a terminal, and JSON spells them out: what an agent says cannot move the cursor or set the clipboard.

mod ascii_writer;
mod column_width;
mod document;
mod jq;
mod live_line;
mod markdown;
mod notice;
mod row_style;
mod table;
mod words;
mod yaml;

use std::io::{ErrorKind, Write as _};

use anstyle::Style;
use clap::ValueEnum as _;
use serde::Serialize;

use crate::args::GlobalOptions;
use crate::context::CommandContext;
use crate::error::{Error, Outcome, PendingStatus};
use crate::format::{FieldSelection, OutputFormat};

pub use self::ascii_writer::{AsciiWriter, ascii_text};
pub(crate) use self::column_width::ColumnShrink;
pub(crate) use self::document::print_json_row;
use self::document::{NAMELESS, NAMES};
use self::jq::JqFilter;
use self::live_line::LiveMode;
use self::live_line::{COLUMNS_DEFAULT, LiveLine};
pub(crate) use self::live_line::{LiveClock, LiveText, cut_to_columns};
pub(crate) use self::markdown::{MarkdownLook, MarkdownPrinter};
pub use self::notice::wrap_beside;
pub(crate) use self::row_style::RowStyle;
pub(crate) use self::table::draw_fitted_table;
pub use self::table::{draw_pairs, draw_table};
pub(crate) use self::words::strip_control_characters;
pub use self::words::{count_noun, format_time, shell_word, wrap_text};
pub(crate) use self::words::{
    format_age, format_duration, format_known_cost, format_money, format_short_cost,
};
pub(crate) use self::yaml::write_scalar;

/// Writes the results of one command.
#[derive(Debug)]
pub struct CommandOutput<'context> {
    context: &'context mut CommandContext,
    format: OutputFormat,
    fields: FieldSelection,
    /// What a JSON result passes, or why the expression is none.
    jq: Result<Option<JqFilter>, String>,
    /// What was asked for beside a form that it cannot be: JSON beside a table, lines beside a document.
    torn: Option<String>,
    out_is_colored: bool,
    err_is_colored: bool,
    /// What goes on in the server if this command ends now.
    left: Option<PendingStatus>,
    /// The tenant that was named, which commands in hints name too.
    tenant: Option<String>,
    /// The flag by which a home or a server was named, as a shell reads it, for the same.
    place: Option<String>,
    unread: ClosedPipeAction,
    server: ServerPresence,
    /// Whether the last line of the result has no end yet.
    is_open: bool,
    live: LiveLine,
}

/// Whether the notice that no server answers was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerPresence {
    Answers,
    Away,
}

/// What happens once the reader of the result has closed it, as `head` does when it has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClosedPipeAction {
    /// The command ends: it may have been printing what never ends.
    Ends,
    /// Nothing: the command does what it does and ends as it would, and what is left to print is dropped.
    Passes,
}

impl<'context> CommandOutput<'context> {
    /// Takes the format from the command line. [`CommandOutput::check_format`] reports what is wrong with it.
    pub fn new(context: &'context mut CommandContext, global: &GlobalOptions) -> Self {
        let color = |is_terminal| context.color_hints.is_colored(global.color, is_terminal);
        let (out_is_colored, err_is_colored) =
            (color(context.out_is_terminal), color(context.err_is_terminal));
        let format = match (global.output, &global.json) {
            _ if global.jsonl => OutputFormat::Jsonl,
            (Some(OutputFormat::Table | OutputFormat::Wide | OutputFormat::Name) | None, Some(_)) => {
                OutputFormat::Json
            }
            (None, None) if global.jq.is_some() => OutputFormat::Json,
            (format, _) => format.unwrap_or_default(),
        };
        let torn = global.output.and_then(|form| {
            let flag = match form {
                OutputFormat::Jsonl => return None,
                _ if global.jsonl => "--jsonl",
                OutputFormat::Table | OutputFormat::Wide | OutputFormat::Name if global.json.is_some() => {
                    "--json"
                }
                _ if global.jq.is_some() && form != OutputFormat::Json => "--jq",
                _ => return None,
            };
            Some(format!("{flag} and -o {}", form.to_possible_value()?.get_name()))
        });
        let terminal = &context.terminal;
        let live = match format {
            OutputFormat::Json | OutputFormat::Jsonl | OutputFormat::Yaml | OutputFormat::Name => {
                LiveMode::Off
            }
            _ if !context.err_is_terminal => LiveMode::Off,
            _ if global.accessible || terminal.is_accessible => LiveMode::Appends,
            _ if !terminal.shows_unicode || context.color_hints.dumb => LiveMode::Appends,
            OutputFormat::Table | OutputFormat::Wide => LiveMode::Rewrites,
        };
        let fields = global.json.clone().unwrap_or_default();
        let tenant = global.tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        Self {
            context,
            format,
            fields,
            jq: global.jq.as_deref().map(JqFilter::parse).transpose(),
            torn,
            out_is_colored,
            err_is_colored,
            left: None,
            tenant,
            place: place_flag(global),
            unread: ClosedPipeAction::Ends,
            server: ServerPresence::Answers,
            is_open: false,
            live: LiveLine::in_mode(live),
        }
    }

    /// The same for a command that works without a server. How it ends may be a verdict, which holds whether or not the
    /// output is read all of the result or not.
    pub fn of_local(context: &'context mut CommandContext, global: &GlobalOptions) -> Self {
        Self { unread: ClosedPipeAction::Passes, ..Self::new(context, global) }
    }

    /// Refuses a format that contradicts itself and fields that the command does not print, before anything is done.
    pub fn check_format(&self) -> Outcome {
        if let Some(both) = &self.torn {
            return Err(Error::Usage(format!("{both} exclude each other; leave one out")));
        }
        if let Err(problem) = &self.jq {
            return Err(Error::Usage(format!("--jq: {problem}")));
        }
        let known = &self.context.fields;
        // Before anything is done: a command that did its work must not end with a usage error.
        if self.format == OutputFormat::Name && !known.iter().any(|field| NAMES.contains(&field.as_str())) {
            return Err(Error::Usage(NAMELESS.to_owned()));
        }
        let Some(unknown) = self.fields.field_names().iter().find(|name| !known.contains(name)) else {
            return Ok(());
        };
        Err(Error::Usage(if known.is_empty() {
            format!("there is no field {unknown:?}: this command has no fields to choose from")
        } else {
            format!("there is no field {unknown:?}; the fields are {}", known.join(", "))
        }))
    }

    /// The surroundings.
    pub fn context_mut(&mut self) -> &mut CommandContext {
        self.context
    }

    /// Whether a program reads the result.
    pub fn is_json(&self) -> bool {
        !matches!(self.format, OutputFormat::Table | OutputFormat::Wide)
    }

    /// Whether a program reads it line by line.
    pub fn is_jsonl(&self) -> bool {
        self.format == OutputFormat::Jsonl
    }

    /// How ids and times are written in what people read.
    pub(crate) fn row_style(&self) -> RowStyle {
        let is_short = self.format == OutputFormat::Table && self.context.out_is_terminal;
        RowStyle { reader: self.context.local_time.clone().filter(|_| is_short) }
    }

    /// Prints a document for a program, and otherwise what `text` makes of it.
    pub fn print_result<T: Serialize>(&mut self, document: &T, text: impl FnOnce(&T) -> String) -> Outcome {
        if self.is_json() {
            return self.print_document(document);
        }
        let text = text(document);
        self.print_line(&text)
    }

    /// Prints one line, or several. A terminal gets lines that are broken between words; a pipe gets them as they are.
    pub fn print_line(&mut self, text: &str) -> Outcome {
        match self.context.columns.filter(|_| self.context.out_is_terminal) {
            Some(columns) => self.print_text(&wrap_text(text, columns.into(), ""))?,
            None => self.print_text(text)?,
        }
        self.write_bytes(b"\n")
    }

    /// Prints a piece of a line at once.
    pub(crate) fn print_text(&mut self, text: &str) -> Outcome {
        if self.context.out_is_terminal {
            self.write_bytes(strip_control_characters(text).as_bytes())
        } else {
            self.write_bytes(text.as_bytes())
        }
    }

    /// Prints a page in Markdown: rendered on a terminal, and as it is elsewhere.
    pub fn print_markdown(&mut self, text: &str) -> Outcome {
        if !self.context.out_is_terminal {
            return self.write_bytes(text.as_bytes());
        }
        let columns = self.context.columns.unwrap_or(COLUMNS_DEFAULT);
        let (is_painted, is_plain) = (self.is_colored(), self.is_plain());
        let mut printer = MarkdownPrinter::new(MarkdownLook { columns, is_painted, is_plain });
        let shown = printer.push_text(&markdown::join_paragraphs(text)) + &printer.finish();
        self.write_bytes(shown.as_bytes())
    }

    /// Whether the last line of the result has no end yet.
    pub(crate) const fn has_open_line(&self) -> bool {
        self.is_open
    }

    /// Writes bytes as they are.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.erase_live()?;
        if let Some(last) = bytes.last() {
            self.is_open = *last != b'\n';
        }
        let out = &mut self.context.out;
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error)
                if self.unread == ClosedPipeAction::Passes && error.kind() == ErrorKind::BrokenPipe =>
            {
                Ok(())
            }
            written => written.map_err(Error::io_error(Error::WRITE)),
        }
    }

    /// Whether results are coloured.
    pub fn is_colored(&self) -> bool {
        self.out_is_colored && !self.is_json()
    }

    /// Writes a word in colour, if colour is on. The word must be the program's own.
    pub fn paint(&self, style: Style, word: &str) -> String {
        paint_word(self.out_is_colored, style, word)
    }

    /// Prints lines of ours, which may be painted.
    pub fn painted_lines(&mut self, text: &str) -> Outcome {
        self.write_bytes(text.as_bytes())?;
        self.write_bytes(b"\n")
    }
}

/// The flag that names the home, the context or the server of a command line.
fn place_flag(global: &GlobalOptions) -> Option<String> {
    let home = global.home.as_ref().map(|home| format!("--home {}", shell_word(&home.to_string_lossy())));
    let context = || global.context.as_ref().map(|name| format!("--context {}", shell_word(name)));
    let server = || global.server.as_ref().map(|url| format!("--server {url}"));
    home.or_else(context).or_else(server)
}

fn paint_word(is_colored: bool, style: Style, word: &str) -> String {
    if is_colored { format!("{style}{word}{style:#}") } else { word.to_owned() }
}
