//! Where half of something lies until all of it is there: a name beside the wanted one, removed unless it was taken.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file or directory beside the wanted place that goes away unless it is kept.
#[derive(Debug)]
pub(super) struct PartialPlace {
    path: PathBuf,
    is_kept: bool,
}

impl PartialPlace {
    /// Names a file `PLACE.partial`; one that a killed process left is written over.
    pub(super) fn beside_file(place: &Path) -> Self {
        Self { path: with_suffix(place, ".partial"), is_kept: false }
    }

    /// Makes a directory that only its owner can look into. One that a killed process of the same name left goes first.
    pub(super) fn make_directory(path: PathBuf) -> anyhow::Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self { path, is_kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What lies there stays, or has another name now. Returns the name.
    pub(super) fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for PartialPlace {
    fn drop(&mut self) {
        if !self.is_kept {
            // It may be a file, a directory, or not be there at all.
            let _gone = fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
        }
    }
}

/// Adds to the last name of a path.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
