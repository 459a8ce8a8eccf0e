//! Words and numbers as people read them, and texts of others without what would drive a terminal.
//!
//! Nothing is written here, and nothing is known of formats or colour.

use std::borrow::Cow;

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr as _;

/// Takes the control characters out of a text, line breaks and tabs apart.
pub(crate) fn strip_control_characters(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(bad) { Cow::Owned(text.replace(bad, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Writes a time as people read it: UTC, to the second.
pub fn format_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Breaks the lines of a text between words; what is broken goes on behind `further`. What a person copies stays whole, whatever
/// the width: text in backticks, a command behind a colon, and a word, such as a path or an address.
pub fn wrap_text(text: &str, columns: usize, further: &str) -> String {
    let (mut told, mut column) = (String::with_capacity(text.len()), 0);
    for (number, line) in text.split('\n').enumerate() {
        let command = line.find(": dromia ").map(|at| at + 2);
        let (prose, command) = command.map_or((line, None), |at| (&line[..at - 1], Some(&line[at..])));
        let mut is_command = false;
        let words = prose.split(|c: char| {
            is_command ^= c == '`';
            c == ' ' && !is_command
        });
        if number > 0 {
            told.push('\n');
        }
        for (index, word) in words.chain(command).enumerate() {
            let width = word.width();
            if index == 0 {
                column = 0;
            } else if column > further.width() && column + 1 + width > columns {
                told.extend(["\n", further]);
                column = further.width();
            } else {
                told.push(' ');
                column += 1;
            }
            told.push_str(word);
            column += width;
        }
    }
    told
}

/// Writes a word of a command so that a shell reads it as it is.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
}

/// Writes how many there are of something, which has a plural with `s`.
pub fn count_noun(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Writes how long a time is after another in its largest unit, such as `3m`; nothing is younger than 0 seconds.
pub(crate) fn format_age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What takes the place of an amount where no price is known.
const UNPRICED: &str = "unpriced";

/// Writes an amount of money, in units of the price table's currency.
pub(crate) fn format_money(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Writes an amount for a column, or that no price is known of what it would be.
pub(crate) fn format_known_cost(micros: u64, unpriced_calls: u64) -> String {
    if micros == 0 && unpriced_calls > 0 { UNPRICED.to_owned() } else { format_money(micros) }
}

/// Writes an amount in short, such as `$0.0021`, with as many digits as keep a small one from being zero.
pub(crate) fn format_short_cost(micros: u64, unpriced_calls: u64) -> String {
    let paid = match micros {
        0 => "$0".to_owned(),
        1..10_000 if !micros.is_multiple_of(100) => format!("$0.{micros:06}"),
        _ => {
            let rounded = (micros + 50) / 100;
            format!("${}.{:04}", rounded / 10_000, rounded % 10_000)
        }
    };
    match (micros, unpriced_calls) {
        (_, 0) => paid,
        (0, _) => UNPRICED.to_owned(),
        (_, _) => format!("{paid} and unpriced calls"),
    }
}

/// Writes how long something took.
pub(crate) fn format_duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis / 1_000 % 60),
        _ => format!("{} h {} min", millis / 3_600_000, millis / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::draw_table;

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        assert_eq!(
            strip_control_characters("a\u{1b}[2Jb\r\n\tc\u{9b}d"),
            "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}d"
        );
        let rows = vec![vec!["two\nlines\u{7}".into()]];
        assert_eq!(draw_table(None, &["x"], rows).lines().count(), 2);
    }

    #[test]
    fn a_word_with_special_characters_is_quoted_for_the_shell() {
        let told = ["/tmp/h-1", "my home", "it's", ""].map(shell_word);
        assert_eq!(told, ["/tmp/h-1", "'my home'", "'it'\\''s'", "''"]);
    }

    #[test]
    fn a_count_of_one_uses_the_singular() {
        let told = [0, 1, 2].map(|count| count_noun(count, "check"));
        assert_eq!(told, ["0 checks", "1 check", "2 checks"]);
    }

    #[test]
    fn a_duration_is_written_in_its_greatest_units() {
        let told = [0, 999, 1_250, 61_000, 3_725_000].map(format_duration);
        assert_eq!(told, ["0 ms", "999 ms", "1.2 s", "1 min 1 s", "1 h 2 min"]);
    }

    #[test]
    fn an_unknown_cost_is_never_zero_and_a_known_one_is() {
        for (micros, unpriced_calls, text) in [
            (0, 0, "$0"),
            (0, 2, "unpriced"),
            (2_100, 0, "$0.0021"),
            (2_100, 2, "$0.0021 and unpriced calls"),
            (42, 0, "$0.000042"),
            (1_234_567, 0, "$1.2346"),
            (1_999_999, 0, "$2.0000"),
        ] {
            assert_eq!(format_short_cost(micros, unpriced_calls), text);
        }
        assert_eq!([format_known_cost(0, 0), format_known_cost(0, 1)], ["0.000000", "unpriced"]);
        assert_eq!(format_known_cost(7, 1), "0.000007");
    }

    #[test]
    fn money_keeps_its_millionths() {
        assert_eq!(format_money(1_000_042), "1.000042");
    }
}
