//! Which hosts an agent may reach, as a grant spells it.
//!
//! `net:HOST` covers every method, `net.read:HOST` those that only look, `net.post:HOST` and its like one. HOST is a
//! name, an address, `*.NAME` for every name below one, or `*` for every public address; a port follows it where it is
//! not the scheme's own. Matching is by parts: no prefix or suffix of a text decides. A grant opens nothing by itself
//! that is not public; that is the operator's.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use dromia_contracts::egress::HttpMethod;

use super::target::{RequestTarget, is_name};
use crate::grant::Grant;

/// One grant of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGrant<'a> {
    methods: MethodSet,
    hosts: HostPattern<'a>,
    port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum MethodSet {
    All,
    Safe,
    One(HttpMethod),
}

/// Which hosts are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostPattern<'a> {
    /// Every public one.
    Public,
    /// Every name below this one.
    Below(&'a str),
    /// This one.
    One(&'a str),
}

const METHODS: &str = "after net. comes read, get, head, post, put, patch or delete";
const HOST: &str =
    "after the colon comes a host in lower case, *.NAME or *, and a port if it is not 80 or 443";

impl<'a> NetworkGrant<'a> {
    /// Reads a grant that begins with `net`; nothing if it is of another kind.
    pub(crate) fn parse(text: &'a str) -> Option<Result<Self, &'static str>> {
        let (kind, place) = text.split_once(':')?;
        let methods = match kind.strip_prefix("net")? {
            "" => MethodSet::All,
            ".read" => MethodSet::Safe,
            other => {
                let word = other.strip_prefix('.')?;
                match HttpMethod::ALL.into_iter().find(|method| method.as_str().to_ascii_lowercase() == word)
                {
                    Some(method) => MethodSet::One(method),
                    None => return Some(Err(METHODS)),
                }
            }
        };
        Some(place_of(place).map(|(hosts, port)| Self { methods, hosts, port }).ok_or(HOST))
    }

    /// Tells whether it covers a request.
    pub fn covers_request(self, method: HttpMethod, target: &RequestTarget) -> bool {
        let methods = match self.methods {
            MethodSet::All => true,
            MethodSet::Safe => method.is_safe(),
            MethodSet::One(one) => one == method,
        };
        let port = self.port.map_or_else(|| target.has_own_port(), |port| port == target.port());
        methods && port && self.hosts.matches_host(target.host(), target.address().is_some())
    }

    /// Tells whether it covers every request that another one covers.
    pub(crate) fn covers_reach(self, other: NetworkGrant<'_>) -> bool {
        let methods = match (self.methods, other.methods) {
            (MethodSet::All, _) => true,
            (MethodSet::Safe, MethodSet::One(one)) => one.is_safe(),
            (outer, inner) => outer == inner,
        };
        let hosts = match (self.hosts, other.hosts) {
            // What an operator opens is meant by a grant that names it, and not by one for every public host.
            (HostPattern::Below(name), HostPattern::One(host)) => {
                HostPattern::Below(name).matches_host(host, is_address(host))
            }
            (HostPattern::Below(outer), HostPattern::Below(inner)) => {
                outer == inner || HostPattern::Below(outer).matches_host(inner, false)
            }
            (outer, inner) => outer == inner,
        };
        methods && hosts && self.port == other.port
    }

    /// Tells whether it names no host, so that nothing an operator opens is meant by it.
    pub(super) fn is_public_only(self) -> bool {
        self.hosts == HostPattern::Public
    }
}

impl<'a> HostPattern<'a> {
    /// Reads hosts in canonical form.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Public);
        }
        if let Some(name) = text.strip_prefix("*.") {
            return is_name(name).then_some(Self::Below(name));
        }
        (is_name(text) || is_address(text)).then_some(Self::One(text))
    }

    /// Tells whether a host is one of them.
    pub(super) fn matches_host(self, host: &str, is_address: bool) -> bool {
        match self {
            Self::Public => true,
            Self::One(one) => one == host,
            Self::Below(name) => {
                !is_address
                    && host.strip_suffix(name).is_some_and(|above| above.len() > 1 && above.ends_with('.'))
            }
        }
    }
}

/// Finds the grant that covers a request; one that names the host counts before one that does not.
pub(crate) fn find_covering_grant<'g>(
    grants: &'g [String],
    method: HttpMethod,
    target: &RequestTarget,
) -> Option<(&'g str, NetworkGrant<'g>)> {
    let covering = grants.iter().filter_map(|text| match Grant::parse(text) {
        Ok(Grant::Net(reach)) if reach.covers_request(method, target) => Some((text.as_str(), reach)),
        _ => None,
    });
    covering.min_by_key(|(_, reach)| reach.is_public_only())
}

fn place_of(place: &str) -> Option<(HostPattern<'_>, Option<u16>)> {
    let is_bare_v6 = place.ends_with(']');
    let (host, port) = match place.rsplit_once(':').filter(|_| !is_bare_v6) {
        None => (place, None),
        Some((host, port)) => {
            let number: u16 = port.parse().ok()?;
            if number == 0 || number.to_string() != port {
                return None;
            }
            (host, Some(number))
        }
    };
    Some((HostPattern::parse(host)?, port))
}

/// Tells whether a text is an address as a URL has it.
fn is_address(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok_and(|v6| v6.to_string() == inner);
    }
    text.parse::<Ipv4Addr>().is_ok()
}

impl fmt::Display for NetworkGrant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("net")?;
        match self.methods {
            MethodSet::All => {}
            MethodSet::Safe => f.write_str(".read")?,
            MethodSet::One(method) => write!(f, ".{}", method.as_str().to_ascii_lowercase())?,
        }
        match self.hosts {
            HostPattern::Public => f.write_str(":*")?,
            HostPattern::Below(name) => write!(f, ":*.{name}")?,
            HostPattern::One(host) => write!(f, ":{host}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
