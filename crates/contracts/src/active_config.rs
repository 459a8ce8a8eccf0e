//! The configuration that a running server uses, for routes that show it. It carries no values.

use std::fmt;

use jiff::Timestamp;

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
}

/// A file that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// The place and what is wrong.
    pub problem: String,
    /// Since when.
    pub since: Timestamp,
}
