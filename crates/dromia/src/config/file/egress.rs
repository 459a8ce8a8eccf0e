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
    /// How long a tool's request may take to connect, in milliseconds.
    pub(crate) connect_ms: u64,
    /// How long a tool's request may wait for the head of an answer, in milliseconds.
    pub(crate) first_byte_ms: u64,
    /// How long an answer may pause, in milliseconds.
    pub(crate) stall_ms: u64,
    /// How long a tool's request may take from beginning to end, redirects included, in milliseconds.
    pub(crate) total_ms: u64,
    /// The most redirects that a tool's request follows; with 0 a redirect is an answer.
    pub(crate) redirects_max: usize,
    /// The most bytes that a tool's request carries.
    pub(crate) request_bytes_max: usize,
    /// The most bytes of an answer that a tool reads.
    pub(crate) response_bytes_max: u64,
    /// The most bytes of headers, of a request and of an answer.
    pub(crate) header_bytes_max: usize,
    /// The most requests of tools at once, and half of them of one tenant; more of them wait.
    pub(crate) requests_max: usize,
}

impl Default for WrittenEgress {
    fn default() -> Self {
        Self {
            private_tools: Vec::new(),
            private_servers: Vec::new(),
            https_only: false,
            connect_ms: 5_000,
            first_byte_ms: 30_000,
            stall_ms: 15_000,
            total_ms: 60_000,
            redirects_max: 5,
            request_bytes_max: 256 << 10,
            response_bytes_max: 8 << 20,
            header_bytes_max: 32 << 10,
            requests_max: 64,
        }
    }
}
