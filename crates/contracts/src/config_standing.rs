//! Which configuration counts while a server runs, for those who show it. It refuses to say values.

use std::fmt;

use jiff::Timestamp;

use crate::agent::HandleSlug;
use crate::digest::Digest;

/// The port to the state of the configuration.
pub trait ConfigReporter: Send + Sync + fmt::Debug {
    /// Says which configuration counts now.
    fn config_standing(&self) -> ConfigStanding;
}

/// Which configuration counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigStanding {
    /// Its number in the history of the home.
    pub revision: u64,
    /// The digest of its text.
    pub digest: Digest,
    /// Since when it counts.
    pub since: Timestamp,
    /// Whether the server started on an earlier one, because it could not use the file.
    pub is_fallback: bool,
    /// What the file says instead, and does not count, because it is wrong.
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

/// A file that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// The place and what is wrong.
    pub problem: String,
    /// Since when.
    pub since: Timestamp,
}
