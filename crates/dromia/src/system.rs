//! Small things that several local commands share: exit codes with their message, private files, whole replacements.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use dromia_cli::Error;
use dromia_store::{sync_directory, sync_parents};

/// A failure that ends the program with its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ExitError {
    /// The exit code, as `dromia help exit-codes` documents them.
    pub(crate) code: u8,
    /// What went wrong and what to do next.
    pub(crate) message: String,
}

impl ExitError {
    /// A usage mistake or an invalid file.
    pub(crate) fn usage_error(message: impl Into<String>) -> anyhow::Error {
        Self { code: 2, message: message.into() }.into()
    }

    /// What is wrong with a configuration.
    pub(crate) fn usage_of(problem: impl std::fmt::Display) -> anyhow::Error {
        Self::usage_error(problem.to_string())
    }

    /// It was tried and did not work.
    pub(crate) fn failed_error(message: impl Into<String>) -> anyhow::Error {
        Self { code: 1, message: message.into() }.into()
    }

    /// Something is in the way.
    pub(crate) fn conflict_error(message: impl Into<String>) -> anyhow::Error {
        Self { code: 6, message: message.into() }.into()
    }
}

/// Takes a failure as the command line tells it, with the exit code that it asks for.
pub(crate) fn to_cli_error(error: anyhow::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| {
        let code = error.downcast_ref::<ExitError>().map(|exit| exit.code);
        let exit = dromia_cli::CommandExit::ALL.into_iter().find(|exit| Some(exit.exit_code()) == code);
        Error::Local { exit: exit.unwrap_or(dromia_cli::CommandExit::Failed), message: format!("{error:#}") }
    })
}

/// Makes a directory that only its owner can look into, and makes its name and those above it durable, also where they are there:
/// an earlier process may have made them and ended before it synced them.
pub(crate) fn private_dir(path: &Path) -> anyhow::Result<()> {
    private_dir_with(path, sync_directory)
}

/// The same with another way to sync a directory.
fn private_dir_with(path: &Path, sync: impl FnMut(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| sync_parents(path, sync))
        .with_context(|| format!("failed to create {}; choose another home with --home", path.display()))
}

/// Writes a new file that only its owner can read; it is whole or not there.
pub(crate) fn private_file(path: &Path, text: &str) -> anyhow::Result<()> {
    replace_file(path, text, 0o600)
}

/// Writes a file beside its place and moves it there: a reader sees the old text or the new one, also after a crash.
pub(crate) fn replace_file(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let written = || -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // A file that a crash left behind keeps the mode it was made with.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    written().with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether the parents of a directory that is there already are synced.
    fn is_durable(sync: impl Fn(&Path, &mut Vec<std::path::PathBuf>)) -> bool {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("home/audit");
        fs::create_dir_all(&path).expect("an earlier process made it");
        let mut synced = Vec::new();
        let noted = |dir: &Path| {
            sync(dir, &mut synced);
            Ok(())
        };
        private_dir_with(&path, noted).expect("it is there");
        [dir.path().join("home"), dir.path().to_owned()].iter().all(|parent| synced.contains(parent))
    }

    #[test]
    fn the_parents_of_a_directory_that_is_there_are_synced() {
        assert!(is_durable(|dir, synced| synced.push(dir.to_owned())));
    }

    #[test]
    fn an_unsynced_parent_of_the_home_is_caught() {
        assert!(!is_durable(|dir, synced| if !dir.ends_with("home") {
            synced.push(dir.to_owned());
        }));
    }

    #[test]
    fn a_failure_keeps_its_exit_code_and_its_causes() {
        let told = |error: anyhow::Error| {
            let error = to_cli_error(error);
            (error.command_exit().exit_code(), error.to_string())
        };
        assert_eq!(told(ExitError::conflict_error("it is there")), (6, "it is there".to_owned()));
        assert_eq!(told(Error::Usage("no such field".to_owned()).into()), (2, "no such field".to_owned()));
        assert_eq!(
            told(anyhow::anyhow!("gone").context("failed to look")),
            (1, "failed to look: gone".to_owned())
        );
    }
}
