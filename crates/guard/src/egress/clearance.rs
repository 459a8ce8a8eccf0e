//! What a line may reach: judged in part when only the URL is known, and in part when the addresses are.

use std::net::{IpAddr, SocketAddr};

use dromia_contracts::capability::WITHIN;
use dromia_contracts::egress::Method;

use super::address::{Class, classify, meant};
use super::names::Names;
use super::private::Private;
use super::target::Target;
use super::{Refused, Surroundings, reach};
use crate::capability::Sought;
use crate::gate::DEFAULT_DENY;

/// What a line may reach.
#[derive(Debug)]
pub(super) struct Clearance {
    /// The one server, unless the grants of each request say what is covered.
    pub(super) named: Option<Target>,
    /// What the operator opens of what is not public.
    pub(super) private: Vec<Private>,
}

/// How a request may go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The rule that lets it out.
    pub(super) rule: String,
    /// Whether what the operator opens does not count for it.
    pub(super) is_strict: bool,
}

const NOT_NAMED: Refused =
    Refused { rule: "not the named server", reason: "this line leads to one server, and this is another" };
const OWN_DOOR: Refused = Refused { rule: "own door", reason: "it is a door of this very server" };
const NOT_GRANTED: Refused = Refused {
    rule: DEFAULT_DENY,
    reason: "this agent is not granted to reach that host in this way; nothing was sent there. Only an operator can \
             add \"net:\" or \"net.read:\" and the host to the agent's grants.",
};

const NOT_WITHIN: Refused = Refused {
    rule: "within",
    reason: "this task may do less than its agent, and that host is outside of it; nothing was sent there",
};

impl Clearance {
    /// Judges what is known before a name is looked up.
    pub(super) fn judge(
        &self,
        method: Method,
        target: &Target,
        grants: &[String],
        around: &Surroundings,
    ) -> Result<Way, Refused> {
        let (rule, public_only) = match &self.named {
            Some(named) if target.is_at(named) => ("named by the configuration".to_owned(), false),
            Some(_) => return Err(NOT_NAMED),
            None => {
                let (mut rule, public_only) = match reach::covering(grants, method, target) {
                    Some((grant, reach)) => (format!("grant {grant}"), reach.is_public_only()),
                    None => (held(grants, target, around)?, false),
                };
                for within in bounding(grants, target, around)? {
                    rule.extend([" and ", within.as_str()]);
                }
                (rule, public_only)
            }
        };
        let names = &*around.names;
        let mut doors = around.doors();
        doors.retain(|door| door.port() == target.port());
        let Some(address) = target.address() else {
            // Whatever the name turns out to be at, a door of our own is at an address that is not public or is here.
            return Ok(Way { rule, is_strict: public_only || !doors.is_empty() });
        };
        if doors.iter().any(|door| leads_to(address, *door, names)) {
            return Err(OWN_DOOR);
        }
        self.judge_address(None, address, public_only, names)?;
        Ok(Way { rule, is_strict: public_only })
    }

    /// Tells whether any name may be at an address that is not public.
    pub(super) fn opens_names(&self) -> bool {
        !self.private.is_empty() || self.named.as_ref().is_some_and(Target::is_localhost)
    }

    /// Judges an address that was found under a name, or that stands in the URL.
    pub(super) fn judge_address(
        &self,
        name: Option<&str>,
        address: IpAddr,
        is_strict: bool,
        names: &dyn Names,
    ) -> Result<(), Refused> {
        let found = meant(address);
        let class = match classify(address) {
            Class::Public if names.is_here(address) || (found != address && names.is_here(found)) => {
                Class::Here
            }
            class => class,
        };
        let opened = || {
            self.is_meant(address, class)
                || self.private.iter().any(|private| private.opens(name, address, class))
        };
        if class == Class::Public || (!is_strict && opened()) { Ok(()) } else { Err(class.refused()) }
    }

    /// Tells whether the configuration names this very address, or this machine.
    fn is_meant(&self, address: IpAddr, class: Class) -> bool {
        let Some(named) = &self.named else { return false };
        named.address() == Some(address) || (named.is_localhost() && class == Class::Loopback)
    }
}

/// Finds the capability of whoever has these grants that covers a server.
fn held(grants: &[String], target: &Target, around: &Surroundings) -> Result<String, Refused> {
    let capabilities = around.capabilities.get().ok_or(NOT_GRANTED)?;
    capabilities.covering(None, grants, &Sought::of_target(target)).map_err(|_| NOT_GRANTED)
}

/// Keeps a run within what it stays within.
fn bounding(grants: &[String], target: &Target, around: &Surroundings) -> Result<Vec<String>, Refused> {
    match around.capabilities.get() {
        Some(capabilities) => {
            capabilities.bounding(None, grants, &[Sought::of_target(target)]).map_err(|_| NOT_WITHIN)
        }
        None if grants.iter().any(|text| text.starts_with(WITHIN)) => Err(NOT_WITHIN),
        None => Ok(Vec::new()),
    }
}

/// Tells whether a connection to an address would end at a door.
fn leads_to(address: IpAddr, door: SocketAddr, names: &dyn Names) -> bool {
    let (address, listens) = (meant(address), meant(door.ip()));
    let is_own =
        || matches!(classify(address), Class::Loopback | Class::Unspecified) || names.is_here(address);
    // A connection to no address goes to the loopback.
    let as_loopback = address.is_unspecified() && listens.is_loopback();
    address == listens || as_loopback || (listens.is_unspecified() && is_own())
}
