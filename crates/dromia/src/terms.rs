//! What the operator says about tools, for those who ask by an agent's id: the file names agents by their handles.
//!
//! Handles are looked up only where the file says something about an agent that is called so; a handle that passes to
//! another agent passes what is said with it. What an agent holds in capabilities stands there by a word.

use std::sync::Arc;

use dromia_contracts::capability::Capabilities;
use dromia_contracts::store::{Read, ReadError, Store};
use dromia_contracts::terms::{Terms, ToolTerms};
use dromia_contracts::{AgentId, BoxFuture, Operator, Scope, TenantId};

use crate::config::{Named, Said};

/// What the file says, and who knows the handles.
#[derive(Debug)]
pub(crate) struct Table {
    said: Said,
    store: Arc<dyn Store>,
    operator: Operator,
    capabilities: Arc<dyn Capabilities>,
}

impl Table {
    /// Notes what is said.
    pub(crate) fn new(
        said: Said,
        store: Arc<dyn Store>,
        operator: Operator,
        capabilities: Arc<dyn Capabilities>,
    ) -> Self {
        Self { said, store, operator, capabilities }
    }

    /// Finds the name under which the file speaks of an agent, if it does.
    async fn named(&self, scope: &Scope, agent: AgentId) -> Result<Option<&Named>, ReadError> {
        if self.said.agents().next().is_none() {
            return Ok(None);
        }
        let Some(agent) = self.store.agent(scope, agent).await? else { return Ok(None) };
        for named in self.said.agents().filter(|(_, handle)| *handle == agent.handle) {
            let tenant = self.store.tenant_by_handle(&self.operator, &named.0).await?;
            if tenant.is_some_and(|tenant| tenant.id == scope.tenant()) {
                return Ok(Some(named));
            }
        }
        Ok(None)
    }
}

impl Terms for Table {
    fn of<'a>(&'a self, tool: &'a str, agent: Option<(&'a Scope, AgentId)>) -> Read<'a, ToolTerms> {
        Box::pin(async move {
            let named = match agent {
                Some((scope, agent)) => self.named(scope, agent).await?,
                None => None,
            };
            Ok(self.said.terms(tool, named))
        })
    }

    fn grants<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Vec<String>> {
        Box::pin(async move {
            let mut grants = self.said.grants(self.named(scope, agent).await?);
            grants.extend(self.capabilities.words(scope, agent).await?);
            Ok(grants)
        })
    }

    fn erased(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, ()> {
        self.capabilities.erased(tenant, agent)
    }
}
