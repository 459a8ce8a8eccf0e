//! How many connections each peer address has, so that one machine cannot shut the others out.
//!
//! An address of IPv6 counts with its /64, which one machine has as a whole; one of IPv4 that is written as IPv6 counts
//! as what it is. All clients behind one proxy share its address, so the bound must be above what a proxy needs.
//!
//! Bound: an entry for each address with a connection, and the connections are bounded. Nothing is remembered of an
//! address that has none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bits of an IPv6 address that tell one machine from another.
const NETWORK_BITS: u128 = u128::MAX << 64;

/// The addresses that have connections.
#[derive(Debug, Default)]
pub(crate) struct AddressLimiter {
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl AddressLimiter {
    /// Lets a connection of an address in, unless it has so many.
    pub(crate) fn acquire_permit(self: &Arc<Self>, peer: IpAddr, max: usize) -> Option<AddressPermit> {
        let machine = machine_address(peer);
        let mut open = self.lock();
        let count = open.entry(machine).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(AddressPermit { addresses: Arc::clone(self), machine })
    }

    fn release_permit(&self, machine: IpAddr) {
        if let Entry::Occupied(mut entry) = self.lock().entry(machine) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    // A panic under the lock cannot leave a count half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an address tells its machine from others.
fn machine_address(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS).into(),
    }
}

/// A connection that was let in; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct AddressPermit {
    addresses: Arc<AddressLimiter>,
    machine: IpAddr,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        self.addresses.release_permit(self.machine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_counts_all_addresses_of_one_machine_together() {
        let addresses = Arc::new(AddressLimiter::default());
        for (first, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ] {
            let enter = |address: &str| addresses.acquire_permit(address.parse().unwrap(), 1);
            let held = enter(first).expect("the first one");
            assert!(enter(same).is_none(), "{same} is another than {first}");
            assert!(enter(other).is_some(), "{other} is the same as {first}");
            drop(held);
            assert!(enter(same).is_some(), "{first} was not given back");
        }
        assert!(addresses.lock().is_empty(), "an address without a connection is remembered");
    }
}
