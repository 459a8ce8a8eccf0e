//! Where everything of one instance lies: `$DROMIA_HOME`, by default `~/.dromia`.

use std::path::{Path, PathBuf};

use crate::system::Exit;

/// The longest path of a Unix socket, in bytes; Linux takes one more, which ends it.
const SOCKET_BYTES_MAX: usize = 107;

/// A home, which may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// Finds the home: the flag, then the environment, then `~/.dromia`.
    pub(crate) fn find(flag: Option<&Path>) -> Self {
        Self { root: flag.map_or_else(dromia_cli::home_of_process, Path::to_owned) }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("dromia.yaml")
    }

    /// The directory of the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The key that the secrets of tenants are sealed with, in the end.
    pub(crate) fn vault_key(&self) -> PathBuf {
        self.root.join("vault.key")
    }

    /// The directory of the audit: its key and its checkpoints.
    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// The bearer token of the default tenant, readable by its owner only.
    pub(crate) fn token(&self) -> PathBuf {
        self.root.join("token")
    }

    /// The Unix socket of the CLI, if the system can make one there.
    pub(crate) fn checked_socket(&self) -> anyhow::Result<PathBuf> {
        let socket = self.socket();
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_BYTES_MAX {
            return Err(Exit::usage(format!(
                "{} cannot be a home: the path of its socket would have {bytes} bytes, and the system takes \
                 {SOCKET_BYTES_MAX}; choose a shorter one with --home",
                self.root.display()
            )));
        }
        Ok(socket)
    }

    /// The Unix socket of the CLI.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("run").join("dromia.sock")
    }
}
