//! What is at work: at most so many messages, at most a share of them of one tenant, and one of each target.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::TenantId;

/// The most messages at work.
pub(super) const NODE_MAX: usize = 64;
/// The most of them of one tenant.
pub(super) const TENANT_MAX: usize = 16;

/// Messages at work.
#[derive(Debug, Default)]
pub(super) struct InFlightDeliveries(Mutex<InFlightTargets>);

#[derive(Debug, Default)]
struct InFlightTargets {
    targets: HashSet<(TenantId, String)>,
    tenants: HashMap<TenantId, usize>,
}

/// Why a message must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFlight {
    /// The tenant's share is used up, or the target has a message at work.
    OfTenant,
    /// All are taken.
    OfNode,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct InFlightPermit {
    flights: Arc<InFlightDeliveries>,
    place: (TenantId, String),
}

impl InFlightDeliveries {
    /// Takes a place for a message.
    pub(super) fn take_off(
        this: &Arc<Self>,
        tenant: TenantId,
        target: &str,
    ) -> Result<InFlightPermit, NoFlight> {
        let mut aloft = this.lock_targets();
        if aloft.targets.len() >= NODE_MAX {
            return Err(NoFlight::OfNode);
        }
        let place = (tenant, target.to_owned());
        let of_tenant = aloft.tenants.get(&tenant).copied().unwrap_or(0);
        if of_tenant >= TENANT_MAX || !aloft.targets.insert(place.clone()) {
            return Err(NoFlight::OfTenant);
        }
        aloft.tenants.insert(tenant, of_tenant + 1);
        drop(aloft);
        Ok(InFlightPermit { flights: Arc::clone(this), place })
    }

    /// Tells whether there is a place for one more message beside these, which have none yet.
    pub(super) fn check_room(
        &self,
        tenant: TenantId,
        of_tenant: usize,
        of_node: usize,
    ) -> Result<(), NoFlight> {
        let aloft = self.lock_targets();
        if aloft.targets.len().saturating_add(of_node) >= NODE_MAX {
            return Err(NoFlight::OfNode);
        }
        let known = aloft.tenants.get(&tenant).copied().unwrap_or(0);
        if known.saturating_add(of_tenant) >= TENANT_MAX { Err(NoFlight::OfTenant) } else { Ok(()) }
    }

    /// Tells whether a target has a message at work.
    pub(super) fn has_target(&self, place: &(TenantId, String)) -> bool {
        self.lock_targets().targets.contains(place)
    }

    /// Counts the messages at work.
    pub(super) fn count_in_flight(&self) -> usize {
        self.lock_targets().targets.len()
    }

    fn lock_targets(&self) -> MutexGuard<'_, InFlightTargets> {
        // Both maps change in one move, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut aloft = self.flights.lock_targets();
        aloft.targets.remove(&self.place);
        if let Some(count) = aloft.tenants.get_mut(&self.place.0) {
            *count -= 1;
            if *count == 0 {
                aloft.tenants.remove(&self.place.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> TenantId {
        TenantId::from_bytes([number; 16])
    }

    #[test]
    fn a_target_sends_one_message_and_a_tenant_its_share() {
        let flights = Arc::new(InFlightDeliveries::default());
        let take = |number, target: &str| InFlightDeliveries::take_off(&flights, tenant(number), target);
        let first = take(1, "a").unwrap();
        assert_eq!(take(1, "a").err(), Some(NoFlight::OfTenant));
        let theirs = take(2, "a").expect("another tenant's target of that name is another target");
        let mine: Vec<_> = (1..TENANT_MAX).map(|n| take(1, &format!("t{n}")).unwrap()).collect();
        assert_eq!(take(1, "more").err(), Some(NoFlight::OfTenant));
        assert_eq!(flights.count_in_flight(), TENANT_MAX + 1);
        drop(first);
        assert!(!flights.has_target(&(tenant(1), "a".to_owned())));
        let again = take(1, "a").unwrap();
        drop((again, mine, theirs));
        assert_eq!(flights.count_in_flight(), 0);
    }

    #[test]
    fn the_node_has_an_end_that_no_tenant_reaches_alone() {
        let flights = Arc::new(InFlightDeliveries::default());
        let mut aloft = Vec::new();
        for number in 1..=4 {
            for target in 0..TENANT_MAX {
                aloft.push(
                    InFlightDeliveries::take_off(&flights, tenant(number), &target.to_string()).unwrap(),
                );
            }
        }
        assert_eq!(InFlightDeliveries::take_off(&flights, tenant(5), "a").err(), Some(NoFlight::OfNode));
        aloft.pop();
        assert!(InFlightDeliveries::take_off(&flights, tenant(5), "a").is_ok());
    }
}
