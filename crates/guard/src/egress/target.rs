//! A URL as it will be connected to: scheme, host and port, read once.
//!
//! The parser is the one that browsers agree on, which takes `0x7f.1`, `2130706433` and full-width digits for the
//! address that they spell; the client connects to the same address, because it is given what was read here and not the
//! text. What the parser would repair in silence (blanks, backslashes, missing or doubled slashes, a name and password
//! before the host) is refused instead: no client writes such a thing by accident.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::EgressDenied;

/// The longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 8 << 10;
/// The longest name of a host, in bytes.
const NAME_BYTES_MAX: usize = 253;

/// Where a request goes.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestTarget {
    url: Url,
    host: String,
    address: Option<IpAddr>,
    port: u16,
}

const UNREADABLE: EgressDenied = EgressDenied { rule: "malformed url", reason: "the URL cannot be read" };
const TOO_LONG: EgressDenied =
    EgressDenied { rule: "malformed url", reason: "the URL has more than 8192 bytes" };
const SCHEME: EgressDenied =
    EgressDenied { rule: "scheme", reason: "only URLs that begin with http:// or https:// can be reached" };
const ODD: EgressDenied = EgressDenied {
    rule: "malformed url",
    reason: "a URL must not have spaces, control characters or backslashes",
};
const USERINFO: EgressDenied =
    EgressDenied { rule: "userinfo", reason: "a URL must not have a user name or an @ before its path" };
const NO_HOST: EgressDenied = EgressDenied { rule: "malformed url", reason: "the URL names no host" };
const ZONE: EgressDenied =
    EgressDenied { rule: "zone id", reason: "a URL must not name a network interface" };
const NAME: EgressDenied =
    EgressDenied { rule: "malformed url", reason: "the host of the URL is not a host name" };
const AUTHORITY: EgressDenied = EgressDenied {
    rule: "malformed url",
    reason: "a tunnel needs a host and a port, such as example.com:443",
};
const PORT: EgressDenied = EgressDenied { rule: "port", reason: "port 0 is not a valid port" };

impl RequestTarget {
    /// Reads a URL.
    pub fn parse_url(text: &str) -> Result<Self, EgressDenied> {
        if text.len() > URL_BYTES_MAX {
            return Err(TOO_LONG);
        }
        if is_odd(text) {
            return Err(ODD);
        }
        let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(SCHEME);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(NO_HOST);
        }
        if authority.contains('@') {
            return Err(USERINFO);
        }
        if authority.starts_with('[') && authority.contains('%') {
            return Err(ZONE);
        }
        Self::from_url(Url::parse(text).map_err(|_| UNREADABLE)?)
    }

    /// Reads where a tunnel leads: a host and a port, and nothing else. It is judged as an encrypted connection is.
    pub(super) fn read_authority(text: &str) -> Result<Self, EgressDenied> {
        let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
        if !has_port || text.contains(['/', '?', '#']) {
            return Err(AUTHORITY);
        }
        Self::parse_url(&format!("https://{text}/"))
    }

    /// Reads where a redirect leads.
    pub(super) fn join_redirect(&self, location: &str) -> Result<Self, EgressDenied> {
        if location.len() > URL_BYTES_MAX {
            return Err(TOO_LONG);
        }
        if is_odd(location) {
            return Err(ODD);
        }
        // What names a host by itself is read as strictly as any URL.
        let beginning = location.split(['/', '?', '#']).next().unwrap_or_default();
        if beginning.contains(':') {
            return Self::parse_url(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse_url(&format!("{}://{rest}", self.url.scheme()));
        }
        Self::from_url(self.url.join(location).map_err(|_| UNREADABLE)?)
    }

    fn from_url(mut url: Url) -> Result<Self, EgressDenied> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SCHEME);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(USERINFO);
        }
        url.set_fragment(None);
        let (host, address) = match url.host().ok_or(NO_HOST)? {
            Host::Ipv4(v4) => (v4.to_string(), Some(IpAddr::V4(v4))),
            Host::Ipv6(v6) => (format!("[{v6}]"), Some(IpAddr::V6(v6))),
            // The dot at the end means that nothing is to be added to the name; a certificate does not have it.
            Host::Domain(name) => (name.strip_suffix('.').unwrap_or(name).to_owned(), None),
        };
        if address.is_none() {
            if !is_name(&host) {
                return Err(NAME);
            }
            url.set_host(Some(&host)).map_err(|_| NAME)?;
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 0 {
            return Err(PORT);
        }
        Ok(Self { url, host, address, port })
    }

    /// The canonical URL.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The host in lower case: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, where the URL has one instead of a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Tells whether the connection would be encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Tells whether the port is the scheme's own.
    pub(crate) fn has_own_port(&self) -> bool {
        self.port == if self.is_encrypted() { 443 } else { 80 }
    }

    /// Tells whether the name is one for this machine.
    pub(super) fn is_localhost(&self) -> bool {
        self.host == "localhost" || self.host.ends_with(".localhost")
    }

    /// Tells whether nothing but the server is named.
    pub(crate) fn is_origin(&self) -> bool {
        self.url.path() == "/" && self.url.query().is_none()
    }

    /// Tells whether both are one server.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        (self.url.scheme(), &self.host, self.port) == (other.url.scheme(), &other.host, other.port)
    }
}

/// Scheme, host and port, without what may be a secret.
impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.url.scheme(), self.host, self.port)
    }
}

impl fmt::Debug for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

fn is_odd(text: &str) -> bool {
    text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\')
}

/// Tells whether a text is a host name in canonical form that is no address.
pub(super) fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(known)
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label) && !is_number
}
