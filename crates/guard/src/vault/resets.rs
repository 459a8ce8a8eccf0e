//! How often the key of each tenant was replaced, shared with the caches of what was derived from a key.
//!
//! A tenant's reset says nothing of other tenants: what they keep goes on to count. Memory holds one number for each tenant
//! that was reset since the program started, which takes a key that was lost.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use dromia_contracts::TenantId;

/// How often keys gave way.
#[derive(Debug, Default)]
pub(crate) struct KeyResets(RwLock<HashMap<TenantId, u64>>);

impl KeyResets {
    /// Returns how often a tenant's key was replaced since the program started. What was derived before the number
    /// moved is invalid.
    pub(crate) fn count_for(&self, tenant: TenantId) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied().unwrap_or_default()
    }

    pub(super) fn count_reset(&self, tenant: TenantId) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner).entry(tenant).or_default() += 1;
    }
}
