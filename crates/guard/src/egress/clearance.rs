//! What a line may reach: judged in part when only the URL is known, and in part when the addresses are.

use std::net::{IpAddr, SocketAddr};

use dromia_contracts::capability::WITHIN;
use dromia_contracts::egress::HttpMethod;
use dromia_contracts::gate::DEFAULT_DENY;

use super::address::{AddressClass, classify_address, embedded_address};
use super::names::NameResolver;
use super::private::PrivateAllowance;
use super::target::RequestTarget;
use super::{EgressConfig, EgressContext, EgressDenied};
use crate::capability::CapabilityRequest;
use crate::grant::find_covering_grant;

/// What a line may reach.
#[derive(Debug)]
pub(super) struct EgressPolicy {
    /// The one server, unless the grants of each request say what is covered.
    pub(super) named: Option<RequestTarget>,
}

/// How a request may go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EgressPermission {
    /// The rule that lets it out.
    pub(super) rule: String,
    /// Whether what the operator opens does not count for it.
    pub(super) is_strict: bool,
}

const NOT_NAMED: EgressDenied = EgressDenied {
    rule: "not the named server",
    reason: "this connection is for one server, and the request is for another",
};
const OWN_DOOR: EgressDenied =
    EgressDenied { rule: "own door", reason: "it is an entry point of this server" };
const NOT_GRANTED: EgressDenied = EgressDenied {
    rule: DEFAULT_DENY,
    reason: "this agent is not granted to reach that host in this way; nothing was sent there. Only an operator can \
             add \"net:\" or \"net.read:\" and the host to the agent's grants.",
};

const NOT_WITHIN: EgressDenied = EgressDenied {
    rule: "within",
    reason: "that host is outside the capability of this task; nothing was sent there",
};

impl EgressPolicy {
    /// Judges what is known before a name is looked up.
    pub(super) fn judge_target(
        &self,
        method: HttpMethod,
        target: &RequestTarget,
        grants: &[String],
        around: &EgressContext,
    ) -> Result<EgressPermission, EgressDenied> {
        let (rule, public_only) = match &self.named {
            Some(named) if target.is_at(named) => ("named by the configuration".to_owned(), false),
            Some(_) => return Err(NOT_NAMED),
            None => {
                let grants = &*around.narrow_grants(grants);
                let (mut rule, public_only) = match find_covering_grant(grants, method, target) {
                    Some((grant, reach)) => (format!("grant {grant}"), reach.is_public_only()),
                    None => (find_held_capability(grants, target, around)?, false),
                };
                for within in check_bounds(grants, target, around)? {
                    rule.extend([" and ", within.as_str()]);
                }
                (rule, public_only)
            }
        };
        let mut listeners = around.own_listeners();
        listeners.retain(|listener| listener.port() == target.port());
        let Some(address) = target.address() else {
            // Whatever address the name has, a listener of our own is at one that is not public or is here.
            return Ok(EgressPermission { rule, is_strict: public_only || !listeners.is_empty() });
        };
        if listeners.iter().any(|listener| leads_to(address, *listener, &*around.names)) {
            return Err(OWN_DOOR);
        }
        self.judge_address(None, address, public_only, around)?;
        Ok(EgressPermission { rule, is_strict: public_only })
    }

    /// Tells whether any name may be at an address that is not public.
    pub(super) fn opens_names(&self, around: &EgressContext) -> bool {
        !self.private_networks(&around.opened()).is_empty()
            || self.named.as_ref().is_some_and(RequestTarget::is_localhost)
    }

    /// Judges an address that was found under a name, or that the URL spells.
    pub(super) fn judge_address(
        &self,
        name: Option<&str>,
        address: IpAddr,
        is_strict: bool,
        around: &EgressContext,
    ) -> Result<(), EgressDenied> {
        let names = &*around.names;
        let found = embedded_address(address);
        let class = match classify_address(address) {
            AddressClass::Public if names.is_here(address) || (found != address && names.is_here(found)) => {
                AddressClass::Here
            }
            class => class,
        };
        let opened = || {
            self.is_meant(address, class)
                || self
                    .private_networks(&around.opened())
                    .iter()
                    .any(|private| private.allows_address(name, address, class))
        };
        if class == AddressClass::Public || (!is_strict && opened()) {
            Ok(())
        } else {
            Err(class.denied_reason())
        }
    }

    /// The private networks that the operator opens to this line.
    fn private_networks<'c>(&self, opened: &'c EgressConfig) -> &'c [PrivateAllowance] {
        if self.named.is_some() { &opened.private_named } else { &opened.private_granted }
    }

    /// Tells whether the configuration names this very address, or this machine.
    fn is_meant(&self, address: IpAddr, class: AddressClass) -> bool {
        let Some(named) = &self.named else { return false };
        named.address() == Some(address) || (named.is_localhost() && class == AddressClass::Loopback)
    }
}

/// Finds the capability of the holder of these grants that covers a server.
fn find_held_capability(
    grants: &[String],
    target: &RequestTarget,
    around: &EgressContext,
) -> Result<String, EgressDenied> {
    let capabilities = around.capabilities.get().ok_or(NOT_GRANTED)?;
    capabilities.find_covering(None, grants, &CapabilityRequest::of_target(target)).map_err(|_| NOT_GRANTED)
}

/// Keeps a run within what it stays within.
fn check_bounds(
    grants: &[String],
    target: &RequestTarget,
    around: &EgressContext,
) -> Result<Vec<String>, EgressDenied> {
    match around.capabilities.get() {
        Some(capabilities) => capabilities
            .check_bounds(None, grants, &[CapabilityRequest::of_target(target)])
            .map_err(|_| NOT_WITHIN),
        None if grants.iter().any(|text| text.starts_with(WITHIN)) => Err(NOT_WITHIN),
        None => Ok(Vec::new()),
    }
}

/// Tells whether a connection to an address would end at a listener of this server.
fn leads_to(address: IpAddr, listener: SocketAddr, names: &dyn NameResolver) -> bool {
    let (address, listens) = (embedded_address(address), embedded_address(listener.ip()));
    let is_own = || {
        matches!(classify_address(address), AddressClass::Loopback | AddressClass::Unspecified)
            || names.is_here(address)
    };
    // A connection to no address goes to the loopback.
    let as_loopback = address.is_unspecified() && listens.is_loopback();
    address == listens || as_loopback || (listens.is_unspecified() && is_own())
}
