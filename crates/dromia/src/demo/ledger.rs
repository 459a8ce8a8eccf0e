//! The list of what the server acknowledged, written by the demo before it goes on; the witness reads it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

/// An append-only list.
pub(super) struct DemoLedger {
    path: PathBuf,
    file: File,
}

impl DemoLedger {
    /// Begins a list.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Notes an input that the server said is stored.
    pub(super) fn record_acknowledged(&mut self, answer: &Value) -> anyhow::Result<()> {
        let line = json!({"item": answer["item"], "session": answer["session"]});
        writeln!(self.file, "{line}").context("failed to write the ledger")
    }

    /// Where the list lies.
    pub(super) fn file_path(&self) -> &Path {
        &self.path
    }
}
