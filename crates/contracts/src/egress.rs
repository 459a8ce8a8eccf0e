//! The ports through which anything of this process reaches another host.
//!
//! An [`Egress`] opens lines; a [`EgressClient`] sends requests. A line is for one purpose: either the one server that the
//! operator's configuration names, or whatever an agent's grants cover. What a line may reach is judged where its
//! addresses are known, at every hop; what was judged comes back as [`EgressDecision`]s, which a journal can keep.
//!
//! Nothing here resolves a name, opens a socket or knows a library of HTTP.

mod failure;
mod method;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::failure::{EgressError, EgressFault, LineError, OversizedPart, TimeoutPhase};
pub use self::method::HttpMethod;
use crate::BoxFuture;
use crate::capability_grant::HOLDER;
use crate::vault::SecretUse;

/// Returns whether a grant may cover a host: it names some, or says whose capabilities are asked at each connection.
pub fn may_reach(grant: &str) -> bool {
    ["net:", "net.", HOLDER].iter().any(|kind| grant.starts_with(kind))
}

/// What a prepared call would reach, for the gate. The line judges it again, and every hop that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressTarget {
    /// What would be asked.
    pub method: HttpMethod,
    /// The canonical address.
    pub url: String,
    /// The names of the secrets that it would use.
    pub secrets: Vec<String>,
}

/// What a line is for.
#[derive(Clone, PartialEq, Eq)]
pub enum EgressPurpose {
    /// The one server that the operator's configuration names by this address; its path and query do not count.
    Named(String),
    /// The same, for a server whose key is in the vault: a request may use the secret that it names.
    Keyed(String),
    /// The one server that the operator's configuration names for a tool by this address. What is sent there is sent for
    /// tenants: it may use their secrets, and each has its share.
    Tool(String),
    /// Whatever the grants of each request cover.
    Granted,
}

// An address of a configuration may carry a token.
impl fmt::Debug for EgressPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named(_) => "Named(..)",
            Self::Keyed(_) => "Keyed(..)",
            Self::Tool(_) => "Tool(..)",
            Self::Granted => "Granted",
        })
    }
}

/// How much and how long. Each is a bound of one request, except the two that say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineLimits {
    /// Until a connection is open, name resolution included.
    pub connect: Duration,
    /// From sending to the head of the answer, at each hop.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub stall: Duration,
    /// From beginning to end, over all hops.
    pub total: Duration,
    /// The most bytes of what is sent.
    pub request_bytes_max: usize,
    /// The most bytes of the headers that are sent, and of those that come.
    pub header_bytes_max: usize,
    /// The most bytes of the answer, which is taken unpacked only.
    pub response_bytes_max: u64,
    /// The most redirects that are followed; with none a redirect is an answer.
    pub redirects_max: usize,
    /// Whether only encrypted connections are made.
    pub https_only: bool,
    /// The most requests of the line at once, and half of them of one share; more of them wait.
    pub requests_max: usize,
    /// The most idle connections of the line to each host.
    pub idle_connections_max: usize,
}

/// A line that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressClientConfig {
    /// What it is for.
    pub route: EgressPurpose,
    /// How much and how long.
    pub limits: LineLimits,
}

/// One request.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressRequest {
    /// What is asked.
    pub method: HttpMethod,
    /// Of what.
    pub url: String,
    /// Names and values, beside those that the line sets itself.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
    /// What the agent is granted on whose behalf it is sent; a named line asks for none, and one of a tool or of a server
    /// whose key is in the vault for secrets only.
    pub grants: Vec<String>,
    /// Whose share of the line it counts against, such as a tenant's; a named line has no shares.
    pub share: String,
    /// What of the vault is put in, where it is for the very server that is asked.
    pub secrets: Vec<SecretUse>,
}

// Addresses and headers carry keys.
impl fmt::Debug for EgressRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// A tunnel that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelRequest {
    /// The host and the port, as in an address: `example.com:443`, `[2001:db8::1]:443`.
    pub to: String,
    /// What the agent is granted on whose behalf it is dug. Only a grant of every method covers a tunnel.
    pub grants: Vec<String>,
    /// Whose share of the line it counts against, such as a tenant's.
    pub share: String,
}

/// A tunnel: bytes in both directions that are not inspected.
///
/// It may be silent for as long as the line's total time; of the bytes in each direction there are as many as the line
/// lets a request and an answer have. Dropping both halves closes it.
pub struct EgressTunnel {
    /// What was judged.
    pub decisions: Vec<EgressDecision>,
    /// What comes.
    pub down: Box<dyn EgressBody>,
    /// What goes.
    pub up: Box<dyn TunnelUpload>,
}

impl fmt::Debug for EgressTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("decisions", &self.decisions).finish_non_exhaustive()
    }
}

/// The way into a tunnel.
///
/// Guarantee: the bounds of its line hold for it. After an error nothing more is taken.
pub trait TunnelUpload: Send {
    /// Sends bytes; waits until they are on their way.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), EgressFault>>;

    /// Says that nothing more comes; what comes back goes on.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), EgressFault>>;
}

/// What was judged about one hop, without path, query or header: fit for a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressDecision {
    /// What was asked.
    pub method: HttpMethod,
    /// The scheme, the host and the port; empty where the address could not be read.
    pub to: String,
    /// The address that was connected to, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Whether it was let out.
    pub allowed: bool,
    /// The rule that let it out or refused it.
    pub rule: String,
}

/// The head of an answer, and its body to be read.
pub struct EgressResponse {
    /// The status.
    pub status: u16,
    /// Names in lower case and values. What is no UTF-8 in a value is shown as U+FFFD.
    pub headers: Vec<(String, String)>,
    /// Where the answer comes from, after redirects.
    pub url: String,
    /// What was judged on the way, in order; the last is the answer's.
    pub decisions: Vec<EgressDecision>,
    /// The body.
    pub body: Box<dyn EgressBody>,
}

impl fmt::Debug for EgressResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("decisions", &self.decisions)
            .finish_non_exhaustive()
    }
}

/// Finds the first value of a header by its name in lower case.
pub fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A body that comes in pieces.
///
/// Guarantee: the bounds of its line hold for it; a body that is too long or packed is an error here, and its head is seen
/// all the same. After an error or the end there is nothing more. Dropping it drops the connection, unless it was read to
/// its end.
pub trait EgressBody: Send {
    /// Waits for the next piece; nothing at the end.
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>>;
}

/// The port to other hosts.
///
/// Guarantee: no line, whatever its requests say, reaches an address that its purpose does not cover: a name is resolved
/// once for a connection, the addresses are judged, and the connection goes to one of these. Proxies of the environment
/// are not used.
pub trait Egress: Send + Sync + fmt::Debug {
    /// Opens a line. Nothing is resolved and nothing is connected yet.
    fn open_client(&self, plan: EgressClientConfig) -> Result<Arc<dyn EgressClient>, LineError>;
}

/// A way out, for one purpose.
///
/// Guarantee: a request ends by the line's own deadlines, and dropping the future ends it. It is sent once; only a
/// request that did not leave this process is tried on another connection.
pub trait EgressClient: Send + Sync + fmt::Debug {
    /// Sends a request and waits for the head of its answer.
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>>;

    /// Opens a tunnel: the name is resolved once, the addresses are judged, and the connection goes to one of these.
    fn request_tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_written_in_few_words_and_read_back() {
        let decision = EgressDecision {
            method: HttpMethod::Get,
            to: "https://example.com:443".to_owned(),
            address: Some(IpAddr::from([93, 184, 216, 34])),
            allowed: true,
            rule: "grant net:example.com".to_owned(),
        };
        let json = serde_json::to_string(&decision).expect("it is data");
        assert_eq!(
            json,
            r#"{"method":"GET","to":"https://example.com:443","address":"93.184.216.34","allowed":true,"rule":"grant net:example.com"}"#
        );
        assert_eq!(serde_json::from_str::<EgressDecision>(&json).expect("it is read"), decision);
    }

    #[test]
    fn nothing_that_may_be_a_key_is_shown() {
        let request = EgressRequest {
            method: HttpMethod::Post,
            url: "https://canary.example".to_owned(),
            headers: vec![("authorization".to_owned(), "canary".to_owned())],
            body: Bytes::from_static(b"canary"),
            grants: vec!["net:*".to_owned()],
            share: String::new(),
            secrets: Vec::new(),
        };
        let route = EgressPurpose::Named("https://h/canary".to_owned());
        assert!(!format!("{request:?} {route:?}").contains("canary"));
    }

    #[test]
    fn network_grants_and_held_capabilities_let_hosts_be_reached() {
        for grant in ["net:docs.rs", "net:*", "net.read:docs.rs", "holder:ten_1/agt_1"] {
            assert!(may_reach(grant), "{grant}");
        }
        for grant in ["exec", "network.read", "netto:docs.rs", "within:ten_1/agt_1/cap_1", "privileged:exec"]
        {
            assert!(!may_reach(grant), "{grant}");
        }
    }
}
