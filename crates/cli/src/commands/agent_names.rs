//! What people call the agents of a tenant, for tables and cards. A program gets ids, which never change.

use std::collections::BTreeMap;

use dromia_api::agent::AgentResource;
use dromia_api::list::LIMIT_MAX;
use dromia_api::{AgentId, HandleSlug, ListPage};

use super::Cli;
use crate::output::CommandOutput;

/// Handles by ids, as far as one page of agents tells them. Another agent is called by its id, and so is each where the
/// page cannot be had: a name that is missing is no reason to show nothing.
#[derive(Default)]
pub(super) struct AgentHandles(BTreeMap<AgentId, HandleSlug>);

impl AgentHandles {
    /// Asks for them if a person reads what is printed.
    pub(super) async fn fetch_page(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Self {
        if output.is_json() {
            return Self::default();
        }
        let page = cli.client.get::<ListPage<AgentResource>>(&format!("/v1/agents?limit={LIMIT_MAX}")).await;
        let agents = page.map(|page| page.items).unwrap_or_default();
        Self(agents.into_iter().map(|agent| (agent.id, agent.handle)).collect())
    }

    /// What an agent is called.
    pub(super) fn display_name(&self, agent: AgentId) -> String {
        self.0.get(&agent).map_or_else(|| agent.to_string(), ToString::to_string)
    }

    /// What an agent is called, and its id.
    pub(super) fn name_with_id(&self, agent: AgentId) -> String {
        self.0.get(&agent).map_or_else(|| agent.to_string(), |handle| format!("{handle} {agent}"))
    }
}
