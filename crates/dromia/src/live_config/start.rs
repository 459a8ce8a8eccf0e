//! The configuration that a server starts with: that of the file, or the last good one where the file cannot be used. That
//! is said aloud, and a start with `--strict-config` refuses instead.

use super::ConfigRevision;
use super::file_watch::file_author;
use super::history::{ConfigHistory, ConfigRecord};
use crate::config::{self, ConfigFlag, EnvironmentVariables, LoadedConfig, ResolvedConfig};
use crate::home::Home;
use crate::system::ExitError;

/// What a server starts with.
pub(crate) struct StartConfig {
    /// Which configuration counts.
    pub(crate) revision: ConfigRevision,
    /// What it means.
    pub(crate) resolved: ResolvedConfig,
    /// Why the file does not count, where it does not.
    pub(crate) refused: Option<String>,
}

impl StartConfig {
    /// Chooses the configuration of a start. What is wrong with flags and variables is wrong with every configuration, so
    /// it is an error as ever.
    pub(crate) fn choose(home: &Home, flags: &[ConfigFlag], is_strict: bool) -> anyhow::Result<Self> {
        let environment = EnvironmentVariables::of_process();
        let read = |text: &str| {
            config::parse_and_resolve(&home.config_path(), text, &environment, flags)
                .map_err(ExitError::usage_of)
        };
        let history = ConfigHistory::of_home(home);
        let text = config::read_config_text(home);
        let problem = match text.and_then(|text| Ok((read(&text)?, text))) {
            Ok(((loaded, resolved), text)) => {
                home.check_store()?;
                let record = history.record_or_warn(&text, &file_author(home));
                return Ok(Self { revision: ConfigRevision::new(record, loaded), resolved, refused: None });
            }
            Err(problem) if is_strict => return Err(problem),
            Err(problem) => problem,
        };
        let good = history.list_records().into_iter().find_map(|record| {
            let (loaded, resolved) = read(&record.text).ok()?;
            Some((record, loaded, resolved))
        });
        let Some((record, loaded, resolved)) = good else { return Err(problem) };
        let refused = Some(format!("{problem:#}"));
        Ok(Self { revision: ConfigRevision::new(record, loaded), resolved, refused })
    }

    /// What the terminal shows where the file does not count.
    pub(crate) fn banner_text(&self) -> Option<String> {
        let problem = self.refused.as_ref()?;
        let ConfigRecord { number, at, .. } = &self.revision.record;
        Some(format!(
            "warning: the server starts on an earlier configuration, because dromia.yaml cannot be used:\n\
             {problem}\n\
             Revision {number} of {at} counts. Correct the file, which then counts at once, or go back with \
             `dromia config revert {number}`; `dromia up --strict-config` refuses to start instead."
        ))
    }
}

impl ConfigRevision {
    pub(super) fn new(record: ConfigRecord, loaded: LoadedConfig) -> Self {
        Self { record, loaded, missing_keys: Vec::new(), in_vault: Vec::new() }
    }

    /// The same, with the keys that it names.
    pub(super) fn with_keys(self, resolved: &ResolvedConfig) -> Self {
        let (missing_keys, in_vault) =
            (resolved.references.missing_keys.clone(), resolved.references.in_vault.clone());
        Self { missing_keys, in_vault, ..self }
    }
}
