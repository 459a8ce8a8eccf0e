//! Signs the audit of a served home: `guard` writes the lines, this process knows the secrets to redact.

use std::fmt;
use std::sync::Arc;

use dromia_contracts::Digest;
use dromia_contracts::audit::AuditSigner;
use dromia_guard::audit::{AuditKey, first_line, last_line, record_line};

use crate::home::Home;
use crate::redact::{Redactor, is_secret_name};

/// Signs with the home's key.
pub(crate) struct HomeNotary {
    key: Arc<AuditKey>,
    redactor: Redactor,
}

impl fmt::Debug for HomeNotary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HomeNotary").field("key", &self.key).finish_non_exhaustive()
    }
}

impl HomeNotary {
    /// Learns what must not leave: variables that are named like secrets or that the configuration refers to, and the
    /// token of the home.
    pub(crate) fn new(key: Arc<AuditKey>, home: &Home, configuration: &str) -> Self {
        let mut redactor = Redactor::default();
        let words = configuration.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')));
        let referred: Vec<_> = words.filter_map(|word| word.strip_prefix("env:")).collect();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        for (name, value) in variables {
            if is_secret_name(&name) || referred.contains(&name.as_str()) {
                redactor.add_secret(&value);
            }
        }
        if let Ok(token) = std::fs::read_to_string(home.token_path()) {
            redactor.add_secret(&token);
        }
        Self { key, redactor }
    }
}

impl AuditSigner for HomeNotary {
    fn redact_secrets(&self, text: &str) -> String {
        self.redactor.redact_text(text)
    }

    fn first_line(&self, about: &str) -> (String, Digest) {
        first_line(&self.key, about)
    }

    fn record_line(&self, after: Digest, record: &str) -> (String, Digest) {
        record_line(after, record)
    }

    fn last_line(&self, after: Digest, records: u64) -> String {
        last_line(&self.key, after, records)
    }
}
