//! Puts words in lines of a terminal as they come, and breaks none of them.
//!
//! A word that has no end yet is shown at once; if it grows out of its line it is taken back and begins the next one. That is
//! the only thing that is drawn again.

use std::fmt::Write as _;
use std::mem::take;

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

/// The line that is being written.
#[derive(Debug)]
pub(super) struct WordWrap {
    columns: usize,
    /// Whether a word may be shown before it has an end.
    shows_parts: bool,
    column: usize,
    /// What begins each further line of the paragraph.
    lead: String,
    has_space: bool,
    word: OpenWord,
}

/// A word that has no end yet.
#[derive(Debug, Default)]
struct OpenWord {
    /// The word with its styles.
    text: String,
    width: usize,
    /// What of it is on the screen.
    shown: usize,
    shown_width: usize,
}

impl WordWrap {
    pub(super) fn set_columns(&mut self, columns: usize) {
        self.columns = columns;
    }

    pub(super) fn new(columns: usize, shows_parts: bool) -> Self {
        let word = OpenWord::default();
        Self { columns, shows_parts, column: 0, lead: String::new(), has_space: false, word }
    }

    /// Whether nothing is in the line.
    pub(super) fn is_line_start(&self) -> bool {
        self.column == 0 && self.word.text.is_empty()
    }

    /// Begins a line with a prefix, and its further lines with a lead of the same width.
    pub(super) fn begin_line(&mut self, prefix: &str, style: Style, lead: String, out: &mut String) {
        out.push_str(&painted(prefix, style));
        self.column = prefix.width();
        self.lead = lead;
        self.has_space = false;
    }

    /// Adds to the word that is being written.
    pub(super) fn push_word(&mut self, text: &str, style: Style) {
        self.word.text.push_str(&painted(text, style));
        self.word.width += text.width();
    }

    /// Ends the word.
    pub(super) fn push_space(&mut self, out: &mut String) {
        self.end_word(out);
        self.has_space = true;
    }

    /// Writes what is never wrapped.
    pub(super) fn push_verbatim(&mut self, text: &str, out: &mut String) {
        self.end_word(out);
        out.push_str(text);
        self.column += text.width();
    }

    /// Shows the word as far as it came.
    pub(super) fn show_part(&mut self, out: &mut String) {
        if self.shows_parts && !self.word.text.is_empty() {
            self.place_word(out);
        }
    }

    /// Leaves the line for something else that is printed now, and goes on in the next one, with the open word whole.
    pub(super) fn leave_line(&mut self, out: &mut String) {
        out.push('\n');
        (self.column, self.has_space) = (0, false);
        (self.word.shown, self.word.shown_width) = (0, 0);
    }

    /// Ends the line.
    pub(super) fn end_line(&mut self, out: &mut String) {
        self.end_word(out);
        out.push('\n');
        (self.column, self.has_space) = (0, false);
        self.lead.clear();
    }

    pub(super) fn end_word(&mut self, out: &mut String) {
        if !self.word.text.is_empty() {
            self.place_word(out);
            self.column += self.word.width;
            self.word = OpenWord::default();
        }
    }

    fn place_word(&mut self, out: &mut String) {
        let gap = usize::from(self.has_space && self.column > self.lead.width());
        let overflows = self.column + gap + self.word.width > self.columns;
        if self.word.shown == 0 {
            if overflows && self.column > self.lead.width() {
                self.break_line(out);
            } else if gap > 0 {
                out.push(' ');
                self.column += 1;
            }
            self.has_space = false;
        } else if overflows && self.column > self.lead.width() {
            // It was the last of its line and has grown: it goes to the next one as a whole.
            let _infallible = write!(out, "\x1b[{}D\x1b[K", self.word.shown_width);
            self.break_line(out);
            self.word.shown = 0;
        }
        out.push_str(&self.word.text[self.word.shown..]);
        (self.word.shown, self.word.shown_width) = (self.word.text.len(), self.word.width);
    }

    fn break_line(&mut self, out: &mut String) {
        out.push('\n');
        let lead = take(&mut self.lead);
        out.push_str(&lead);
        self.column = lead.width();
        self.lead = lead;
    }
}

fn painted(text: &str, style: Style) -> String {
    if style.is_plain() { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_word_moves_whole_to_the_next_line() {
        let (mut wrap, mut out) = (WordWrap::new(10, true), String::new());
        for piece in ["abcdef", " ", "ghi", "jkl"] {
            if piece == " " {
                wrap.push_space(&mut out);
            } else {
                wrap.push_word(piece, Style::new());
                wrap.show_part(&mut out);
            }
        }
        wrap.end_line(&mut out);
        assert_eq!(out, "abcdef ghi\x1b[3D\x1b[K\nghijkl\n");
    }

    #[test]
    fn a_line_that_is_left_goes_on_with_the_whole_word() {
        let (mut wrap, mut out) = (WordWrap::new(20, true), String::new());
        wrap.push_word("abc", Style::new());
        wrap.push_space(&mut out);
        wrap.push_word("de", Style::new());
        wrap.show_part(&mut out);
        wrap.leave_line(&mut out);
        wrap.push_word("f", Style::new());
        wrap.end_line(&mut out);
        assert_eq!(out, "abc de\ndef\n");
    }

    #[test]
    fn a_word_longer_than_the_line_stays_whole() {
        let (mut wrap, mut out) = (WordWrap::new(8, false), String::new());
        for word in ["ab", "run_0123456789", "cd"] {
            wrap.push_word(word, Style::new());
            wrap.push_space(&mut out);
        }
        assert_eq!(out, "ab\nrun_0123456789\ncd");
    }
}
