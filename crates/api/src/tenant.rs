//! Tenants on the wire. Only an operator, that is a caller on the Unix socket, sees them.

use std::fmt;

use dromia_contracts::TenantId;
use dromia_contracts::agent::{HandleSlug, TenantCounts, TenantErasureCounts};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::BudgetResource;
use crate::overview::SpendToday;

/// Registers a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Its handle, unique on the node.
    pub handle: HandleSlug,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantResource {
    /// Its id.
    pub id: TenantId,
    /// Its handle.
    pub handle: HandleSlug,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Since when it is suspended; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
}

/// A tenant, what it has and what it spends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantDetails {
    /// The tenant.
    pub tenant: TenantResource,
    /// How much of it there is.
    pub counts: TenantCounts,
    /// What its runs spent that began today.
    pub spend: SpendToday,
    /// Its budgets.
    pub budgets: Vec<BudgetResource>,
}

/// A tenant was deleted. Nothing of it is left but the audit's record of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantDeletionReport {
    /// The id that it had.
    pub id: TenantId,
    /// The handle that it had; another tenant may take it now.
    pub handle: HandleSlug,
    /// What was erased.
    pub erased: TenantErasureCounts,
}

/// A tenant was registered. Its token is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantCreated {
    /// Its id.
    pub id: TenantId,
    /// Its handle.
    pub handle: HandleSlug,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Its credential.
    pub token: String,
}

impl fmt::Debug for TenantCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCreated")
            .field("id", &self.id)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_in_the_debug_form() {
        let created = TenantCreated {
            id: TenantId::from_bytes([1; 16]),
            handle: "acme".parse().expect("a handle"),
            created_at: Timestamp::UNIX_EPOCH,
            token: "drm_secret".into(),
        };
        assert!(!format!("{created:?}").contains("drm_"));
    }
}
