//! A credential in memory: it can be used, and neither printed nor compared.

use std::fmt;

/// A provider's key. Its `Debug` shows nothing of it and it has no `Display`.
#[derive(Clone)]
pub struct ProviderApiKey(String);

impl ProviderApiKey {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Hands the key out, for the one place that sends it.
    pub(crate) fn expose_key(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProviderApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}
