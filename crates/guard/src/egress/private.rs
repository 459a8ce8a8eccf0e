//! What an operator opens of the networks that are not public: a network, an address, or a name.
//!
//! Where clouds hand out credentials is opened only by that very address, and nothing opens a multicast, reserved or
//! unspecified address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::address::{AddressClass, embedded_address};
use super::host_pattern::HostPattern;

/// One thing that is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrivateAllowance {
    /// Every address of a network, under whatever name.
    Network(Cidr),
    /// A name, or every name below one (`*.NAME`), at a loopback or private address.
    Name(String),
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u32,
}

/// Says why a text opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// It is none of the three.
    #[error("expected a network such as 10.0.0.0/8, an address, a host name in lower case, or *.NAME")]
    Unreadable,
    /// The address has bits behind those that count.
    #[error("the network's address has bits set after the first {bits}")]
    HostBits {
        /// How many count.
        bits: u32,
    },
    /// It would open everything.
    #[error("it would open every network; name only the networks that you need")]
    Everything,
}

impl PrivateAllowance {
    /// Tells whether it opens an address that is of a class and was found under a name.
    pub(super) fn allows_address(&self, name: Option<&str>, address: IpAddr, class: AddressClass) -> bool {
        match self {
            Self::Network(network) => {
                let found = embedded_address(address);
                network.contains(found)
                    && (class.is_grantable() || (class == AddressClass::Metadata && network.is_one_address()))
            }
            Self::Name(pattern) => {
                let inside =
                    matches!(class, AddressClass::Loopback | AddressClass::Private | AddressClass::Here);
                let hosts = HostPattern::parse(pattern);
                inside && name.is_some_and(|name| hosts.is_some_and(|hosts| hosts.matches_host(name, false)))
            }
        }
    }
}

impl Cidr {
    fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let unused = 32 - self.bits;
                u32::from(base).checked_shr(unused) == u32::from(address).checked_shr(unused)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let unused = 128 - self.bits;
                u128::from(base).checked_shr(unused) == u128::from(address).checked_shr(unused)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn is_one_address(self) -> bool {
        self.bits == address_bits(self.base)
    }
}

/// How many bits an address has.
const fn address_bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for PrivateAllowance {
    type Err = PrivateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(base) = text.parse::<IpAddr>() {
            return Ok(Self::Network(Cidr { base, bits: address_bits(base) }));
        }
        if let Some((base, bits)) = text.split_once('/') {
            let base: IpAddr = base.parse().map_err(|_| PrivateError::Unreadable)?;
            let bits: u32 = bits.parse().map_err(|_| PrivateError::Unreadable)?;
            if bits > address_bits(base) {
                return Err(PrivateError::Unreadable);
            }
            if bits == 0 {
                return Err(PrivateError::Everything);
            }
            let is_base = match base {
                IpAddr::V4(v4) => u32::from(v4).checked_shl(bits).unwrap_or(0) == 0,
                IpAddr::V6(v6) => u128::from(v6).checked_shl(bits).unwrap_or(0) == 0,
            };
            if !is_base {
                return Err(PrivateError::HostBits { bits });
            }
            return Ok(Self::Network(Cidr { base, bits }));
        }
        match HostPattern::parse(text) {
            Some(HostPattern::Public) => Err(PrivateError::Everything),
            Some(HostPattern::Below(_) | HostPattern::One(_)) => Ok(Self::Name(text.to_owned())),
            None => Err(PrivateError::Unreadable),
        }
    }
}

impl fmt::Display for PrivateAllowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(Cidr { base, bits }) => write!(f, "{base}/{bits}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::address::classify_address;

    fn opens(allowed: &str, name: Option<&str>, address: &str) -> bool {
        let address = address.parse().expect(address);
        let allowed: PrivateAllowance = allowed.parse().expect(allowed);
        allowed.allows_address(name, address, classify_address(address))
    }

    #[test]
    fn a_network_opens_its_own_addresses_and_no_other() {
        for (allowed, address, opened) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.0.0/16", "::ffff:10.1.0.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("fd12::/16", "fd12:ffff::1", true),
            ("fd12::/16", "fd13::1", false),
            ("fd12::1", "fd12::1", true),
            ("fd12::1", "fd12::", false),
            ("fd12::/16", "10.1.0.1", false),
            ("169.254.0.0/16", "169.254.1.1", true),
            // Credentials: by that very address only.
            ("169.254.0.0/16", "169.254.169.254", false),
            ("169.254.169.254", "169.254.169.254", true),
            ("fd00:ec2::/32", "fd00:ec2::254", false),
            ("fd00:ec2::254", "fd00:ec2::254", true),
            // Nothing opens these.
            ("224.0.0.1", "224.0.0.1", false),
            ("0.0.0.0/8", "0.0.0.0", false),
            ("240.0.0.1", "240.0.0.1", false),
        ] {
            assert_eq!(opens(allowed, None, address), opened, "{allowed} {address}");
        }
    }

    #[test]
    fn a_name_opens_only_what_lies_inside_and_is_found_there() {
        for (allowed, name, address, opened) in [
            ("wiki", Some("wiki"), "10.0.0.1", true),
            ("wiki", Some("wiki"), "127.0.0.1", true),
            ("wiki", Some("other"), "10.0.0.1", false),
            ("wiki", None, "10.0.0.1", false),
            ("*.corp.example", Some("a.corp.example"), "10.0.0.1", true),
            ("*.corp.example", Some("corp.example"), "10.0.0.1", false),
            ("wiki", Some("wiki"), "169.254.1.1", false),
            ("wiki", Some("wiki"), "169.254.169.254", false),
        ] {
            assert_eq!(opens(allowed, name, address), opened, "{allowed} {name:?} {address}");
        }
    }
}
