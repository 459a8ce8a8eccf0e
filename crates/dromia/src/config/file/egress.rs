//! Egress: what may be reached on other hosts, and within which bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be reached on other hosts, and within which bounds. An agent reaches what its `net:` grants cover, and of
/// that only what is public, unless it is opened here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenEgress {
    /// Networks, addresses and names (`10.0.0.0/8`, `wiki`, `*.corp.example`) that tools may reach though they are not
    /// public, where an agent's grants name the host.
    pub(crate) private_tools: Vec<String>,
    /// The same for servers that this file names by a name, such as a `base_url`; an address, or `localhost`, opens
    /// itself for that server only.
    pub(crate) private_servers: Vec<String>,
    /// Whether tools make encrypted connections only.
    pub(crate) https_only: bool,
    /// How long a tool's request may take from beginning to end, redirects included, in milliseconds. Half of it is for the
    /// head of an answer, and a quarter for one pause.
    pub(crate) total_ms: u64,
    /// The most bytes of an answer that a tool reads.
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
