//! `cli.json` in the home: the default agent of each tenant, as `agent switch` chose it, and the last session of each
//! agent, with which `--continue` goes on.
//!
//! The file belongs to the command line alone; the server never reads it. It is written whole and durably, beside its
//! place, and moved there, so a reader sees the old file or the new one, also after a power cut.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use dromia_api::{AgentId, SessionId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Outcome};

/// Only the user may read and write it.
const MODE: u32 = 0o600;

/// Only the user may look into it; one that is there stays as it is.
const DIRECTORY_MODE: u32 = 0o700;

/// The choices of this user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserSettings {
    /// The default agent, by tenant.
    #[serde(default)]
    pub(crate) agents: BTreeMap<String, String>,
    /// The last session of this user with each agent, by tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sessions: BTreeMap<String, BTreeMap<AgentId, SessionId>>,
}

/// Of how many agents of a tenant the last session is remembered.
const SESSIONS_MAX: usize = 256;

/// How often, and after which rest, another command is waited for that changes the file.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_REST: Duration = Duration::from_millis(10);

impl UserSettings {
    /// Reads the file; one that is not there says nothing.
    pub(crate) fn read(home: &Path) -> Outcome<Self> {
        let path = settings_path(home);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::Usage(format!(
                    "failed to parse {}: {error}; correct the file or delete it",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            // As a dromia.yaml that cannot be read.
            Err(error) => Err(Error::Usage(format!("failed to read {}: {error}", path.display()))),
        }
    }

    /// Changes what the file says now, which another command may have written meanwhile.
    pub(crate) fn update(home: &Path, change: impl FnOnce(&mut Self)) -> Outcome {
        // Two commands that read before either wrote would lose what one of them chose. A lock that another one holds
        // for long is not waited for: the file is whole either way.
        let directory = File::open(home).map_err(Error::io_error(format!("open {}", home.display())))?;
        for _ in 0..LOCK_ATTEMPTS {
            if directory.try_lock().is_ok() {
                break;
            }
            sleep(LOCK_REST);
        }
        let mut settings = Self::read(home)?;
        change(&mut settings);
        settings.write(home)
    }

    /// Remembers the last session with an agent.
    pub(crate) fn remember_session(&mut self, tenant: &str, agent: AgentId, session: SessionId) {
        let sessions = self.sessions.entry(tenant.to_owned()).or_default();
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&agent) {
            sessions.pop_first();
        }
        sessions.insert(agent, session);
    }

    /// Writes the file.
    pub(crate) fn write(&self, home: &Path) -> Outcome {
        write_private(&settings_path(home), self)
    }
}

/// Writes a document that only the user may read, whole or not at all.
pub(crate) fn write_private(path: &Path, document: &impl Serialize) -> Outcome {
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
        made.map_err(Error::io_error(format!("create {}", directory.display())))?;
    }
    // A name of its own, so that two commands at one time write no file together.
    let beside = path.with_extension(format!("json.{}.new", std::process::id()));
    let text = serde_json::to_vec_pretty(document).map_err(|error| Error::Usage(error.to_string()))?;
    let written = write_durably(&beside, path, &text);
    if written.is_err() {
        // It may not be there; the first error is the one that is returned.
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(Error::io_error(format!("write {}", path.display())))
}

/// Writes a file beside its place, moves it there, and has both the bytes and the move on disk before it comes back.
fn write_durably(beside: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn settings_path(home: &Path) -> PathBuf {
    home.join("cli.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_and_a_missing_file_is_empty() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(UserSettings::read(home.path()).unwrap(), UserSettings::default());
        let mut settings = UserSettings::default();
        settings.agents.insert("default".into(), "ops".into());
        settings.write(home.path()).unwrap();
        assert_eq!(UserSettings::read(home.path()).unwrap(), settings);
        let files: Vec<_> =
            std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, ["cli.json"], "nothing is left beside it");
    }

    /// Has two commands change the file, of which the second read it before the first wrote.
    fn check_update(update: impl Fn(&Path, &UserSettings, &str)) -> Result<(), String> {
        let home = tempfile::tempdir().unwrap();
        let before = UserSettings::read(home.path()).unwrap();
        update(home.path(), &before, "one");
        update(home.path(), &before, "two");
        let kept = UserSettings::read(home.path()).unwrap();
        if kept.agents.len() == 2 { Ok(()) } else { Err(format!("{kept:?}")) }
    }

    #[test]
    fn a_change_keeps_what_another_command_wrote() {
        let update = |home: &Path, _: &UserSettings, name: &str| {
            let change = |settings: &mut UserSettings| {
                settings.agents.insert(name.to_owned(), "ops".to_owned());
            };
            UserSettings::update(home, change).unwrap();
        };
        assert_eq!(check_update(update), Ok(()));
    }

    #[test]
    fn a_choice_that_is_written_over_is_caught() {
        let update = |home: &Path, before: &UserSettings, name: &str| {
            let mut settings = before.clone();
            settings.agents.insert(name.to_owned(), "ops".to_owned());
            settings.write(home).unwrap();
        };
        assert!(check_update(update).is_err());
    }

    #[test]
    fn the_last_session_of_an_agent_is_remembered_within_a_bound() {
        let mut settings = UserSettings::default();
        let (agent, session) = (|byte| AgentId::from_bytes([byte; 16]), SessionId::from_bytes([7; 16]));
        for byte in 0..=u8::MAX {
            settings.remember_session("default", agent(byte), session);
        }
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<UserSettings>(&text).unwrap(), settings);
        settings.remember_session("default", AgentId::from_bytes([1; 16]), SessionId::from_bytes([8; 16]));
        let mut one_more = [0xff; 16];
        one_more[0] = 0;
        settings.remember_session("default", AgentId::from_bytes(one_more), session);
        let sessions = &settings.sessions["default"];
        assert_eq!(sessions.len(), SESSIONS_MAX);
        assert_eq!(sessions[&agent(1)], SessionId::from_bytes([8; 16]));
    }

    #[test]
    fn a_failed_write_leaves_only_the_old_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(settings_path(home.path())).unwrap();
        assert!(UserSettings::default().write(home.path()).is_err(), "a directory is in its place");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unreadable_settings_file_is_a_usage_error() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(settings_path(home.path())).unwrap();
        let refused = UserSettings::read(home.path()).unwrap_err();
        assert!(matches!(&refused, Error::Usage(text) if text.contains("cli.json")), "{refused}");
    }

    #[test]
    fn a_settings_file_with_an_unknown_key_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(settings_path(home.path()), r#"{"agnets":{}}"#).unwrap();
        let refused = UserSettings::read(home.path()).unwrap_err().to_string();
        assert!(refused.contains("cli.json") && refused.contains("agnets"), "{refused}");
    }
}
