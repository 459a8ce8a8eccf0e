//! Egress: what may be reached on other hosts, and within which bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be reached on other hosts, and within which bounds. An agent reaches what its `net:` grants cover, and of
/// that only what is public, unless it is opened here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenEgress {
    /// Private networks, addresses and host names that tools may reach, such as `10.0.0.0/8`, `wiki` or
    /// `*.corp.example`. An agent's `net:` grants must name the host too. Default: public addresses only.
    pub(crate) private_tools: Vec<String>,
    /// Private networks, addresses and host names that URLs in this file may lead to, such as a `base_url`. A URL with
    /// an IP address or `localhost` needs no entry here.
    pub(crate) private_servers: Vec<String>,
    /// Whether tools may use encrypted connections only.
    pub(crate) https_only: bool,
    /// Time that one request of a tool may take, redirects included, in milliseconds. The first byte must arrive within
    /// half of it, and no pause may be longer than a quarter.
    pub(crate) total_ms: u64,
    /// Most bytes that a tool reads of one answer.
    pub(crate) response_bytes_max: u64,
}

impl Default for WrittenEgress {
    fn default() -> Self {
        Self {
            private_tools: Vec::new(),
            private_servers: Vec::new(),
            https_only: false,
            total_ms: 60_000,
            response_bytes_max: 8 << 20,
        }
    }
}
