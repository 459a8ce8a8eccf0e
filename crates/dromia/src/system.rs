//! Small things that several local commands share: exit codes with their message, private files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// A failure that ends the program with its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Exit {
    /// The exit code, as `dromia --help` documents them.
    pub(crate) code: u8,
    /// What went wrong and what to do next.
    pub(crate) message: String,
}

impl Exit {
    /// A usage mistake or an invalid file.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { code: 2, message: message.into() }.into()
    }

    /// Something is in the way.
    pub(crate) fn conflict(message: impl Into<String>) -> anyhow::Error {
        Self { code: 6, message: message.into() }.into()
    }
}

/// Makes a directory that only its owner can look into.
pub(crate) fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("failed to make {}; choose another home with --home", path.display()))
}

/// Writes a new file that only its owner can read; it is whole or not there.
pub(crate) fn private_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().with_context(|| format!("failed to write {}", path.display()))
}
