//! What local commands print: aligned columns, names with values, one JSON document with `--json`.
//!
//! No escape sequence is written, and what a file or a server said loses its control characters.

use dromia_cli::Global;
use serde::Serialize;

/// Prints a document with `--json`, and otherwise the text.
pub(crate) fn show(global: &Global, document: &impl Serialize, text: &str) -> anyhow::Result<()> {
    if global.json.is_some() {
        anstream::println!("{}", serde_json::to_string_pretty(document)?);
    } else {
        anstream::println!("{}", text.trim_end());
    }
    Ok(())
}

/// Tells something beside the result.
pub(crate) fn notice(text: &str) {
    anstream::eprintln!("{}", printable(text));
}

/// Aligns rows under their heads.
pub(crate) fn columns(heads: &[&str], rows: &[Vec<String>]) -> String {
    let head = heads.iter().map(|head| head.to_uppercase()).collect::<Vec<_>>();
    let all: Vec<Vec<String>> = std::iter::once(&head)
        .chain(rows)
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Aligns names with their values, one pair per line; an empty value leaves its line out.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let said = pairs.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| format!("{name:<width$}  {}", printable(value))).collect::<Vec<_>>().join("\n")
}

fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cannot_drive_the_terminal() {
        let rows = [vec!["a".to_owned(), "\u{1b}[2J".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(columns(&["name", "what"], &rows), "NAME    WHAT\na       \u{fffd}[2J\nlonger");
    }
}
