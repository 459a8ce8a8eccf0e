//! Renders Markdown for a terminal while it comes: what was printed is never drawn again, a word that grows out of its line
//! apart.
//!
//! Where nothing may be painted, markers stay as they are written, and only lines are broken between words. Code and tables are
//! never broken. Texts of others come in without control characters.

mod inline;
mod word_wrap;

use anstyle::{AnsiColor, Style};

use self::inline::{InlineToken, next_token};
use self::word_wrap::WordWrap;

const CODE: Style = AnsiColor::Cyan.on_default();
const QUOTE: Style = Style::new().dimmed();
const LINK: Style = Style::new().underline();

/// The narrowest line in which words are wrapped.
const COLUMNS_MIN: u16 = 16;

/// What comes before code.
const CODE_INDENT: &str = "  ";

/// How the terminal may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MarkdownLook {
    pub(crate) columns: u16,
    /// Whether styles are printed.
    pub(crate) is_painted: bool,
    /// Whether only ASCII is printed, and nothing is drawn twice.
    pub(crate) is_plain: bool,
}

/// Renders one answer.
#[derive(Debug)]
pub(crate) struct MarkdownPrinter {
    look: MarkdownLook,
    /// What came and is not printed.
    held: String,
    block: LineBlock,
    /// The fence that ends the code.
    fence: Option<String>,
    /// The character before what is held.
    before: Option<char>,
    wrap: WordWrap,
    /// Whether an empty line comes before the next text; `None` before the first text.
    gap: Option<bool>,
}

/// The last column stays free: a terminal may break the line there by itself.
fn wrap_columns(columns: u16) -> usize {
    usize::from(columns.max(COLUMNS_MIN)) - 1
}

/// What the line is that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineBlock {
    /// It has not been read what it is.
    Unknown,
    Text(Style),
    /// Code, or a row of a table.
    Verbatim,
    /// A line that prints nothing of itself.
    Skipped,
}

impl MarkdownPrinter {
    pub(crate) fn new(look: MarkdownLook) -> Self {
        Self {
            look,
            held: String::new(),
            block: LineBlock::Unknown,
            fence: None,
            before: None,
            wrap: WordWrap::new(wrap_columns(look.columns), !look.is_plain),
            gap: None,
        }
    }

    /// Breaks what comes from now on at another width: the terminal has changed its own.
    pub(crate) fn set_columns(&mut self, columns: u16) {
        self.look.columns = columns;
        self.wrap.set_columns(wrap_columns(columns));
    }

    /// Takes a piece, and returns what to print.
    pub(crate) fn push_text(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let mut out = String::new();
        while self.print_step(&mut out) {}
        self.wrap.show_part(&mut out);
        out
    }

    /// Returns what ends the line for something else that is printed now; the answer goes on below it.
    pub(crate) fn leave_line(&mut self) -> String {
        let mut out = String::new();
        self.wrap.leave_line(&mut out);
        out
    }

    /// Returns what is left to print of the answer, and ends its line.
    pub(crate) fn finish(&mut self) -> String {
        let mut out = if self.held.is_empty() { String::new() } else { self.push_text("\n") };
        if !self.wrap.is_line_start() {
            self.wrap.end_line(&mut out);
        }
        *self = Self::new(self.look);
        out
    }

    /// Prints a part of what is held; `false` if more must come first.
    fn print_step(&mut self, out: &mut String) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let end = self.held.find('\n');
        let line = self.held[..end.unwrap_or(self.held.len())].to_owned();
        if self.block == LineBlock::Unknown {
            let Some(taken) = self.begin_block(&line, end.is_some(), out) else { return false };
            self.held.drain(..taken);
            return true;
        }
        let printed = self.print_line_part(&line, end.is_some(), out);
        self.held.drain(..printed);
        if end.is_none() || printed < line.len() {
            return false;
        }
        self.held.drain(..1);
        if self.block != LineBlock::Skipped {
            self.wrap.end_line(out);
        }
        (self.block, self.before) = (LineBlock::Unknown, None);
        !self.held.is_empty()
    }

    /// Finds out what a line is, prints what it begins with, and returns how much of it that was; `None` if the line is too
    /// short to say.
    fn begin_block(&mut self, line: &str, is_whole: bool, out: &mut String) -> Option<usize> {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(fence) = &self.fence {
            if !is_whole && (fence.starts_with(text) || text.starts_with(fence)) {
                return None;
            }
            if text.trim_end() == fence {
                self.fence = None;
                self.block = if self.look.is_painted { LineBlock::Skipped } else { LineBlock::Verbatim };
                return Some(if self.look.is_painted { line.len() } else { 0 });
            }
            let lead = if self.look.is_painted && !line.is_empty() { CODE_INDENT } else { "" };
            self.wrap.begin_line(lead, Style::new(), String::new(), out);
            self.block = LineBlock::Verbatim;
            return Some(0);
        }
        let opening = text.len() - text.trim_start_matches(['`', '~']).len();
        if text.is_empty() || (opening > 0 && opening == text.len()) || opening >= 3 {
            if !is_whole {
                return None;
            }
            if opening >= 3 && !text[opening..].contains('`') {
                self.print_gap(out);
                self.fence = Some(text[..opening].to_owned());
                self.block = if self.look.is_painted { LineBlock::Skipped } else { LineBlock::Verbatim };
                return Some(if self.look.is_painted { line.len() } else { 0 });
            }
            if text.is_empty() {
                // One empty line is enough between two paragraphs, and none is needed at the end.
                self.gap = self.gap.map(|_| true);
                self.block = LineBlock::Skipped;
                return Some(indent);
            }
        }
        let prefix = text.split(' ').next().unwrap_or_default();
        let is_short = !is_whole && prefix.len() == text.len();
        if is_short && is_line_marker(prefix) {
            return None;
        }
        self.print_gap(out);
        let has_marker = prefix.len() < text.len() && is_line_marker(prefix);
        let level = prefix.len();
        Some(match prefix.chars().next() {
            Some('|') => {
                self.block = LineBlock::Verbatim;
                0
            }
            Some('>') if prefix == ">" => {
                let bar = if self.look.is_plain || !self.look.is_painted { "> " } else { "│ " };
                self.begin_text(indent, bar, QUOTE, QUOTE, out);
                line.len().min(indent + 2)
            }
            Some('#') if has_marker && self.look.is_painted => {
                self.begin_text(0, "", Style::new(), Style::new().bold(), out);
                indent + level + 1
            }
            Some('-' | '*' | '+') if has_marker && level == 1 => {
                let bullet = if self.look.is_plain || !self.look.is_painted { "- " } else { "• " };
                self.begin_text(indent, bullet, Style::new(), Style::new(), out);
                indent + 2
            }
            Some('0'..='9') if has_marker => {
                self.begin_text(indent, &text[..=level], Style::new(), Style::new(), out);
                indent + level + 1
            }
            _ => {
                self.begin_text(indent, "", Style::new(), Style::new(), out);
                indent
            }
        })
    }

    fn print_gap(&mut self, out: &mut String) {
        if self.gap.replace(false) == Some(true) {
            out.push('\n');
        }
    }

    fn begin_text(
        &mut self,
        indent: usize,
        marker: &str,
        marker_style: Style,
        style: Style,
        out: &mut String,
    ) {
        // A list may be deep, a line is not endless.
        let indent = " ".repeat(indent.min(usize::from(self.look.columns) / 2));
        let is_quote = marker.starts_with(['>', '│']);
        let further = if is_quote { marker.to_owned() } else { " ".repeat(marker.chars().count()) };
        let paint = |style: Style| if self.look.is_painted { style } else { Style::new() };
        let (marker_style, style) = (paint(marker_style), paint(style));
        self.wrap.begin_line(&format!("{indent}{marker}"), marker_style, format!("{indent}{further}"), out);
        self.block = LineBlock::Text(style);
    }

    /// Prints as much of a line as can be known, and returns how much that is.
    fn print_line_part(&mut self, line: &str, is_whole: bool, out: &mut String) -> usize {
        let style = match self.block {
            LineBlock::Skipped => return line.len(),
            LineBlock::Verbatim | LineBlock::Unknown => {
                self.wrap.push_verbatim(line, out);
                return line.len();
            }
            LineBlock::Text(style) => style,
        };
        if !self.look.is_painted {
            for word in line.split_inclusive(' ') {
                self.wrap.push_word(word.trim_end_matches(' '), style);
                if word.ends_with(' ') {
                    self.wrap.push_space(out);
                }
            }
            return line.len();
        }
        let mut at = 0;
        while let Some((token, length)) = next_token(&line[at..], self.before, is_whole) {
            self.print_token(token, style, out);
            at += length;
            self.before = line[..at].chars().next_back();
        }
        at
    }

    fn print_token(&mut self, token: InlineToken<'_>, style: Style, out: &mut String) {
        match token {
            InlineToken::Space => self.wrap.push_space(out),
            InlineToken::Word(word) => self.wrap.push_word(word, style),
            InlineToken::Code(code) => self.print_words(code, CODE, out),
            InlineToken::Bold(inner) => self.print_inner(inner, style.bold(), out),
            InlineToken::Italic(inner) => self.print_inner(inner, style.italic(), out),
            InlineToken::Link { text, target } => {
                self.print_inner(text, LINK, out);
                if text != target {
                    self.wrap.push_space(out);
                    self.wrap.push_word(&format!("({target})"), style);
                }
            }
        }
    }

    /// Prints what is inside a span, which may have spans of its own.
    fn print_inner(&mut self, inner: &str, style: Style, out: &mut String) {
        let (mut at, mut before) = (0, None);
        while let Some((token, length)) = next_token(&inner[at..], before, true) {
            self.print_token(token, style, out);
            at += length;
            before = inner[..at].chars().next_back();
        }
    }

    fn print_words(&mut self, text: &str, style: Style, out: &mut String) {
        for (index, word) in text.split(' ').enumerate() {
            if index > 0 {
                self.wrap.push_space(out);
            }
            self.wrap.push_word(word, style);
        }
    }
}

/// Whether a line that begins with this word, or goes on with it, may be more than text.
fn is_line_marker(prefix: &str) -> bool {
    let digits = prefix.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_number = digits.len() < prefix.len() && prefix.len() <= 4 && matches!(digits, "" | "." | ")");
    is_number
        || matches!(prefix, "-" | "*" | "+" | ">")
        || (prefix.len() <= 6 && prefix.chars().all(|c| c == '#'))
}

/// Joins the lines of each paragraph of a page that was written for lines of another width.
pub(super) fn join_paragraphs(page: &str) -> String {
    let (mut joined, mut is_code, mut is_open) = (String::with_capacity(page.len()), false, false);
    for line in page.lines() {
        let text = line.trim_start();
        let is_fence = text.starts_with("```");
        let begins_item = text.split_once(' ').is_some_and(|(mark, _)| {
            mark == "-" || mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok())
        });
        let is_block = text.is_empty() || text.starts_with(['#', '|', '>']) || is_fence || is_code;
        if !joined.is_empty() {
            joined.push(if is_open && !is_block && !begins_item { ' ' } else { '\n' });
        }
        let goes_on = joined.ends_with(' ');
        joined.push_str(if goes_on { text } else { line });
        is_open = !is_block;
        is_code ^= is_fence;
    }
    joined
}

#[cfg(test)]
mod tests;
