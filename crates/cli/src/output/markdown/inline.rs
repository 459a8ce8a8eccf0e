//! Reads what is inside a line of Markdown: code, bold, italic and links.
//!
//! A marker is one only once its end was read in the same line; until then the text from it on waits, and without an end it is
//! text like any other. Nothing is written here.

/// What a line begins with, and how many bytes of it are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InlineToken<'text> {
    Space,
    /// Text up to the next space or marker.
    Word(&'text str),
    Code(&'text str),
    Bold(&'text str),
    Italic(&'text str),
    Link {
        text: &'text str,
        target: &'text str,
    },
}

/// The longest text that waits for the end of its marker.
const SPAN_BYTES_MAX: usize = 1024;

/// Reads the first token of a line that is `before` the text; `None` while it cannot be known what it is.
pub(super) fn next_token(
    text: &str,
    before: Option<char>,
    is_whole: bool,
) -> Option<(InlineToken<'_>, usize)> {
    let first = text.chars().next()?;
    if first == ' ' || first == '\t' {
        return Some((InlineToken::Space, 1));
    }
    let span = match first {
        '`' => code_span(text),
        '*' | '_' => emphasis_span(text, first, before),
        '[' => link_span(text),
        '\\' => escaped_char(text),
        _ => SpanMatch::Not,
    };
    match span {
        SpanMatch::Found(token, length) => Some((token, length)),
        SpanMatch::Open if !is_whole && text.len() < SPAN_BYTES_MAX => None,
        SpanMatch::Open | SpanMatch::Not => {
            // The marker itself is text.
            let marker = text.chars().take_while(|c| *c == first && is_marker(*c)).count().max(1);
            let skipped: usize = text.chars().take(marker).map(char::len_utf8).sum();
            let rest = &text[skipped..];
            let length =
                skipped + rest.find(|c: char| is_marker(c) || c == ' ' || c == '\t').unwrap_or(rest.len());
            Some((InlineToken::Word(&text[..length]), length))
        }
    }
}

const fn is_marker(c: char) -> bool {
    matches!(c, '`' | '*' | '_' | '[' | '\\')
}

/// Whether a text begins with a span.
enum SpanMatch<'text> {
    Found(InlineToken<'text>, usize),
    /// It may, once its end was read.
    Open,
    Not,
}

fn code_span(text: &str) -> SpanMatch<'_> {
    let ticks = text.len() - text.trim_start_matches('`').len();
    let (fence, rest) = text.split_at(ticks);
    let mut from = 0;
    while let Some(at) = rest[from..].find(fence).map(|at| from + at) {
        let run = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        if run == ticks {
            return SpanMatch::Found(InlineToken::Code(&rest[..at]), ticks + at + ticks);
        }
        from = at + run;
    }
    SpanMatch::Open
}

fn emphasis_span(text: &str, marker: char, before: Option<char>) -> SpanMatch<'_> {
    let run = text.chars().take_while(|c| *c == marker).count();
    let width = run.min(2);
    let Some(next) = text[run..].chars().next() else { return SpanMatch::Open };
    if run > 2 || next.is_whitespace() || before.is_some_and(char::is_alphanumeric) {
        return SpanMatch::Not;
    }
    let end = &text[..width];
    let mut from = width;
    while let Some(at) = text[from..].find(end).map(|at| from + at) {
        let after = text[at + width..].chars().next();
        let is_end = at > width && !text[..at].ends_with([' ', marker]) && after != Some(marker);
        match after {
            // A closing underscore in the middle of a word is part of it.
            Some(c) if is_end && !(marker == '_' && c.is_alphanumeric()) => {}
            None if is_end => {}
            _ => {
                from = at + text[at..].chars().take_while(|c| *c == marker).count();
                continue;
            }
        }
        let inner = &text[width..at];
        let token = if width == 2 { InlineToken::Bold(inner) } else { InlineToken::Italic(inner) };
        return SpanMatch::Found(token, at + width);
    }
    SpanMatch::Open
}

fn link_span(text: &str) -> SpanMatch<'_> {
    let Some(middle) = text.find(']') else { return SpanMatch::Open };
    match text[middle + 1..].chars().next() {
        None => SpanMatch::Open,
        Some('(') => match text[middle..].find(')') {
            Some(end) => {
                let link =
                    InlineToken::Link { text: &text[1..middle], target: &text[middle + 2..middle + end] };
                SpanMatch::Found(link, middle + end + 1)
            }
            None => SpanMatch::Open,
        },
        Some(_) => SpanMatch::Not,
    }
}

fn escaped_char(text: &str) -> SpanMatch<'_> {
    match text[1..].chars().next() {
        None => SpanMatch::Open,
        Some(c) if c.is_ascii_punctuation() => SpanMatch::Found(InlineToken::Word(&text[1..2]), 2),
        Some(_) => SpanMatch::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<InlineToken<'_>> {
        let (mut at, mut found) = (0, Vec::new());
        while let Some((token, length)) = next_token(&text[at..], text[..at].chars().next_back(), true) {
            if token != InlineToken::Space {
                found.push(token);
            }
            at += length;
        }
        found
    }

    #[test]
    fn markers_with_an_end_are_spans() {
        use InlineToken::{Bold, Code, Italic, Link, Word};
        assert_eq!(tokens("a **b c** `d e`"), [Word("a"), Bold("b c"), Code("d e")]);
        assert_eq!(tokens("*x*, _y_"), [Italic("x"), Word(","), Italic("y")]);
        assert_eq!(tokens("``a`b``"), [Code("a`b")]);
        assert_eq!(tokens("[t](u)."), [Link { text: "t", target: "u" }, Word(".")]);
        assert_eq!(tokens(r"\*a"), [Word("*"), Word("a")]);
    }

    #[test]
    fn markers_without_an_end_are_text() {
        for text in ["2 * 3 * 4", "snake_case_name", "**kwargs", "a ` b", "x[1] [y]", "f(*args)", "__init"] {
            let words: String = tokens(text)
                .into_iter()
                .map(|token| match token {
                    InlineToken::Word(word) => word,
                    other => panic!("{text}: {other:?}"),
                })
                .collect();
            assert_eq!(words, text.replace(' ', ""));
        }
    }

    #[test]
    fn a_marker_waits_for_its_end() {
        assert_eq!(next_token("**bo", None, false), None);
        assert_eq!(next_token("`", None, false), None);
        assert!(next_token(&format!("`{}", "x".repeat(SPAN_BYTES_MAX)), None, false).is_some());
    }
}
