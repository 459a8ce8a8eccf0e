//! What the files of a home say: how many rules each has, and which of them have no effect.
//!
//! A rule with a misspelt name and a file in a folder that is not read look like policies and forbid nothing. Neither
//! is an error: helpers are in files of their own, and a folder may hold anything. So they are named.

use std::path::PathBuf;

use dromia_guard::policy::{FileRules, PolicyProblem, PolicyText, file_rules};
use schemars::JsonSchema;
use serde::Serialize;

use super::directory::list_or_empty;
use super::folder::{PolicyTexts, TEST, tenant_folder};
use crate::home::Home;

/// The most files that are named though they are not read.
const STRAYS_MAX: usize = 16;

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
    pub(crate) fn table_cells(&self) -> Vec<String> {
        let Self { file, rules, verdicts, tests, warning } = self;
        let counts = [rules, verdicts, tests].map(ToString::to_string);
        let warning = warning.clone().unwrap_or_default();
        [file.clone()].into_iter().chain(counts).chain([warning]).collect()
    }

    /// The warning as a line that names the file.
    pub(crate) fn warning_line(&self) -> Option<String> {
        self.warning.as_ref().map(|warning| format!("{}: {warning}", self.file))
    }
}

/// The columns of [`FileRow::table_cells`].
pub(crate) const HEADS: [&str; 5] = ["file", "rules", "verdicts", "tests", "warning"];

/// Lists the files of a home, those that are not read at the end.
pub(crate) fn file_rows(home: &Home, texts: &PolicyTexts) -> Result<Vec<FileRow>, PolicyProblem> {
    let mut rows = Vec::new();
    let mut add = |layer: &str, files: &[PolicyText]| -> Result<(), PolicyProblem> {
        rows.extend(file_rules(layer, files)?.into_iter().map(file_row));
        Ok(())
    };
    add("policies", &texts.instance)?;
    for (tenant, files) in &texts.tenants {
        add(&tenant_folder(*tenant), files)?;
    }
    rows.extend(stray_policies(home).into_iter().map(|file| {
        let warning =
            "the server does not read it: put policies directly in policies/ or in policies/tenants/TENANT_ID/";
        FileRow { file, rules: 0, verdicts: 0, tests: 0, warning: Some(warning.to_owned()) }
    }));
    Ok(rows)
}

fn file_row(found: FileRules) -> FileRow {
    let FileRules { name: file, rules, verdicts, tests } = found;
    let warning = match (file.ends_with(TEST), verdicts, tests) {
        (true, _, 0) => Some("it has no test: a rule whose name begins with test_"),
        (false, 0, _) => Some("it has no rule `verdicts contains {…} if {…}`, so it has no effect by itself"),
        _ => None,
    };
    FileRow { file, rules, verdicts, tests, warning: warning.map(str::to_owned) }
}

/// Names the policies in folders that are not read: one folder deeper than those that are.
fn stray_policies(home: &Home) -> Vec<String> {
    let root = home.root_dir().join("policies");
    let mut read = vec![(root.clone(), "policies".to_owned())];
    for (name, path) in list_or_empty(&root.join("tenants"), "policies/tenants").unwrap_or_default() {
        read.push((path, format!("policies/tenants/{name}")));
    }
    let mut found = Vec::new();
    for (dir, shown) in read {
        for (name, path) in list_or_empty(&dir, &shown).unwrap_or_default() {
            // The tenants' folder is read as such.
            if !path.is_dir() || (dir == root && name == "tenants") {
                continue;
            }
            let shown = format!("{shown}/{name}");
            let inside = list_or_empty(&path, &shown).unwrap_or_default().into_iter();
            let is_policy = |(_, path): &(String, PathBuf)| path.extension().is_some_and(|is| is == "rego");
            found.extend(inside.filter(is_policy).map(|(name, _)| format!("{shown}/{name}")));
            if found.len() >= STRAYS_MAX {
                found.truncate(STRAYS_MAX);
                return found;
            }
        }
    }
    found
}
