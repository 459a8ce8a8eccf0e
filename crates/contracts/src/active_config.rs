//! The configuration that a running server uses, for routes that show it. It carries no values.

use std::fmt;

use jiff::Timestamp;

use crate::agent::HandleSlug;
use crate::digest::Digest;

/// The port to the active configuration.
pub trait ConfigReporter: Send + Sync + fmt::Debug {
    /// Returns the configuration that the server uses now.
    fn active_config(&self) -> ActiveConfig;
}

/// The configuration that the server uses, and what of the file it does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConfig {
    /// Its number in the history of the home.
    pub revision: u64,
    /// The digest of its text.
    pub digest: Digest,
    /// Since when the server uses it.
    pub since: Timestamp,
    /// Whether the server started on an earlier one, because it could not use the file.
    pub is_fallback: bool,
    /// Why the server does not use the file, where the file is wrong.
    pub refused: Option<ConfigRefusal>,
    /// The keys whose values in the file take effect at the next start.
    pub pending: Vec<String>,
    /// The providers and channels that have no key, each with its place and reason.
    pub disabled: Vec<String>,
    /// The keys that are in the vault, or should be: whether they are is a question to the vault as it is now.
    pub in_vault: Vec<VaultReference>,
}

/// A key of a provider or a channel that the configuration looks for in the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultReference {
    /// Whose secret it is.
    pub tenant: HandleSlug,
    /// What the secret is called.
    pub secret: String,
    /// What to say where it is not there: the place, what is missing, and the command that sets it.
    pub missing: String,
}

/// A file that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// The place and what is wrong.
    pub problem: String,
    /// Since when.
    pub since: Timestamp,
}
