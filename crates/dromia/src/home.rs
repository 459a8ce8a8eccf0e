//! Where everything of one instance lies: `$DROMIA_HOME`, by default `~/.dromia`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::system::ExitError;

/// The longest path of a Unix socket, in bytes; Linux takes one more, which ends it.
const SOCKET_BYTES_MAX: usize = 107;

/// What a home has of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorePresence {
    /// Its database.
    Store,
    /// Nothing, and nothing says that there was one.
    Nothing,
    /// Nothing, where there was one before.
    Remains {
        /// What was lost, and what shows it.
        told: String,
    },
}

/// A home, which may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// Finds the home: the flag, then the environment, then `~/.dromia`.
    pub(crate) fn locate_home(flag: Option<&Path>) -> Self {
        Self { root: flag.map_or_else(dromia_cli::home_of_process, Path::to_owned) }
    }

    /// The directory itself.
    pub(crate) fn root_dir(&self) -> &Path {
        &self.root
    }

    /// The configuration.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.root.join("dromia.yaml")
    }

    /// The directory of the store.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The database of the store.
    fn database_path(&self) -> PathBuf {
        self.store_dir().join("dromia.db")
    }

    /// Looks whether the store is there. A database that is missing or empty beside what was made with it is lost: an empty one
    /// in its place would look as if nothing had ever been.
    pub(crate) fn store_presence(&self) -> StorePresence {
        let database = self.database_path();
        let how = match fs::metadata(&database) {
            Ok(found) if found.len() > 0 => return StorePresence::Store,
            Ok(_) => "is empty",
            Err(error) if error.kind() == ErrorKind::NotFound => "is gone",
            // Opening the store reports what is wrong with it.
            Err(_) => return StorePresence::Store,
        };
        let made = [self.token_path(), self.vault_key(), self.audit_dir()];
        match made.iter().find(|made| made.exists()) {
            Some(made) => {
                let told =
                    format!("{} {how}, but {} of the same home exists", database.display(), made.display());
                StorePresence::Remains { told }
            }
            None => StorePresence::Nothing,
        }
    }

    /// Refuses to go on without a store, as `up` does: a server would make an empty one.
    pub(crate) fn check_store(&self) -> anyhow::Result<()> {
        let root = self.root.display();
        match self.store_presence() {
            StorePresence::Store => Ok(()),
            StorePresence::Nothing => Err(ExitError::usage_error(format!(
                "{root} has a dromia.yaml but no store; create the store with `dromia init`, which keeps the \
                 file"
            ))),
            StorePresence::Remains { told } => {
                Err(ExitError::failed_error(format!("{told}; {}", self.restore_hint())))
            }
        }
    }

    /// The ways out where the store is lost.
    pub(crate) fn restore_hint(&self) -> String {
        format!(
            "restore a backup of {0}, as `dromia docs backup` describes, or move {0} away and create a new home \
             with `dromia init`",
            self.root.display()
        )
    }

    /// The key that the secrets of tenants are sealed with, in the end.
    pub(crate) fn vault_key(&self) -> PathBuf {
        self.root.join("vault.key")
    }

    /// The directory of the audit: its key and its checkpoints.
    pub(crate) fn audit_dir(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// The bearer token of the default tenant, readable by its owner only.
    pub(crate) fn token_path(&self) -> PathBuf {
        self.root.join("token")
    }

    /// The Unix socket of the CLI, if the system can make one there.
    pub(crate) fn checked_socket(&self) -> anyhow::Result<PathBuf> {
        let socket = self.socket_path();
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_BYTES_MAX {
            return Err(ExitError::usage_error(format!(
                "{} cannot be a home: the path of its socket would have {bytes} bytes, and the system allows \
                 {SOCKET_BYTES_MAX}; choose a shorter path with --home",
                self.root.display()
            )));
        }
        Ok(socket)
    }

    /// The Unix socket of the CLI.
    pub(crate) fn socket_path(&self) -> PathBuf {
        self.root.join("run").join("dromia.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_store_is_detected_by_the_files_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::locate_home(Some(dir.path()));
        assert_eq!(home.store_presence(), StorePresence::Nothing);
        fs::create_dir(home.store_dir()).expect("is made");
        fs::write(home.database_path(), "").expect("is written");
        assert_eq!(home.store_presence(), StorePresence::Nothing, "nothing was ever kept in it");
        fs::write(home.vault_key(), "key").expect("is written");
        let StorePresence::Remains { told } = home.store_presence() else {
            panic!("an empty database is taken for a store")
        };
        assert!(told.contains("dromia.db is empty") && told.contains("vault.key"), "{told}");
        fs::remove_dir_all(home.store_dir()).expect("it goes");
        let StorePresence::Remains { told } = home.store_presence() else {
            panic!("a lost store is taken for none")
        };
        assert!(told.contains("dromia.db is gone"), "{told}");
        fs::create_dir(home.store_dir()).expect("is made");
        fs::write(home.database_path(), "x").expect("is written");
        assert_eq!(home.store_presence(), StorePresence::Store);
    }
}
