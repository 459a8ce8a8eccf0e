//! `cli.json` in the home: the default agent of each tenant, as `agent switch` chose it.
//!
//! The file belongs to the command line alone; the server never reads it. It is written whole, beside its place,
//! and moved there, so a reader sees the old file or the new one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Outcome};

/// The choices of this user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The default agent, by tenant.
    #[serde(default)]
    pub(crate) agents: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the file; one that is not there says nothing.
    pub(crate) fn read(home: &Path) -> Outcome<Self> {
        let path = path(home);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::Usage(format!("{} cannot be read: {error}", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            // As a dromia.yaml that cannot be read.
            Err(error) => Err(Error::Usage(format!("failed to read {}: {error}", path.display()))),
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, home: &Path) -> Outcome {
        let path = path(home);
        let beside = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Usage(error.to_string()))?;
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &path))
            .map_err(Error::io(format!("write {}", path.display())))
    }
}

fn path(home: &Path) -> PathBuf {
    home.join("cli.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_back_and_a_missing_file_is_no_choice() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(home.path()).unwrap(), Settings::default());
        let mut settings = Settings::default();
        settings.agents.insert("default".into(), "ops".into());
        settings.write(home.path()).unwrap();
        assert_eq!(Settings::read(home.path()).unwrap(), settings);
    }

    #[test]
    fn what_cannot_be_read_is_refused_like_what_cannot_be_understood() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(path(home.path())).unwrap();
        let refused = Settings::read(home.path()).unwrap_err();
        assert!(matches!(&refused, Error::Usage(text) if text.contains("cli.json")), "{refused}");
    }

    #[test]
    fn a_file_with_an_unknown_key_is_refused_with_its_path() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(path(home.path()), r#"{"agnets":{}}"#).unwrap();
        let refused = Settings::read(home.path()).unwrap_err().to_string();
        assert!(refused.contains("cli.json") && refused.contains("agnets"), "{refused}");
    }
}
