//! Which configuration counts while a server runs, for those who show it. It refuses to say values.

use std::fmt;

use jiff::Timestamp;

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
}

/// A file that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// The place and what is wrong.
    pub problem: String,
    /// Since when.
    pub since: Timestamp,
}
