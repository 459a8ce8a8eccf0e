//! What is shown of a line that matches.

/// The most bytes of one line that are shown, and how many of them before the match.
const LINE_BYTES_MAX: usize = 240;
const BEFORE_MATCH: usize = 60;

/// Shows a line, of a long one the piece around the match.
pub(super) fn excerpt_around(line: &[u8], found: usize) -> String {
    if line.len() <= LINE_BYTES_MAX {
        return String::from_utf8_lossy(line).into_owned();
    }
    let from = found.saturating_sub(BEFORE_MATCH).min(line.len() - LINE_BYTES_MAX);
    let to = from + LINE_BYTES_MAX;
    let text = String::from_utf8_lossy(&line[from..to]);
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });
    format!("{before}{text}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_its_match() {
        let line = format!("{}needle{}", "a".repeat(1000), "b".repeat(1000));
        let text = excerpt_around(line.as_bytes(), 1000);
        assert!(text.contains("aneedleb") && text.starts_with("…a") && text.ends_with("b…"), "{text}");
        assert_eq!(text.chars().count(), LINE_BYTES_MAX + 2);
        let end = excerpt_around(line.as_bytes(), line.len() - 1);
        assert!(end.starts_with('…') && end.ends_with('b'), "{end}");
        assert_eq!(excerpt_around(b"short \xff", 0), "short \u{fffd}");
    }
}
