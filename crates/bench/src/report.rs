//! Figures beside their goals: a table for people, a file for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

/// One figure and its goal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BenchGoal {
    /// The goal's id, with the part of it where it has several: `P4.cold_start`.
    pub(crate) id: &'static str,
    /// What was measured.
    pub(crate) figure: f64,
    /// In which unit.
    pub(crate) unit: &'static str,
    /// The figure over the probe's, or over what the goal compares it with.
    pub(crate) ratio: Option<f64>,
    /// The goal, in words; what is measured differently from what it says is said here too.
    pub(crate) goal: String,
    /// Whether it is met; `None` for a figure without a bar.
    pub(crate) met: Option<bool>,
}

impl BenchGoal {
    /// A figure that is only printed.
    pub(crate) fn without_target(
        id: &'static str,
        figure: f64,
        unit: &'static str,
        what: impl Into<String>,
    ) -> Self {
        Self { id, figure, unit, ratio: None, goal: what.into(), met: None }
    }

    /// A figure that meets its goal or does not.
    pub(crate) fn with_target(
        id: &'static str,
        figure: f64,
        unit: &'static str,
        goal: impl Into<String>,
        met: bool,
    ) -> Self {
        Self { id, figure, unit, ratio: None, goal: goal.into(), met: Some(met) }
    }

    /// Adds the ratio.
    pub(crate) fn with_ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BenchReport {
    version: u32,
    goals: Vec<BenchGoal>,
}

impl BenchReport {
    /// Makes a report.
    pub(crate) fn new(goals: Vec<BenchGoal>) -> Self {
        Self { version: 1, goals }
    }

    /// Writes it as JSON, making the directory.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    /// Draws it as a table.
    pub(crate) fn render_table(&self) -> String {
        let rows: Vec<[String; 5]> = self
            .goals
            .iter()
            .map(|goal| {
                let met = match goal.met {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "-",
                };
                [
                    goal.id.to_owned(),
                    format!("{} {}", format_figure(goal.figure), goal.unit),
                    goal.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                    met.to_owned(),
                    goal.goal.clone(),
                ]
            })
            .collect();
        let head = ["id", "figure", "ratio", "met", "goal"].map(str::to_owned);
        let width = |column: usize| {
            let cells = rows.iter().chain([&head]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        let mut table = String::new();
        for row in [&head].into_iter().chain(&rows) {
            for (cell, width) in row.iter().zip(widths) {
                let written = write!(table, "{cell:<width$}  ");
                debug_assert!(written.is_ok(), "writing to a string does not fail");
            }
            table.push_str(&row[4]);
            table.push('\n');
        }
        table
    }
}

/// Three significant digits or so, whatever the size.
fn format_figure(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_fields_that_programs_read() {
        let goals = vec![
            BenchGoal::with_target("P1", 4500.0, "turns/s", ">= 60 % of the probe", true).with_ratio(0.62),
            BenchGoal::without_target("B1.rows", 9.5, "rows", "row writes of a plain turn"),
        ];
        let report = BenchReport::new(goals);
        assert_eq!(
            serde_json::to_value(&report).expect("serializes"),
            serde_json::json!({"version": 1, "goals": [
                {"id": "P1", "figure": 4500.0, "unit": "turns/s", "ratio": 0.62, "goal": ">= 60 % of the probe", "met": true},
                {"id": "B1.rows", "figure": 9.5, "unit": "rows", "ratio": null, "goal": "row writes of a plain turn", "met": null},
            ]})
        );
        let lines = [
            "id       figure        ratio  met  goal",
            "P1       4500 turns/s  0.62   yes  >= 60 % of the probe",
            "B1.rows  9.50 rows     -      -    row writes of a plain turn",
        ];
        assert_eq!(report.render_table().lines().collect::<Vec<_>>(), lines);
    }
}
