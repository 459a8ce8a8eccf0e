//! Lays a prompt and a message out in rows of a terminal, and says where the cursor is.
//!
//! Each row ends by itself one column before the terminal's, so nothing depends on how a terminal wraps. Of a message that is
//! higher than the screen the rows around the cursor are drawn, so that nothing scrolls away again and again.

use unicode_width::UnicodeWidthChar as _;

/// The narrowest terminal that is laid out for.
const COLUMNS_MIN: u16 = 8;

/// The beginning of each further line of a message.
const FURTHER: &str = "  ";

/// A message as it is drawn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MessageRows {
    pub(super) rows: Vec<String>,
    /// The row and column of the cursor.
    pub(super) cursor: (usize, usize),
}

impl MessageRows {
    /// Lays out a prompt and a message whose cursor is between its two parts. A prompt that takes more than half of a row
    /// is cut to its last two characters.
    pub(super) fn lay_out(prompt: &str, message: (&str, &str), columns: u16, rows_max: usize) -> Self {
        let width = usize::from(columns.max(COLUMNS_MIN)) - 1;
        let prompt = if text_width(prompt) * 2 > width { "> " } else { prompt };
        let mut laid = Self { rows: vec![prompt.to_owned()], cursor: (0, 0) };
        let mut column = text_width(prompt);
        for (part, is_before) in [(message.0, true), (message.1, false)] {
            for c in part.chars() {
                let character = c.width().unwrap_or(0);
                if c == '\n' || column + character > width {
                    let lead = if c == '\n' { FURTHER } else { "" };
                    laid.rows.push(lead.to_owned());
                    column = lead.len();
                }
                if let Some(row) = laid.rows.last_mut().filter(|_| c != '\n') {
                    row.push(c);
                    column += character;
                }
            }
            if is_before {
                laid.cursor = (laid.rows.len() - 1, column);
            }
        }
        laid.keep_around_cursor(rows_max.max(1));
        laid
    }

    /// What draws the rows, from the first on to the cursor's place.
    pub(super) fn drawing(&self) -> String {
        let up = self.rows.len().saturating_sub(self.cursor.0 + 1);
        let right = if self.cursor.1 == 0 { String::new() } else { format!("\x1b[{}C", self.cursor.1) };
        format!("{}{}\r{right}", self.rows.join("\r\n"), "\x1b[A".repeat(up))
    }

    /// What is new where the cursor is at the end, and all that was drawn before is still there before it.
    pub(super) fn text_after<'rows>(&'rows self, drawn: &Self) -> Option<&'rows str> {
        let (last, above) = self.rows.split_last()?;
        let (drawn_last, drawn_above) = drawn.rows.split_last()?;
        let is_at_end = |rows: &Self, last: &str| rows.cursor == (rows.rows.len() - 1, text_width(last));
        let grew = above == drawn_above && is_at_end(self, last) && is_at_end(drawn, drawn_last);
        last.strip_prefix(drawn_last.as_str()).filter(|_| grew)
    }

    fn keep_around_cursor(&mut self, rows_max: usize) {
        if self.rows.len() > rows_max {
            let first = self.cursor.0.saturating_sub(rows_max / 2).min(self.rows.len() - rows_max);
            self.rows.drain(..first);
            self.rows.truncate(rows_max);
            self.cursor.0 -= first;
        }
    }

    /// How many rows the cursor is below the first one, on a terminal that has become so wide and has wrapped what was there.
    pub(super) fn rows_above_cursor(&self, columns: u16) -> usize {
        let columns = usize::from(columns.max(1));
        let above = self.rows.iter().take(self.cursor.0);
        let wrapped: usize = above.map(|row| text_width(row).div_ceil(columns).max(1)).sum();
        wrapped + self.cursor.1 / columns
    }
}

fn text_width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(
        prompt: &str,
        message: (&str, &str),
        columns: u16,
        rows_max: usize,
    ) -> (Vec<String>, (usize, usize)) {
        let laid = MessageRows::lay_out(prompt, message, columns, rows_max);
        (laid.rows, laid.cursor)
    }

    #[test]
    fn a_message_is_laid_out_to_the_width() {
        assert_eq!(rows("> ", ("ab", "c\nd"), 20, 9), (vec!["> abc".into(), "  d".into()], (0, 4)));
        assert_eq!(rows("> ", ("abcdefgh", ""), 8, 9), (vec!["> abcde".into(), "fgh".into()], (1, 3)));
        assert_eq!(rows("> ", ("日本語", ""), 8, 9), (vec!["> 日本".into(), "語".into()], (1, 2)));
        let long = "ops · $0.0123 · 12k ctx > ";
        assert_eq!(rows(long, ("a", ""), 20, 9), (vec!["> a".into()], (0, 3)));
    }

    #[test]
    fn of_a_high_message_the_rows_around_the_cursor_are_drawn() {
        let (drawn, cursor) = rows("> ", ("1\n2\n3\n4\n5", "\n6\n7"), 20, 3);
        assert_eq!((drawn.join("|"), cursor), ("  4|  5|  6".to_owned(), (1, 3)));
    }

    #[test]
    fn rows_of_a_narrowed_terminal_are_counted_as_wrapped() {
        let laid = MessageRows::lay_out("> ", ("abcdefghijklmnop\nxy", ""), 20, 9);
        assert_eq!((laid.rows_above_cursor(20), laid.rows_above_cursor(10)), (1, 2));
    }
}
