//! Pools of slots that tenants share, so that one tenant never takes them all.

use dromia_contracts::TenantId;
use dromia_contracts::pool::SlotPool;

/// One part in so many that no tenant takes alone, and one at least where there are two.
const RESERVE_PART: usize = 8;

/// Makes a pool of so many slots, which tenants share. No request waits for a slot: one that finds none is refused.
pub(crate) fn make_slot_pool(capacity: usize) -> SlotPool {
    SlotPool::new(capacity, capacity.div_ceil(RESERVE_PART), 0)
}

/// Whose slots are counted where it is not known who asks.
pub(crate) const NODE: TenantId = TenantId::from_bytes([0; 16]);

/// Makes a pool of so many slots that only [`NODE`] takes. One task may wait for a slot.
pub(crate) fn make_node_pool(capacity: usize) -> SlotPool {
    SlotPool::new(capacity, 0, 1)
}

/// Lets tenants share another number of slots. What was let in under a higher one goes on.
pub(crate) fn resize_slot_pool(pool: &SlotPool, capacity: usize) {
    pool.resize(capacity, capacity.div_ceil(RESERVE_PART));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flooding_tenant_leaves_a_share_to_other_tenants() {
        let (flood, quiet) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        for (capacity, taken) in [(1, 1), (2, 1), (8, 7), (1024, 896)] {
            let pool = make_slot_pool(capacity);
            let held: Vec<_> = std::iter::from_fn(|| pool.try_take(flood)).collect();
            assert_eq!(held.len(), taken);
            assert_eq!(pool.try_take(quiet).is_some(), capacity > 1, "{capacity}");
        }
    }

    /// Tells whether another tenant has a stream while one opens all that it can.
    fn leaves_a_stream(pool: &SlotPool) -> bool {
        let (flood, quiet) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let held: Vec<_> = std::iter::from_fn(|| pool.try_take(flood)).collect();
        assert!(!held.is_empty());
        pool.try_take(quiet).is_some()
    }

    /// Planted fault: so many streams in all, whoever opens them.
    #[test]
    fn streams_without_a_share_for_each_tenant_are_caught() {
        assert!(leaves_a_stream(&make_slot_pool(1024)));
        assert!(!leaves_a_stream(&SlotPool::new(1024, 0, 0)), "nothing notices it");
    }
}
