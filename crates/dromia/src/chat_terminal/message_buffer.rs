//! The message that a person edits: its text, the cursor, and what was cut out of it.
//!
//! A long paste is one character here and a label on the screen, so that it neither fills the scrollback nor slows the
//! keys; [`MessageBuffer::take_message`] puts it back. Nothing is drawn here.

use std::mem::take;

/// A paste with more lines, or more bytes, is shown as a label.
const PASTE_LINES_SHOWN: usize = 8;
const PASTE_BYTES_SHOWN: usize = 800;

/// The first of the characters that stand for long pastes. They are private; one that is typed is replaced.
const FOLD_FIRST: u32 = 0xF_0000;
/// The most long pastes of one message; one more is inserted as it is.
const FOLDS_MAX: u32 = 1024;

/// A message and the cursor in it.
#[derive(Debug, Default)]
pub(super) struct MessageBuffer {
    text: String,
    /// The cursor's place, in bytes of the text.
    cursor: usize,
    folds: Vec<String>,
    killed: String,
}

impl MessageBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text before the cursor, long pastes as one character each.
    pub(super) fn text_before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// The text behind it.
    pub(super) fn text_after_cursor(&self) -> &str {
        &self.text[self.cursor..]
    }

    /// The message with its long pastes.
    pub(super) fn message(&self) -> String {
        self.unfolded_text(&self.text)
    }

    /// Empties the buffer and returns what was in it.
    pub(super) fn take_message(&mut self) -> String {
        let message = self.message();
        self.clear();
        message
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.folds.clear();
        self.cursor = 0;
    }

    /// Replaces the message; the cursor is at its end.
    pub(super) fn set_message(&mut self, message: &str) {
        self.clear();
        self.insert_text(message);
    }

    /// Writes a part of the buffer as the screen has it.
    pub(super) fn shown_text(&self, part: &str) -> String {
        let mut shown = String::with_capacity(part.len());
        for c in part.chars() {
            match self.fold_of(c) {
                Some(fold) => shown.push_str(&fold_label(fold)),
                None if c == '\t' => shown.push_str("    "),
                None => shown.push(c),
            }
        }
        shown
    }

    pub(super) fn insert_char(&mut self, c: char) {
        let c = if is_fold(c) { char::REPLACEMENT_CHARACTER } else { c };
        self.text.insert(self.cursor, c);
        self.cursor += c.len_utf8();
    }

    /// Inserts a text whole; a long one as a label.
    pub(super) fn insert_text(&mut self, text: &str) {
        let is_long = text.len() > PASTE_BYTES_SHOWN || text.split('\n').count() > PASTE_LINES_SHOWN;
        let next = u32::try_from(self.folds.len()).unwrap_or(FOLDS_MAX);
        if let Some(label) = char::from_u32(FOLD_FIRST + next).filter(|_| is_long && next < FOLDS_MAX) {
            self.folds.push(text.to_owned());
            self.text.insert(self.cursor, label);
            self.cursor += label.len_utf8();
        } else {
            let text = text.replace(is_fold, "\u{fffd}");
            self.text.insert_str(self.cursor, &text);
            self.cursor += text.len();
        }
    }

    /// Makes a line break of a backslash right before the cursor; `false` if there is none.
    pub(super) fn continue_line(&mut self) -> bool {
        let is_continued = self.text_before_cursor().ends_with('\\');
        if is_continued {
            self.remove_left();
            self.insert_char('\n');
        }
        is_continued
    }

    pub(super) fn remove_left(&mut self) {
        let from = self.cursor - self.text_before_cursor().chars().next_back().map_or(0, char::len_utf8);
        self.text.replace_range(from..self.cursor, "");
        self.cursor = from;
    }

    pub(super) fn remove_right(&mut self) {
        if let Some(c) = self.text_after_cursor().chars().next() {
            self.text.replace_range(self.cursor..self.cursor + c.len_utf8(), "");
        }
    }

    pub(super) fn move_left(&mut self) {
        self.cursor -= self.text_before_cursor().chars().next_back().map_or(0, char::len_utf8);
    }

    pub(super) fn move_right(&mut self) {
        self.cursor += self.text_after_cursor().chars().next().map_or(0, char::len_utf8);
    }

    pub(super) fn move_word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(super) fn move_word_right(&mut self) {
        self.cursor = self.word_end();
    }

    pub(super) fn move_line_start(&mut self) {
        self.cursor = self.line_start();
    }

    pub(super) fn move_line_end(&mut self) {
        self.cursor += self.text_after_cursor().find('\n').unwrap_or(self.text.len() - self.cursor);
    }

    /// Moves to the line above at the same column; `false` in the first line.
    pub(super) fn move_up(&mut self) -> bool {
        let start = self.line_start();
        let Some(end) = start.checked_sub(1) else { return false };
        let column = self.text[start..self.cursor].chars().count();
        let above = self.text[..end].rfind('\n').map_or(0, |at| at + 1);
        self.cursor = above + prefix_bytes(&self.text[above..end], column);
        true
    }

    /// Moves to the line below at the same column; `false` in the last line.
    pub(super) fn move_down(&mut self) -> bool {
        let column = self.text[self.line_start()..self.cursor].chars().count();
        let Some(at) = self.text_after_cursor().find('\n') else { return false };
        let below = self.cursor + at + 1;
        let line = self.text[below..].split('\n').next().unwrap_or_default();
        self.cursor = below + prefix_bytes(line, column);
        true
    }

    pub(super) fn kill_word_left(&mut self) {
        self.kill(self.word_start(), self.cursor);
    }

    pub(super) fn kill_word_right(&mut self) {
        self.kill(self.cursor, self.word_end());
    }

    pub(super) fn kill_left(&mut self) {
        self.kill(self.line_start(), self.cursor);
    }

    pub(super) fn kill_right(&mut self) {
        let length = self.text_after_cursor().find('\n').unwrap_or(self.text.len() - self.cursor);
        // At the end of a line it is the line break that goes.
        let length = if length == 0 { usize::from(self.cursor < self.text.len()) } else { length };
        self.kill(self.cursor, self.cursor + length);
    }

    pub(super) fn yank(&mut self) {
        let killed = take(&mut self.killed);
        self.insert_text(&killed);
        self.killed = killed;
    }

    /// Replaces the last bytes before the cursor.
    pub(super) fn replace_before_cursor(&mut self, bytes: usize, text: &str) {
        let from = self.cursor - bytes;
        self.text.replace_range(from..self.cursor, text);
        self.cursor = from + text.len();
    }

    fn kill(&mut self, from: usize, to: usize) {
        if from < to {
            self.killed = self.unfolded_text(&self.text[from..to]);
            self.text.replace_range(from..to, "");
            self.cursor = from;
        }
    }

    fn line_start(&self) -> usize {
        self.text_before_cursor().rfind('\n').map_or(0, |at| at + 1)
    }

    fn word_start(&self) -> usize {
        let words = self.text_before_cursor().trim_end_matches(|c: char| !is_in_word(c));
        words.trim_end_matches(is_in_word).len()
    }

    fn word_end(&self) -> usize {
        let behind = self.text_after_cursor();
        let word = behind.trim_start_matches(|c: char| !is_in_word(c));
        self.text.len() - word.trim_start_matches(is_in_word).len()
    }

    fn unfolded_text(&self, part: &str) -> String {
        let mut text = String::with_capacity(part.len());
        for c in part.chars() {
            match self.fold_of(c) {
                Some(fold) => text.push_str(fold),
                None => text.push(c),
            }
        }
        text
    }

    fn fold_of(&self, c: char) -> Option<&str> {
        let index = u32::from(c).checked_sub(FOLD_FIRST)?;
        self.folds.get(usize::try_from(index).ok()?).map(String::as_str)
    }
}

const fn is_fold(c: char) -> bool {
    c as u32 >= FOLD_FIRST && (c as u32) < FOLD_FIRST + FOLDS_MAX
}

/// Whether a character is part of a word; a long paste is one.
fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || is_fold(c)
}

/// The bytes of the first characters of a line.
fn prefix_bytes(line: &str, characters: usize) -> usize {
    line.chars().take(characters).map(char::len_utf8).sum()
}

fn fold_label(fold: &str) -> String {
    match fold.split('\n').count() {
        1 => format!("[pasted {} bytes]", fold.len()),
        lines => format!("[pasted {lines} lines]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_paste_is_a_label_and_whole_in_the_message() {
        let mut buffer = MessageBuffer::default();
        let code = "let x = 1;\n".repeat(40);
        buffer.insert_char('a');
        buffer.insert_text(&code);
        buffer.insert_char('b');
        let shown = buffer.shown_text(buffer.text_before_cursor());
        assert_eq!(shown, "a[pasted 41 lines]b");
        assert_eq!(buffer.message(), format!("a{code}b"));
        buffer.remove_left();
        buffer.remove_left();
        assert_eq!(buffer.take_message(), "a");
    }

    #[test]
    fn words_and_lines_are_cut_and_put_back() {
        let mut buffer = MessageBuffer::default();
        buffer.set_message("eins zwei\ndrei");
        assert!(buffer.move_up());
        assert_eq!(buffer.text_before_cursor(), "eins");
        buffer.kill_word_right();
        assert_eq!(buffer.message(), "eins\ndrei");
        buffer.yank();
        assert!(buffer.move_down());
        assert!(!buffer.move_down());
        buffer.kill_left();
        assert_eq!(buffer.message(), "eins zwei\n");
        buffer.kill_word_left();
        assert_eq!(buffer.message(), "eins ");
    }

    #[test]
    fn a_backslash_before_the_cursor_continues_the_line() {
        let mut buffer = MessageBuffer::default();
        buffer.set_message("a\\");
        assert!(buffer.continue_line());
        buffer.insert_char('b');
        assert!(!buffer.continue_line());
        assert_eq!(buffer.take_message(), "a\nb");
    }
}
