//! What keeps a sandbox backend from working, with the command or the setting that adds it.

/// What keeps a backend from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPart {
    /// What is missing.
    pub what: String,
    /// The command, or the setting, that adds it.
    pub fix: String,
}

impl MissingPart {
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}
