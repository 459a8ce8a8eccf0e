//! What the files of a home say: how many rules each has, and which of them say nothing to anybody.
//!
//! A rule with a misspelt name and a file in a folder that nobody reads look like policies and forbid nothing. Neither is an
//! error: helpers stand in files of their own, and a folder may hold anything. So they are named.

use dromia_guard::policy::{FileRules, PolicyProblem, PolicyText, file_rules};
use schemars::JsonSchema;
use serde::Serialize;

use super::folder::{TEST, Texts, strays};
use crate::home::Home;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct FileRow {
    /// The file, from the home.
    pub(crate) file: String,
    /// How many rules it has, tests aside.
    rules: usize,
    /// How many of them say verdicts: `verdicts contains {…} if {…}`.
    verdicts: usize,
    /// How many tests it has.
    tests: usize,
    /// Why it may not do what it is there for, if it may not.
    pub(crate) warning: Option<String>,
}

impl FileRow {
    /// The row of a table.
    pub(crate) fn cells(&self) -> Vec<String> {
        let Self { file, rules, verdicts, tests, warning } = self;
        let counts = [rules, verdicts, tests].map(ToString::to_string);
        let warning = warning.clone().unwrap_or_default();
        [file.clone()].into_iter().chain(counts).chain([warning]).collect()
    }

    /// The warning as a line that names the file.
    pub(crate) fn told(&self) -> Option<String> {
        self.warning.as_ref().map(|warning| format!("{}: {warning}", self.file))
    }
}

/// The columns of [`FileRow::cells`].
pub(crate) const HEADS: [&str; 5] = ["file", "rules", "verdicts", "tests", "warning"];

/// Lists the files of a home, those that nobody reads at the end.
pub(crate) fn files(home: &Home, texts: &Texts) -> Result<Vec<FileRow>, PolicyProblem> {
    let mut rows = Vec::new();
    let mut add = |layer: &str, files: &[PolicyText]| -> Result<(), PolicyProblem> {
        rows.extend(file_rules(layer, files)?.into_iter().map(row));
        Ok(())
    };
    add("policies", &texts.instance)?;
    for (tenant, files) in &texts.tenants {
        add(&format!("policies/tenants/{tenant}"), files)?;
    }
    rows.extend(strays(home).into_iter().map(|file| {
        let warning =
            "nobody reads it: a policy stands in policies/ or in policies/tenants/TENANT_ID/ itself";
        FileRow { file, rules: 0, verdicts: 0, tests: 0, warning: Some(warning.to_owned()) }
    }));
    Ok(rows)
}

fn row(found: FileRules) -> FileRow {
    let FileRules { name: file, rules, verdicts, tests } = found;
    let warning = match (file.ends_with(TEST), verdicts, tests) {
        (true, _, 0) => Some("it has no test: a rule whose name begins with test_"),
        (false, 0, _) => Some("it has no rule `verdicts contains {…} if {…}`, so by itself it says nothing"),
        _ => None,
    };
    FileRow { file, rules, verdicts, tests, warning: warning.map(str::to_owned) }
}
