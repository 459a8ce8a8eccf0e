//! The configuration that counts while a server runs: one numbered revision at a time, which never changes. Another text of
//! `dromia.yaml` is checked, built beside the one that counts, and swapped in within two seconds; a text that is wrong leaves
//! the last good one counting, and the log and the status say so.
//!
//! Keys that only a start can apply ([`config::KeyEffect::Restart`]) keep the values of the start and are named as pending.
//! It refuses to take anything from a file that does not mean something as a whole.

mod file_watch;
mod follow;
mod history;
mod ports;
mod start;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use dromia_contracts::active_config::{ActiveConfig, ConfigRefusal, ConfigReporter, VaultReference};
use jiff::Timestamp;

pub(crate) use self::follow::{LiveServices, follow_file};
pub(crate) use self::history::{ConfigHistory, ConfigRecord, text_digest};
pub(crate) use self::ports::{LiveGate, LiveModels, ReplaceableParts};
pub(crate) use self::start::StartConfig;
use crate::config::{self, ConfigFlag, ConfigProblem, EnvironmentVariables, LoadedConfig, ResolvedConfig};
use crate::home::Home;

/// A configuration that counts: its record, what it says, and which keys it lacks.
#[derive(Debug)]
pub(crate) struct ConfigRevision {
    /// Its number, time, author and text.
    pub(crate) record: ConfigRecord,
    /// What it says.
    loaded: LoadedConfig,
    /// What is disabled because it has no key.
    missing_keys: Vec<ConfigProblem>,
    /// The keys that are to be in the vault.
    in_vault: Vec<VaultReference>,
}

/// The configuration of a running server.
#[derive(Debug)]
pub(crate) struct LiveConfig {
    home: Home,
    flags: Vec<ConfigFlag>,
    environment: EnvironmentVariables,
    /// What the server started with: the values of keys that only a start applies.
    boot: LoadedConfig,
    current: ArcSwap<ConfigRevision>,
    file: Mutex<FileState>,
}

/// How the file compares with what counts.
#[derive(Debug, Default)]
struct FileState {
    is_fallback: bool,
    since: Timestamp,
    refused: Option<ConfigRefusal>,
    pending: Vec<String>,
}

/// A text that means something, and is not counting yet.
struct OfferedConfig {
    text: String,
    author: String,
    loaded: LoadedConfig,
    resolved: ResolvedConfig,
}

impl LiveConfig {
    /// Begins with the configuration of the start.
    pub(crate) fn begin(
        home: &Home,
        flags: Vec<ConfigFlag>,
        revision: ConfigRevision,
        resolved: &ResolvedConfig,
        refused: Option<String>,
        now: Timestamp,
    ) -> Self {
        let file = FileState {
            is_fallback: refused.is_some(),
            since: now,
            refused: refused.map(|problem| ConfigRefusal { problem, since: now }),
            pending: Vec::new(),
        };
        let boot = revision.loaded.clone();
        let revision = ConfigRevision::new(revision.record, revision.loaded).with_keys(resolved);
        Self {
            home: home.clone(),
            flags,
            environment: EnvironmentVariables::of_process(),
            boot,
            current: ArcSwap::from_pointee(revision),
            file: Mutex::new(file),
        }
    }

    /// Reads an offered text. Nothing where it is the one that counts already.
    fn read_offer(&self, text: String, author: String) -> Result<Option<OfferedConfig>, String> {
        let current = self.current.load();
        if current.record.digest == text_digest(&text) {
            return Ok(None);
        }
        let says_something = |line: &str| !line.trim_start().starts_with('#') && !line.trim().is_empty();
        if !text.lines().any(says_something) {
            return Err(
                "the file has no key, which a running server takes for a mistake; for the defaults, \
                        write `version: 1`"
                    .to_owned(),
            );
        }
        let path = self.home.config_path();
        if !text.ends_with('\n') && current.record.text.ends_with('\n') {
            return Err(format!(
                "{}:{}: the file ends within a line, as a write that was cut leaves it; write the whole file, or end its last \
                 line with a line break",
                path.display(),
                text.lines().count(),
            ));
        }
        let read = config::parse_and_resolve(&path, &text, &self.environment, &self.flags);
        let (loaded, resolved) = read.map_err(|problems| problems.to_string())?;
        Ok(Some(OfferedConfig { text, author, loaded, resolved }))
    }

    /// Notes that the file is wrong. Returns whether that is news.
    fn note_refused(&self, problem: String, now: Timestamp) -> bool {
        let mut file = self.lock_file();
        let since = file.refused.as_ref().map_or(now, |refused| refused.since);
        let is_new = file.refused.as_ref().is_none_or(|refused| refused.problem != problem);
        file.refused = Some(ConfigRefusal { problem, since });
        is_new
    }

    /// Notes that the file says what counts.
    fn note_agreed(&self) {
        let mut file = self.lock_file();
        file.refused = None;
        file.is_fallback = false;
    }

    /// Lets a revision count: its parts are in place. Returns the keys whose values wait for the next start.
    fn note_applied(&self, revision: ConfigRevision, now: Timestamp) -> Vec<String> {
        let pending = config::pending_keys(&self.boot, &revision.loaded);
        self.current.store(Arc::new(revision));
        *self.lock_file() =
            FileState { is_fallback: false, since: now, refused: None, pending: pending.clone() };
        pending
    }

    // No code panics while it holds the lock.
    fn lock_file(&self) -> MutexGuard<'_, FileState> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConfigReporter for LiveConfig {
    fn active_config(&self) -> ActiveConfig {
        let (current, file) = (self.current.load(), self.lock_file());
        ActiveConfig {
            revision: current.record.number,
            digest: current.record.digest,
            since: file.since,
            is_fallback: file.is_fallback,
            refused: file.refused.clone(),
            pending: file.pending.clone(),
            disabled: current.missing_keys.iter().map(ToString::to_string).collect(),
            in_vault: current.in_vault.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
