//! Where workspaces of a tenant's agents may lie: the configuration names tenants by their handles, so the store is asked.
//!
//! A tenant that the store does not know has no roots.

use std::path::PathBuf;
use std::sync::Arc;

use dromia_contracts::scope::OperatorScope;
use dromia_contracts::store::{PageRequest, Store};
use dromia_contracts::workspace::WorkspaceRoots;
use dromia_contracts::{BoxFuture, TenantId};

use crate::config::WorkspaceRootTable;

/// The roots of the configuration, by tenant.
#[derive(Debug)]
pub(crate) struct TenantWorkspaceRoots {
    roots: WorkspaceRootTable,
    store: Arc<dyn Store>,
    operator: OperatorScope,
}

impl TenantWorkspaceRoots {
    /// Notes what the configuration says; nothing is looked at.
    pub(crate) fn new(roots: WorkspaceRootTable, store: Arc<dyn Store>, operator: OperatorScope) -> Self {
        Self { roots, store, operator }
    }
}

impl WorkspaceRoots for TenantWorkspaceRoots {
    fn list_roots(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<PathBuf>, String>> {
        Box::pin(async move {
            if self.roots.is_empty() {
                return Ok(Vec::new());
            }
            // The page that begins with this tenant.
            let before = u128::from_be_bytes(*tenant.as_bytes()).saturating_sub(1);
            let page = PageRequest { after: Some(TenantId::from_bytes(before.to_be_bytes())), limit: 1 };
            let found = self.store.tenants(&self.operator, page).await.map_err(|error| {
                format!("the roots of workspaces can't be read now: {error}; try again later")
            })?;
            let found = found.into_iter().find(|found| found.id == tenant);
            Ok(found.map(|found| self.roots.roots_of_tenant(&found.handle)).unwrap_or_default())
        })
    }
}
