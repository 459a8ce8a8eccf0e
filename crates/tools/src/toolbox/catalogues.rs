//! Which tools of the operator there are for whom, by the handles that the store knows now.

use std::sync::{Arc, PoisonError};

use dromia_contracts::AgentId;
use dromia_contracts::scope::Scope;
use dromia_contracts::store::ReadError;

use super::Toolbox;
use super::registry::ToolRegistry;
use crate::audience::AgentName;
use crate::external::RegisteredTool;

impl Toolbox {
    // No code panics while it holds the lock.
    pub(super) fn registry(&self) -> Arc<ToolRegistry> {
        Arc::clone(&self.tools.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds a tool of the operator's that an agent may be given now.
    pub(super) async fn find_external(
        &self,
        scope: &Scope,
        agent: AgentId,
        name: &str,
    ) -> Result<Option<Arc<RegisteredTool>>, ReadError> {
        let Some(found) = self.registry().find_external(name).map(Arc::clone) else { return Ok(None) };
        if found.tool.audience().is_everybody() {
            return Ok(Some(found));
        }
        let named = self.agent_name(scope, Some(agent)).await?;
        Ok(named.filter(|named| found.tool.audience().includes(named)).map(|_| found))
    }

    /// Reads the handles of a tenant and its agent; nothing if either is not there.
    pub(super) async fn agent_name(
        &self,
        scope: &Scope,
        agent: Option<AgentId>,
    ) -> Result<Option<AgentName>, ReadError> {
        let Some(tenant) = self.store.tenant_record(scope).await? else { return Ok(None) };
        let agent = match agent {
            None => None,
            Some(agent) => match self.store.agent(scope, agent).await? {
                Some(found) => Some(found.handle),
                None => return Ok(None),
            },
        };
        Ok(Some(AgentName { tenant: tenant.handle, agent }))
    }
}
