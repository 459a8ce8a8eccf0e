//! What an address is worth: public, or one of the kinds that lead inside.
//!
//! Pure and total. An IPv4 address that hides in an IPv6 address (mapped, compatible, translated, NAT64, 6to4, Teredo,
//! ISATAP) is taken for what it hides. Whatever the registries do not give to the public is not public: of IPv6 only
//! 2000::/3 can be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::EgressDenied;

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// A public address.
    Public,
    /// This machine, by an address that others may reach too.
    Here,
    /// This machine.
    Loopback,
    /// A network of one's own, that of a carrier, or one for measurements.
    Private,
    /// The wire next to this machine.
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    /// No address at all, which systems take for this machine.
    Unspecified,
    /// Many at once.
    Multicast,
    /// A tunnel of IPv4 in IPv6 whose end is not known.
    Tunnel,
    /// Kept for documentation, protocols or the future.
    Reserved,
}

impl AddressClass {
    /// Tells whether an operator can open it by a network that contains it.
    pub(super) const fn is_grantable(self) -> bool {
        match self {
            Self::Public | Self::Here | Self::Loopback | Self::Private | Self::LinkLocal => true,
            Self::Metadata | Self::Unspecified | Self::Multicast | Self::Tunnel | Self::Reserved => false,
        }
    }

    /// Says why it is refused.
    pub(super) const fn denied_reason(self) -> EgressDenied {
        let (rule, reason) = match self {
            Self::Public => ("public address", "this connection does not reach public addresses"),
            Self::Here => (
                "address of this machine",
                "it has an address of this machine; an operator can allow it in dromia.yaml, under egress",
            ),
            Self::Loopback => (
                "loopback address",
                "it has a loopback address; an operator can allow it in dromia.yaml, under egress",
            ),
            Self::Private => (
                "private address",
                "it has a private address; an operator can allow it in dromia.yaml, under egress",
            ),
            Self::LinkLocal => (
                "link-local address",
                "it has a link-local address; an operator can allow it in dromia.yaml, under egress",
            ),
            Self::Metadata => ("metadata address", "it has an address at which clouds hand out credentials"),
            Self::Unspecified => ("unspecified address", "0.0.0.0 and :: are not addresses of a host"),
            Self::Multicast => ("multicast address", "it has a multicast address"),
            Self::Tunnel => ("tunnel address", "it has an address of a tunnel from IPv6 to IPv4"),
            Self::Reserved => ("reserved address", "it has a reserved address"),
        };
        EgressDenied { rule, reason }
    }
}

/// Addresses at which clouds answer any client from inside; some are public to the registries.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 123)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// Networks of IPv4 that are not public.
const NETWORKS: &[([u8; 4], u32, AddressClass)] = &[
    ([0, 0, 0, 0], 8, AddressClass::Unspecified),
    ([10, 0, 0, 0], 8, AddressClass::Private),
    ([100, 64, 0, 0], 10, AddressClass::Private),
    ([127, 0, 0, 0], 8, AddressClass::Loopback),
    ([169, 254, 0, 0], 16, AddressClass::LinkLocal),
    ([172, 16, 0, 0], 12, AddressClass::Private),
    ([192, 0, 0, 0], 24, AddressClass::Reserved),
    ([192, 0, 2, 0], 24, AddressClass::Reserved),
    ([192, 88, 99, 0], 24, AddressClass::Tunnel),
    ([192, 168, 0, 0], 16, AddressClass::Private),
    ([198, 18, 0, 0], 15, AddressClass::Private),
    ([198, 51, 100, 0], 24, AddressClass::Reserved),
    ([203, 0, 113, 0], 24, AddressClass::Reserved),
    ([224, 0, 0, 0], 4, AddressClass::Multicast),
    ([240, 0, 0, 0], 4, AddressClass::Reserved),
];

/// Says what an address is. It cannot know [`AddressClass::Here`], which depends on the machine.
pub fn classify_address(address: IpAddr) -> AddressClass {
    let meant = embedded_address(address);
    if METADATA.contains(&meant) || METADATA.contains(&address) {
        return AddressClass::Metadata;
    }
    match (address, meant) {
        (IpAddr::V4(v4), _) => classify_v4(v4),
        (IpAddr::V6(outer), IpAddr::V4(hidden)) => match (classify_v4(hidden), ipv4_embedding(outer)) {
            (AddressClass::Public, Some(Ipv4Embedding::Tunnel)) => AddressClass::Tunnel,
            // The prefix of such an address is an ordinary one.
            (AddressClass::Public, Some(Ipv4Embedding::Interface)) => classify_v6(outer),
            (class, _) => class,
        },
        (IpAddr::V6(v6), IpAddr::V6(_)) => classify_v6(v6),
    }
}

/// Takes an address for what it hides, if it hides one.
pub fn embedded_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let four = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match ipv4_embedding(v6) {
        None => address,
        Some(Ipv4Embedding::Plain | Ipv4Embedding::Interface) => four(12).into(),
        // 6to4 has it behind the prefix; Teredo has it at the end, with every bit turned over.
        Some(Ipv4Embedding::Tunnel) if octets[0] == 0x20 && octets[1] == 0x02 => four(2).into(),
        Some(Ipv4Embedding::Tunnel) => Ipv4Addr::from(!u32::from(four(12))).into(),
    }
}

/// How an IPv6 address hides an IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ipv4Embedding {
    /// Mapped, compatible, translated, or behind the well known prefix of NAT64.
    Plain,
    /// 6to4 and Teredo.
    Tunnel,
    /// ISATAP: in the part that names the interface.
    Interface,
}

fn ipv4_embedding(address: Ipv6Addr) -> Option<Ipv4Embedding> {
    match address.segments() {
        // These two are what they are.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(Ipv4Embedding::Plain),
        [0x2002, ..] | [0x2001, 0, ..] => Some(Ipv4Embedding::Tunnel),
        [_, _, _, _, 0 | 0x100 | 0x200 | 0x300, 0x5efe, _, _] => Some(Ipv4Embedding::Interface),
        _ => None,
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let bits = u32::from(address);
    let within = |network: [u8; 4], length: u32| {
        let unused = 32 - length;
        bits >> unused == u32::from(Ipv4Addr::from(network)) >> unused
    };
    let found = NETWORKS.iter().find(|(network, length, _)| within(*network, *length));
    found.map_or(AddressClass::Public, |(_, _, class)| *class)
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // NAT64 of a network of one's own.
        [0x64, 0xff9b, 1, ..] => AddressClass::Private,
        // Of the IETF's protocols, and for documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddressClass::Reserved,
        [first, ..] => match first {
            0xfc00..=0xfdff | 0xfec0..=0xfeff => AddressClass::Private,
            0xfe80..=0xfebf => AddressClass::LinkLocal,
            0xff00..=0xffff => AddressClass::Multicast,
            0x2000..=0x3fff => AddressClass::Public,
            _ => AddressClass::Reserved,
        },
    }
}
