//! How a table that is too wide for a terminal is narrowed: in the order that its command declares, until a row is a
//! line.
//!
//! No id is touched here. `show` of the row has what goes, and so has any form that is no terminal's.

use std::borrow::Cow;

/// How many columns are between two columns of the table.
const GAP: usize = 2;

/// How a time begins that [`format_time`](super::format_time) wrote, and how long it is.
const YEAR: usize = "2026-".len();
const DATE: usize = "2026-01-02 ".len();
const MINUTES: usize = "2026-01-02 03:04".len();
const TIME: usize = "2026-01-02 03:04:05Z".len();

/// One step that narrows a table; each names its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnShrink {
    /// The column goes.
    Without(&'static str),
    /// It goes if every cell is empty or 0.
    WithoutNought(&'static str),
    /// Its times lose the year and the seconds.
    Short(&'static str),
    /// Its times lose the date.
    Clock(&'static str),
    /// Its cells are cut, to so many characters at least.
    Cut(&'static str, usize),
}

impl ColumnShrink {
    fn column_name(self) -> &'static str {
        match self {
            Self::Without(name)
            | Self::WithoutNought(name)
            | Self::Short(name)
            | Self::Clock(name)
            | Self::Cut(name, _) => name,
        }
    }
}

/// A table that is drawn later.
#[derive(Debug)]
pub(super) struct TableCells<'head> {
    pub(super) heads: Vec<&'head str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl TableCells<'_> {
    /// How wide it is with one line per row.
    pub(super) fn total_width(&self) -> usize {
        let columns = self.heads.len();
        (0..columns).map(|at| self.column_width(at)).sum::<usize>() + GAP * columns.saturating_sub(1)
    }

    /// Takes the ways in their order until it fits; one whose column is not there is no way.
    pub(super) fn give_way(&mut self, columns: usize, ways: &[ColumnShrink]) {
        for way in ways {
            let over = self.total_width().saturating_sub(columns);
            if over == 0 {
                return;
            }
            if let Some(at) = self.heads.iter().position(|head| *head == way.column_name()) {
                self.apply_shrink(*way, at, over);
            }
        }
    }

    fn apply_shrink(&mut self, way: ColumnShrink, at: usize, over: usize) {
        match way {
            ColumnShrink::WithoutNought(_) if !self.rows.iter().all(|row| is_nought(&row[at])) => {}
            ColumnShrink::Without(_) | ColumnShrink::WithoutNought(_) => {
                self.heads.remove(at);
                for row in &mut self.rows {
                    row.remove(at);
                }
            }
            ColumnShrink::Short(_) => self.change_column(at, |cell| {
                if is_time(cell) {
                    Cow::Owned(format!("{}Z", &cell[YEAR..MINUTES]))
                } else {
                    Cow::Borrowed(cell)
                }
            }),
            ColumnShrink::Clock(_) => {
                self.change_column(at, |cell| {
                    Cow::Borrowed(if is_time(cell) { &cell[DATE..] } else { cell })
                });
            }
            ColumnShrink::Cut(_, least) => {
                let kept = self.column_width(at).saturating_sub(over).max(least);
                self.change_column(at, |cell| truncate_cell(cell, kept));
            }
        }
    }

    fn change_column(&mut self, at: usize, how: impl Fn(&str) -> Cow<'_, str>) {
        for row in &mut self.rows {
            row[at] = how(&row[at]).into_owned();
        }
    }

    fn column_width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.max().unwrap_or_default().max(self.heads[at].chars().count())
    }
}

fn is_nought(cell: &str) -> bool {
    cell.chars().all(|c| c == '0' || c == '.')
}

/// Tells whether a cell is a time as [`format_time`](super::format_time) writes it.
fn is_time(cell: &str) -> bool {
    let shape = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b' ',
        13 | 16 => byte == b':',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    cell.len() == TIME && cell.bytes().enumerate().all(shape)
}

/// Cuts a cell to so many characters, of which the last says so.
fn truncate_cell(cell: &str, kept: usize) -> Cow<'_, str> {
    if cell.chars().count() <= kept {
        return Cow::Borrowed(cell);
    }
    let head: String = cell.chars().take(kept.saturating_sub(1)).collect();
    Cow::Owned(format!("{}…", head.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> TableCells<'static> {
        let row = |name: &str, cost: &str| {
            ["run_1", name, "2026-01-02 03:04:05Z", cost].map(str::to_owned).to_vec()
        };
        let rows = vec![row("ops", "0.000000"), row("a-long-handle", "0.000000")];
        TableCells { heads: vec!["id", "agent", "started", "cost"], rows }
    }

    const WAYS: [ColumnShrink; 5] = [
        ColumnShrink::Short("started"),
        ColumnShrink::WithoutNought("cost"),
        ColumnShrink::Cut("agent", 6),
        ColumnShrink::Clock("nothing"),
        ColumnShrink::Without("started"),
    ];

    #[test]
    fn a_column_shrinks_only_when_earlier_ways_do_not_suffice() {
        let wide = cells().total_width();
        assert_eq!(wide, 5 + 13 + 20 + 8 + 3 * GAP);
        for (columns, heads, row) in [
            (wide, 4, "run_1 a-long-handle 2026-01-02 03:04:05Z 0.000000"),
            (wide - 1, 4, "run_1 a-long-handle 01-02 03:04Z 0.000000"),
            (40, 3, "run_1 a-long-handle 01-02 03:04Z"),
            (33, 3, "run_1 a-long-hand… 01-02 03:04Z"),
            (20, 2, "run_1 a-lon…"),
            (1, 2, "run_1 a-lon…"),
        ] {
            let mut given = cells();
            given.give_way(columns, &WAYS);
            assert_eq!((given.heads.len(), given.rows[1].join(" ").as_str()), (heads, row), "at {columns}");
        }
    }

    #[test]
    fn cells_that_are_neither_zero_nor_time_stay() {
        let mut given = cells();
        given.rows[0][2] = "begins in 5m 0s".to_owned();
        given.rows[0][3] = "0.000003".to_owned();
        given.give_way(1, &[ColumnShrink::WithoutNought("cost"), ColumnShrink::Clock("started")]);
        assert_eq!(given.heads, ["id", "agent", "started", "cost"]);
        assert_eq!(given.rows[0][2], "begins in 5m 0s");
        assert_eq!(given.rows[1][2], "03:04:05Z");
        for no_time in ["2026-01-02 03:04:05", "2026-01-02T03:04:05Z", "äöüäöüäöüä", ""] {
            assert!(!is_time(no_time), "{no_time}");
        }
    }
}
