//! What the operator says about tools and kinds of runs, for those who ask by an agent's id: the file names agents and tenants
//! by their handles.
//!
//! Handles are looked up only where the file says something about an agent that is called so; a handle that passes to
//! another agent passes what is said with it. The capabilities of an agent add words to its grants.

use std::sync::Arc;

use arc_swap::ArcSwap;
use dromia_contracts::capability::CapabilityRegistry;
use dromia_contracts::identity_document::PromptKind;
use dromia_contracts::store::{Read, ReadError, Store};
use dromia_contracts::tool_policy::{OperatorTerms, ToolTerms};
use dromia_contracts::{AgentId, BoxFuture, OperatorScope, Scope, TenantId};

use crate::config::{Named, PromptSettings, ToolSettings};

/// What the file says, and who knows the handles.
#[derive(Debug)]
pub(crate) struct ToolTermsTable {
    said: ArcSwap<ToolSettings>,
    prompts: ArcSwap<PromptSettings>,
    store: Arc<dyn Store>,
    operator: OperatorScope,
    capabilities: Arc<dyn CapabilityRegistry>,
}

impl ToolTermsTable {
    /// Notes what is said.
    pub(crate) fn new(
        (said, prompts): (ToolSettings, PromptSettings),
        store: Arc<dyn Store>,
        operator: OperatorScope,
        capabilities: Arc<dyn CapabilityRegistry>,
    ) -> Self {
        let (said, prompts) = (ArcSwap::from_pointee(said), ArcSwap::from_pointee(prompts));
        Self { said, prompts, store, operator, capabilities }
    }

    /// Lets other settings count from now on.
    pub(crate) fn replace_settings(&self, said: ToolSettings, prompts: PromptSettings) {
        self.said.store(Arc::new(said));
        self.prompts.store(Arc::new(prompts));
    }

    /// Finds the name under which the file speaks of an agent, if it does.
    async fn configured_agent<'said>(
        &self,
        said: &'said ToolSettings,
        scope: &Scope,
        agent: AgentId,
    ) -> Result<Option<&'said Named>, ReadError> {
        if said.configured_agents().next().is_none() {
            return Ok(None);
        }
        let Some(agent) = self.store.agent(scope, agent).await? else { return Ok(None) };
        for named in said.configured_agents().filter(|(_, handle)| *handle == agent.handle) {
            let tenant = self.store.tenant_by_handle(&self.operator, &named.0).await?;
            if tenant.is_some_and(|tenant| tenant.id == scope.tenant()) {
                return Ok(Some(named));
            }
        }
        Ok(None)
    }
}

impl OperatorTerms for ToolTermsTable {
    fn effective_terms<'a>(
        &'a self,
        tool: &'a str,
        agent: Option<(&'a Scope, AgentId)>,
    ) -> Read<'a, ToolTerms> {
        Box::pin(async move {
            let said = self.said.load_full();
            let named = match agent {
                Some((scope, agent)) => self.configured_agent(&said, scope, agent).await?,
                None => None,
            };
            Ok(said.terms_for_tool(tool, named))
        })
    }

    fn operator_grants<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Vec<String>> {
        Box::pin(async move {
            let said = self.said.load_full();
            let mut grants = said.added_grants(self.configured_agent(&said, scope, agent).await?);
            grants.extend(self.capabilities.grant_words(scope, agent).await?);
            Ok(grants)
        })
    }

    fn kind_prompt<'a>(&'a self, scope: &'a Scope, kind: PromptKind) -> Read<'a, Option<Arc<str>>> {
        Box::pin(async move {
            let prompts = self.prompts.load_full();
            for handle in prompts.list_tenants() {
                let tenant = self.store.tenant_by_handle(&self.operator, handle).await?;
                if tenant.is_some_and(|tenant| tenant.id == scope.tenant()) {
                    return Ok(prompts.find_text(Some(handle), kind));
                }
            }
            Ok(prompts.find_text(None, kind))
        })
    }

    fn note_agent_erased(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, ()> {
        self.capabilities.forget_agent(tenant, agent)
    }
}
