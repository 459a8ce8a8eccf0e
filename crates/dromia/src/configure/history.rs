//! `dromia config history`, `diff` and `revert`: the configurations that counted, what differs between two of them, and the
//! way back. No server is needed; a running one takes the file that `revert` writes as it takes any other.

use std::process::ExitCode;

use dromia_api::ListPage;
use dromia_cli::output::count_noun;
use dromia_cli::{CommandOutput, Outcome};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::config::reference::yaml_value;
use crate::config::{self, EnvironmentVariables, LoadedConfig};
use crate::config_change;
use crate::home::Home;
use crate::live_config::{ConfigHistory, ConfigRecord, text_digest};
use crate::system::ExitError;

/// A configuration that counted.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigRevisionRow {
    /// Its number.
    revision: u64,
    /// When it was recorded.
    at: Timestamp,
    /// Who changed the file, as far as that is known.
    author: String,
    /// The digest of its text.
    digest: String,
    /// Whether the file has this text now.
    current: bool,
}

/// A key that differs between two configurations.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigDifference {
    /// The key.
    key: String,
    /// Its value in the first; nothing where it has none.
    before: Option<Value>,
    /// Its value in the second; nothing where it has none.
    after: Option<Value>,
}

/// A way back.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigRevert {
    /// The revision whose text the file has.
    from: u64,
    /// The number of the new revision with that text; nothing for a dry run.
    revision: Option<u64>,
    /// Where the previous text is kept, if the file was changed.
    backup: Option<String>,
    /// The keys that change; nothing where the file could not be read.
    changes: Option<Vec<ConfigDifference>>,
}

/// Lists the configurations.
pub(super) fn list_history(home: &Home, output: &mut CommandOutput<'_>) -> Outcome {
    let now = config::read_config_text(home).ok().map(|text| text_digest(&text));
    let mut is_found = false;
    let row = |record: ConfigRecord| {
        let current =
            now == Some(record.digest) && !std::mem::replace(&mut is_found, now == Some(record.digest));
        let ConfigRecord { number, at, author, digest, .. } = record;
        ConfigRevisionRow { revision: number, at, author, digest: digest.to_string(), current }
    };
    let items: Vec<_> = ConfigHistory::of_home(home).list_records().into_iter().map(row).collect();
    if output.is_json() {
        return output.print_document(&ListPage { items, next: None });
    }
    if items.is_empty() {
        return output.print_notice("There is no revision yet. `dromia up` records the first one.");
    }
    let rows = items.into_iter().map(|row| {
        let current = if row.current { "yes" } else { "" };
        let short = row.digest.chars().take(12).collect();
        vec![row.revision.to_string(), row.at.to_string(), row.author, short, current.to_owned()]
    });
    output.print_table(&["revision", "at", "author", "digest", "in the file"], rows.collect())
}

/// Shows which values differ: between two revisions, or between one and the file.
pub(super) fn show_difference(
    home: &Home,
    first: Option<u64>,
    second: Option<u64>,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
    let history = ConfigHistory::of_home(home);
    let before = match first {
        Some(number) => find_record(&history, number)?,
        None => history.newest_record().ok_or_else(no_history)?,
    };
    let after = match second {
        Some(number) => find_record(&history, number)?.text,
        None => config::read_config_text(home)?,
    };
    let items = differences(&read_text(home, &before.text)?, &read_text(home, &after)?);
    if output.is_json() {
        output.print_document(&ListPage { items, next: None })?;
    } else if items.is_empty() {
        output.print_notice("No value differs.")?;
    } else {
        print_differences(&items, output)?;
    }
    Ok(())
}

/// Writes the text of a revision into the file, after it was checked.
pub(super) fn revert_to(
    home: &Home,
    number: u64,
    is_dry: bool,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<ExitCode> {
    let history = ConfigHistory::of_home(home);
    let record = find_record(&history, number)?;
    let environment = EnvironmentVariables::of_process();
    let (loaded, _) = config::parse_and_resolve(&home.config_path(), &record.text, &environment, &[])
        .map_err(|problems| {
            ExitError::usage_error(format!("revision {number} cannot be used: {problems}"))
        })?;
    let now = config::read_config_text(home).ok();
    let current = now.as_deref().and_then(|text| read_text(home, text).ok());
    let changes = current.map(|current| differences(&current, &loaded));
    let mut done = ConfigRevert { from: number, revision: None, backup: None, changes };
    if is_dry {
        output.print_result(&done, |done| format!("Nothing is written; {} by it.", done.changed_text()))?;
        let changes = done.changes.filter(|changes| !output.is_json() && !changes.is_empty());
        if let Some(changes) = changes {
            print_differences(&changes, output)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if now.as_deref() != Some(&record.text) {
        let (backup, recorded) = config_change::revert_text(home, &record.text)?;
        done.backup = backup;
        done.revision = Some(recorded);
    }
    output.print_result(&done, |done| match done.revision {
        None => format!("dromia.yaml already has the text of revision {number}."),
        Some(revision) => {
            let new = if revision == number { String::new() } else { format!(", as revision {revision}") };
            let changed = done.changed_text();
            format!(
                "dromia.yaml has the text of revision {number} again{new}; {changed}. {}",
                config_change::HEARD
            )
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

impl ConfigRevert {
    fn changed_text(&self) -> String {
        match &self.changes {
            Some(changes) => format!("{} changed", count_noun(changes.len(), "value")),
            None => "what changed is not known, because the file could not be read".to_owned(),
        }
    }
}

fn find_record(history: &ConfigHistory, number: u64) -> anyhow::Result<ConfigRecord> {
    history.find_record(number).ok_or_else(|| {
        ExitError::usage_error(format!("there is no revision {number}; `dromia config history` lists them"))
    })
}

fn no_history() -> anyhow::Error {
    ExitError::usage_error("there is no revision yet; `dromia up` records the first one")
}

fn read_text(home: &Home, text: &str) -> anyhow::Result<LoadedConfig> {
    config::parse_layered(&home.config_path(), text, &EnvironmentVariables::default(), &[])
        .map_err(ExitError::usage_of)
}

fn differences(before: &LoadedConfig, after: &LoadedConfig) -> Vec<ConfigDifference> {
    let changed = config::changed_keys(before, after).into_iter();
    changed.map(|(key, (before, after))| ConfigDifference { key, before, after }).collect()
}

fn print_differences(items: &[ConfigDifference], output: &mut CommandOutput<'_>) -> Outcome {
    let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "(not set)".to_owned(), yaml_value);
    let rows = items.iter().map(|row| vec![row.key.clone(), text(&row.before), text(&row.after)]);
    output.print_table(&["key", "before", "after"], rows.collect())
}
