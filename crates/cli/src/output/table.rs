//! Tables and pairs of names and values, without borders.
//!
//! No id is cut or broken: it could not be copied. Cells lose what would drive a terminal; which of them are shown, the
//! commands say, and in which order they shrink on a narrow terminal (`narrow`). Where no terminal shows it, a table is
//! complete.

use anstyle::Style;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::CommandOutput;
use super::column_width::{ColumnShrink, TableCells};
use super::words::strip_control_characters;
use crate::context::CommandContext;
use crate::error::Outcome;
use crate::format::OutputFormat;

const HEAD: Style = Style::new().bold();

/// The blanks on both sides of a cell, which a bound counts, too.
const BLANKS: usize = 2;

/// The longest word that no width breaks, in characters: the id of a record of the audit has 39.
const WORD_MAX: usize = 48;

impl CommandOutput<'_> {
    /// Prints a table.
    pub fn print_table(&mut self, heads: &[&str], rows: Vec<Vec<String>>) -> Outcome {
        self.fitted_table(heads, &[], rows)
    }

    /// The same for a table that is narrowed where it is too wide for a terminal.
    pub(crate) fn fitted_table(
        &mut self,
        heads: &[&str],
        ways: &[ColumnShrink],
        rows: Vec<Vec<String>>,
    ) -> Outcome {
        let text = if self.format == OutputFormat::Wide {
            draw_table(None, heads, rows)
        } else {
            draw_fitted_table(self.context, heads, ways, rows)
        };
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let head = self.paint(HEAD, head);
        // The cells have lost their control characters already; the head's are ours.
        self.painted_lines(&if rest.is_empty() { head } else { format!("{head}\n{rest}") })
    }
}

/// Draws a table without borders. Cells beyond the width wrap between words: an id in pieces cannot be copied, so a table of
/// ids is rather wider than it should be.
pub fn draw_table(columns: Option<u16>, heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let cells = TableCells { heads: heads.to_vec(), rows };
    // Where it fits, nothing is to be arranged.
    let columns = columns.filter(|columns| cells.total_width() > usize::from(*columns));
    let TableCells { heads, rows } = cells;
    let mut widest: Vec<usize> = heads.iter().map(|head| longest_word(head)).collect();
    for row in &rows {
        for (widest, cell) in widest.iter_mut().zip(row) {
            *widest = longest_word(cell).max(*widest);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.iter().map(|head| head.to_uppercase()));
    if let Some(columns) = columns {
        // Narrower than its longest words it would be drawn with words in pieces.
        let least = widest.iter().map(|widest| widest + BLANKS).sum::<usize>();
        let least = u16::try_from(least).unwrap_or(u16::MAX);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns.max(least));
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| strip_control_characters(cell).replace(['\n', '\t'], " ")));
    }
    if columns.is_some() {
        let bounds = widest.iter().map(|widest| u16::try_from(widest + BLANKS).unwrap_or(u16::MAX));
        table.set_constraints(bounds.map(|bound| ColumnConstraint::LowerBoundary(Width::Fixed(bound))));
    }
    let text = table.to_string();
    text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The same for a table that is narrowed where it is too wide for a terminal. Anything else than a terminal gets all of
/// it.
pub(crate) fn draw_fitted_table(
    context: &CommandContext,
    heads: &[&str],
    ways: &[ColumnShrink],
    rows: Vec<Vec<String>>,
) -> String {
    let mut cells = TableCells { heads: heads.to_vec(), rows };
    if let Some(columns) = context.columns.filter(|_| context.out_is_terminal) {
        cells.give_way(columns.into(), ways);
    }
    draw_table(context.columns, &cells.heads, cells.rows)
}

/// How long the longest word is that is to stay whole.
fn longest_word(cell: &str) -> usize {
    let words = cell.split_whitespace().map(|word| word.chars().count());
    words.filter(|length| *length <= WORD_MAX).max().unwrap_or_default()
}

/// Draws names and values, one pair per line.
pub fn draw_pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = pairs.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_without_border_and_trailing_space() {
        let rows = vec![vec!["ops".into(), "running".into()], vec!["reviewer".into(), "paused".into()]];
        insta::assert_snapshot!(draw_table(None, &["handle", "state"], rows), @r"
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
            let text = draw_table(Some(columns), &["id", "at", "what"], rows.clone());
            assert_eq!(text.matches(id).count(), 2, "at {columns}:\n{text}");
            assert!(text.contains("2026-01-02") && text.contains("03:04:05Z"), "at {columns}:\n{text}");
        }
        let wide = draw_table(Some(300), &["id", "at", "what"], rows);
        assert_eq!(wide.lines().count(), 3, "{wide}");
    }
}
