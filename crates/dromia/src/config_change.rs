//! A change of `dromia.yaml` by a command: edited, read again, compared, resolved, and only then put in its place.
//!
//! The old text is kept as `dromia.yaml.bak`. A text that does not mean exactly what was asked for is never written;
//! then the lines to add by hand are printed. A key that only the server's environment has is no obstacle: a notice
//! names it, and the server's start checks it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dromia_cli::CommandOutput;
use rustix::fs::{FlockOperation, flock};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{self, ConfigProblem, EnvironmentVariables, LoadedConfig, WrittenConfig};
use crate::home::Home;
use crate::live_config::ConfigHistory;
use crate::system::{self, ExitError};

/// The configuration of a home, held against other commands until it is dropped.
pub(crate) struct LockedConfig {
    /// What it says now.
    pub(crate) loaded: LoadedConfig,
    /// The environment.
    pub(crate) environment: EnvironmentVariables,
    home: Home,
    path: PathBuf,
    text: String,
    /// The lock goes with the file.
    _directory: fs::File,
}

/// One edit of the text.
pub(crate) struct ConfigEdit<'edit> {
    /// `providers` or `models`.
    pub(crate) block: &'edit str,
    /// The entry's name.
    pub(crate) name: &'edit str,
    /// The entry's lines; none removes it.
    pub(crate) lines: Option<Vec<String>>,
}

/// What a command did to `dromia.yaml`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigEditResult {
    /// The entry, such as `providers.openai`.
    entry: String,
    /// Whether the file was changed; it was not where it said so already.
    changed: bool,
    /// Where the previous text is kept, if the file was changed.
    backup: Option<String>,
}

impl ConfigEditResult {
    /// An entry that is so already.
    pub(crate) fn unchanged_entry(block: &str, name: &str) -> Self {
        Self { entry: format!("{block}.{name}"), changed: false, backup: None }
    }
}

impl LockedConfig {
    /// Reads the configuration of a home.
    pub(crate) fn lock_home(home: &Home) -> anyhow::Result<Self> {
        let environment = EnvironmentVariables::of_process();
        // Tells, without a lock, that there is no home.
        drop(config::read_config_text(home)?);
        let directory = lock_directory(home)?;
        // The file may be a link to another place.
        let path = fs::canonicalize(home.config_path()).context("failed to find dromia.yaml")?;
        let text = config::read_config_text(home)?;
        let loaded = parse_alone(&path, &text)?;
        Ok(Self { loaded, environment, home: home.clone(), path, text, _directory: directory })
    }

    /// Makes an edit. `meant` does the same to the meaning, which is compared.
    pub(crate) fn apply_edit(
        &self,
        edit: &ConfigEdit<'_>,
        output: &mut CommandOutput<'_>,
        meant: impl FnOnce(&mut WrittenConfig),
    ) -> anyhow::Result<ConfigEditResult> {
        let edited = match &edit.lines {
            Some(lines) => config::edit::put_entry(&self.text, edit.block, edit.name, lines),
            None => config::edit::remove_entry(&self.text, edit.block, edit.name),
        };
        let text = edited.map_err(|refusal| self.by_hand(edit, &refusal.to_string()))?;
        let mut expected = self.loaded.written.clone();
        meant(&mut expected);
        let loaded = parse_alone(&self.path, &text)
            .ok()
            .filter(|loaded| loaded.written == expected)
            .ok_or_else(|| self.by_hand(edit, "this command cannot edit this form of YAML"))?;
        self.check_change(&loaded, output)?;
        let entry = format!("{}.{}", edit.block, edit.name);
        let (backup, _) = replace_text(&self.home, &self.path, Some(&self.text), &text, &entry)?;
        Ok(ConfigEditResult { entry, changed: true, backup })
    }

    /// Refuses what the change itself makes wrong, and says which key this shell does not have.
    fn check_change(&self, changed: &LoadedConfig, output: &mut CommandOutput<'_>) -> anyhow::Result<()> {
        let resolve = |loaded: &LoadedConfig| match loaded.resolve_all(&self.environment) {
            Ok(resolved) => (Vec::new(), resolved.references.missing_keys),
            Err(all) => (all.0, Vec::new()),
        };
        let ((before, missing_before), (after, missing)) = (resolve(&self.loaded), resolve(changed));
        let is_new = |problem: &&ConfigProblem, old: &[ConfigProblem]| {
            !old.iter().any(|old| old.message == problem.message)
        };
        if let Some(problem) = after.iter().find(|problem| is_new(problem, &before)) {
            return Err(ExitError::usage_error(format!("{}; the file is unchanged", problem.message)));
        }
        for problem in missing.iter().filter(|problem| is_new(problem, &missing_before)) {
            let name = problem.unset.as_deref().unwrap_or_default();
            output.print_notice(&format!(
                "note: this shell does not set {name}; the server needs it in its environment"
            ))?;
        }
        Ok(())
    }

    fn by_hand(&self, edit: &ConfigEdit<'_>, why: &str) -> anyhow::Error {
        let path = self.path.display();
        match &edit.lines {
            Some(lines) => {
                let lines: String = lines.iter().flat_map(|line| ["\n  ", line.as_str()]).collect();
                ExitError::usage_error(format!(
                    "{path}: {why}; the file is unchanged. Add by hand:\n{}:{lines}",
                    edit.block
                ))
            }
            None => ExitError::usage_error(format!(
                "{path}: {why}; the file is unchanged. Remove {}.{} by hand",
                edit.block, edit.name
            )),
        }
    }
}

fn lock_directory(home: &Home) -> anyhow::Result<fs::File> {
    let directory = fs::File::open(home.root_dir()).context("failed to open the home")?;
    flock(&directory, FlockOperation::LockExclusive).context("failed to lock the home")?;
    Ok(directory)
}

/// Records both texts, an old one only if it was good, and puts the new one in the place of the old one, which is kept beside it. Recorded first: a server
/// that sees the file finds who changed it, and after a crash in between the file's own text decides.
fn replace_text(
    home: &Home,
    path: &Path,
    old: Option<&str>,
    text: &str,
    what: &str,
) -> anyhow::Result<(Option<String>, u64)> {
    let history = ConfigHistory::of_home(home);
    let mode = fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let mut backup = None;
    if let Some(old) = old {
        if config::check_config_text(old).is_ok_and(|problems| problems.is_empty()) {
            history.record_text(old, "file")?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".bak");
        system::replace_file(Path::new(&name), old, mode)?;
        backup = Some(Path::new(&name).display().to_string());
    }
    let author = format!("command of user {}: {what}", rustix::process::getuid().as_raw());
    let record = history.record_text(text, &author)?;
    system::replace_file(path, text, mode)?;
    Ok((backup, record.number))
}

/// Puts a checked text of the history in the place of the file, whatever lies there. Returns where the previous text is
/// kept, and the number of the new revision.
pub(crate) fn revert_text(home: &Home, text: &str) -> anyhow::Result<(Option<String>, u64)> {
    let _directory = lock_directory(home)?;
    let path = fs::canonicalize(home.config_path()).unwrap_or_else(|_| home.config_path());
    let old = config::read_config_text(home).ok();
    replace_text(home, &path, old.as_deref(), text, "config revert")
}

/// Reads what the file itself says: what lies above it is no part of the text that is edited.
fn parse_alone(path: &Path, text: &str) -> anyhow::Result<LoadedConfig> {
    config::parse_layered(path, text, &EnvironmentVariables::default(), &[]).map_err(ExitError::usage_of)
}

/// Refuses a name that would have to be escaped everywhere.
pub(crate) fn checked_name(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= 64 && name.chars().all(good) {
        Ok(name.to_owned())
    } else {
        Err("a name has 1 to 64 letters, digits, -, _, . and :, and begins with a letter or digit".to_owned())
    }
}

/// When the new text takes effect.
pub(crate) const HEARD: &str = "A running server uses it within two seconds.";
