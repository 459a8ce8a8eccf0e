//! The turns of tenants: one change of a tenant at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use dromia_contracts::TenantId;
use tokio::sync::Mutex;

/// One change of a tenant at a time, so that its bound holds. Another tenant waits for none of them: a scan for what
/// gives way reads every task of a tenant that is full. One is kept for each tenant whose rows memory holds.
#[derive(Debug, Default)]
pub(super) struct TenantLocks(std::sync::Mutex<HashMap<TenantId, Arc<Mutex<()>>>>);

impl TenantLocks {
    /// Returns the turn of a tenant, the same each time.
    pub(super) fn lock_for(&self, tenant: TenantId) -> Arc<Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(tenant).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_waits_only_for_its_own_changes() {
        let (turns, one, other) =
            (TenantLocks::default(), TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let turn = turns.lock_for(one);
        let _turn = turn.try_lock().expect("it is free");
        assert!(turns.lock_for(one).try_lock().is_err(), "it is the same turn each time");
        assert!(turns.lock_for(other).try_lock().is_ok());
    }
}
