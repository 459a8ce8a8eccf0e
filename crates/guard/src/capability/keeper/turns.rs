//! The turns of tenants: one change of a tenant at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use dromia_contracts::TenantId;
use tokio::sync::Mutex;

/// One change of a tenant at a time, so that its bound holds. Another tenant waits for none of them: a look for what gives way
/// reads every task of a tenant that is full. One is kept for each tenant whose rows memory holds.
#[derive(Debug, Default)]
pub(super) struct Turns(std::sync::Mutex<HashMap<TenantId, Arc<Mutex<()>>>>);

impl Turns {
    /// Returns the turn of a tenant, the same each time.
    pub(super) fn of(&self, tenant: TenantId) -> Arc<Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(tenant).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_waits_for_its_own_changes_and_for_nobody_elses() {
        let (turns, one, other) =
            (Turns::default(), TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let turn = turns.of(one);
        let _turn = turn.try_lock().expect("it is free");
        assert!(turns.of(one).try_lock().is_err(), "it is the same turn each time");
        assert!(turns.of(other).try_lock().is_ok());
    }
}
