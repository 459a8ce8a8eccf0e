//! The ports through which anything of this process reaches another host.
//!
//! An [`Egress`] opens lines; a [`Line`] sends requests. A line is for one purpose: either the one server that the
//! operator's configuration names, or whatever an agent's grants cover. What a line may reach is judged where its
//! addresses are known, at every hop; what was judged comes back as [`Decision`]s, which a journal can keep.
//!
//! Nothing here resolves a name, opens a socket or knows a library of HTTP.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::capability::HOLDER;
use crate::vault::SecretUse;

/// Tells whether a grant may cover a host: it names some, or says whose capabilities are asked at each connection.
pub fn may_reach(grant: &str) -> bool {
    ["net:", "net.", HOLDER].iter().any(|kind| grant.starts_with(kind))
}

/// What a request asks to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Carry bytes to it that nobody looks at: a tunnel, which is no request.
    Connect,
    /// Remove it.
    Delete,
    /// Show it.
    #[default]
    Get,
    /// Show what is known about it.
    Head,
    /// Change a part of it.
    Patch,
    /// Do something with what is sent.
    Post,
    /// Replace it.
    Put,
}

impl Method {
    /// Every method of a request.
    pub const ALL: [Self; 6] = [Self::Delete, Self::Get, Self::Head, Self::Patch, Self::Post, Self::Put];

    /// Returns the method as it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// Tells whether the standard says that it only looks.
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Get | Self::Head => true,
            Self::Connect | Self::Delete | Self::Patch | Self::Post | Self::Put => false,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a prepared call would reach, for the gate. The line judges it again, and every hop that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaches {
    /// What would be asked.
    pub method: Method,
    /// The canonical address.
    pub url: String,
    /// The names of the secrets that it would use.
    pub secrets: Vec<String>,
}

/// What a line is for.
#[derive(Clone, PartialEq, Eq)]
pub enum Route {
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
impl fmt::Debug for Route {
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
    /// Until a connection stands, name resolution included.
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
pub struct Plan {
    /// What it is for.
    pub route: Route,
    /// How much and how long.
    pub limits: LineLimits,
}

/// One request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
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
impl fmt::Debug for Request {
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

/// A tunnel: bytes in both directions that nobody looks at.
///
/// It may be silent for as long as the line's total time; of the bytes in each direction there are as many as the line
/// lets a request and an answer have. Dropping both halves closes it.
pub struct Tunnel {
    /// What was judged.
    pub decisions: Vec<Decision>,
    /// What comes.
    pub down: Box<dyn Body>,
    /// What goes.
    pub up: Box<dyn Upload>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("decisions", &self.decisions).finish_non_exhaustive()
    }
}

/// The way into a tunnel.
///
/// Guarantee: the bounds of its line hold for it. After an error nothing more is taken.
pub trait Upload: Send {
    /// Sends bytes; waits until they are on their way.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Failure>>;

    /// Says that nothing more comes; what comes back goes on.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>>;
}

/// What was judged about one hop, without path, query or header: fit for a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What was asked.
    pub method: Method,
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
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case and values. What is no UTF-8 in a value is shown as U+FFFD.
    pub headers: Vec<(String, String)>,
    /// Where the answer comes from, after redirects.
    pub url: String,
    /// What was judged on the way, in order; the last is the answer's.
    pub decisions: Vec<Decision>,
    /// The body.
    pub body: Box<dyn Body>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("decisions", &self.decisions)
            .finish_non_exhaustive()
    }
}

/// Finds the first value of a header by its name in lower case.
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A body that comes in pieces.
///
/// Guarantee: the bounds of its line hold for it; a body that is too long or packed is an error here, and its head is seen
/// all the same. After an error or the end there is nothing more. Dropping it drops the connection, unless it was read to
/// its end.
pub trait Body: Send {
    /// Waits for the next piece; nothing at the end.
    fn chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>>;
}

/// Which wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For a connection.
    Connect,
    /// For the head of the answer.
    FirstByte,
    /// For the next piece of the answer.
    Stall,
    /// For all of it.
    Total,
}

impl Phase {
    const fn words(self) -> &'static str {
        match self {
            Self::Connect => "no connection to it came about in time",
            Self::FirstByte => "it did not begin its answer in time",
            Self::Stall => "its answer stalled",
            Self::Total => "it did not finish its answer in time",
        }
    }
}

/// What was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversized {
    /// What would have been sent.
    Request,
    /// The headers, of the request or of the answer.
    Headers,
    /// The answer.
    Response,
}

impl Oversized {
    const fn words(self) -> &'static str {
        match self {
            Self::Request => "what would be sent is",
            Self::Headers => "the headers are",
            Self::Response => "the answer is",
        }
    }
}

/// Why there is no answer, or no more of it. The words name no address and repeat nothing of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may not be reached; nothing was sent to where this was found.
    #[error("{reason}")]
    Refused {
        /// The rule that refused it.
        rule: String,
        /// Why, in words that the tenant may read.
        reason: String,
    },
    /// It is no request that could be sent.
    #[error("{problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// No connection came about.
    #[error("no connection to it can be made")]
    Unreachable,
    /// A wait was too long.
    #[error("{}", .0.words())]
    Late(Phase),
    /// There is no client to send it with.
    #[error("the HTTP client cannot be made: {cause}")]
    Unusable {
        /// What the library says.
        cause: String,
    },
    /// The connection broke.
    #[error("the connection broke before the answer was complete")]
    Broken,
    /// Something is longer than it may be.
    #[error("{} longer than the {bytes_max} bytes that may be", .part.words())]
    TooLarge {
        /// What is.
        part: Oversized,
        /// What it may have.
        bytes_max: u64,
    },
    /// The answer is packed, though it was asked for as it is; nobody knows how long it would become.
    #[error("the answer is compressed, and only plain answers are taken")]
    Packed,
    /// There are more redirects than are followed.
    #[error("it redirects more often than the {max} times that are followed")]
    Redirects {
        /// How many are followed.
        max: usize,
    },
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct EgressError {
    /// Why.
    pub failure: Failure,
    /// Whether somebody may have got a request, and acted on it.
    pub is_sent: bool,
    /// What was judged on the way.
    pub decisions: Vec<Decision>,
}

/// Says that a line cannot be opened: the address that the configuration names cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address cannot be used: {problem}")]
pub struct LineError {
    /// What is wrong with it, without the address.
    pub problem: String,
}

/// The port to other hosts.
///
/// Guarantee: no line, whatever its requests say, reaches an address that its purpose does not cover: a name is resolved
/// once for a connection, the addresses are judged, and the connection goes to one of these. Proxies of the environment
/// are not used.
pub trait Egress: Send + Sync + fmt::Debug {
    /// Opens a line. Nothing is resolved and nothing is connected yet.
    fn line(&self, plan: Plan) -> Result<Arc<dyn Line>, LineError>;
}

/// A way out, for one purpose.
///
/// Guarantee: a request ends by the line's own deadlines, and dropping the future ends it. It is sent once; only a
/// request that did not leave this process is tried on another connection.
pub trait Line: Send + Sync + fmt::Debug {
    /// Sends a request and waits for the head of its answer.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, EgressError>>;

    /// Opens a tunnel: the name is resolved once, the addresses are judged, and the connection goes to one of these.
    fn tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<Tunnel, EgressError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_written_in_few_words_and_read_back() {
        let decision = Decision {
            method: Method::Get,
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
        assert_eq!(serde_json::from_str::<Decision>(&json).expect("it is read"), decision);
    }

    #[test]
    fn nothing_that_may_be_a_key_is_shown() {
        let request = Request {
            method: Method::Post,
            url: "https://canary.example".to_owned(),
            headers: vec![("authorization".to_owned(), "canary".to_owned())],
            body: Bytes::from_static(b"canary"),
            grants: vec!["net:*".to_owned()],
            share: String::new(),
            secrets: Vec::new(),
        };
        let route = Route::Named("https://h/canary".to_owned());
        assert!(!format!("{request:?} {route:?}").contains("canary"));
    }

    #[test]
    fn a_failure_is_told_in_words() {
        let failure = Failure::TooLarge { part: Oversized::Response, bytes_max: 7 };
        assert_eq!(failure.to_string(), "the answer is longer than the 7 bytes that may be");
        assert_eq!(Failure::Late(Phase::Stall).to_string(), "its answer stalled");
    }

    #[test]
    fn hosts_are_reached_by_grants_of_the_network_and_by_what_somebody_holds() {
        for grant in ["net:docs.rs", "net:*", "net.read:docs.rs", "holder:ten_1/agt_1"] {
            assert!(may_reach(grant), "{grant}");
        }
        for grant in ["exec", "network.read", "netto:docs.rs", "within:ten_1/agt_1/cap_1", "privileged:exec"]
        {
            assert!(!may_reach(grant), "{grant}");
        }
    }
}
