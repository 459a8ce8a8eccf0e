//! Whose agents a tool of the operator is for, by the handles that the configuration writes.
//!
//! A tool without an audience is everybody's. A handle that passes to another agent passes what is said with it.

use std::collections::BTreeSet;

use dromia_contracts::agent::HandleSlug;

/// The agents that an external tool is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolAudience {
    /// Every agent of every tenant.
    #[default]
    Everybody,
    /// The agents of these tenants, and these agents.
    Only {
        /// The handles of tenants.
        tenants: BTreeSet<HandleSlug>,
        /// The handles of agents, each behind that of its tenant.
        agents: BTreeSet<(HandleSlug, HandleSlug)>,
    },
}

/// The handles of a tenant and, if one is meant, of its agent.
#[derive(Debug)]
pub(crate) struct AgentName {
    /// The tenant's.
    pub(crate) tenant: HandleSlug,
    /// The agent's; without one, any agent of the tenant is meant.
    pub(crate) agent: Option<HandleSlug>,
}

impl ToolAudience {
    /// Returns whether it is for every agent.
    pub fn is_everybody(&self) -> bool {
        matches!(self, Self::Everybody)
    }

    /// Returns whether an agent is in it, or some agent of a tenant.
    pub(crate) fn includes(&self, name: &AgentName) -> bool {
        let Self::Only { tenants, agents } = self else { return true };
        let is_named = |(tenant, agent): &(HandleSlug, HandleSlug)| {
            *tenant == name.tenant && name.agent.as_ref().is_none_or(|named| named == agent)
        };
        tenants.contains(&name.tenant) || agents.iter().any(is_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(text: &str) -> HandleSlug {
        text.parse().expect("a handle")
    }

    #[test]
    fn an_audience_is_tenants_and_single_agents() {
        let only = ToolAudience::Only {
            tenants: [handle("acme")].into(),
            agents: [(handle("beta"), handle("clerk"))].into(),
        };
        let includes = |audience: &ToolAudience, tenant: &str, agent: Option<&str>| {
            audience.includes(&AgentName { tenant: handle(tenant), agent: agent.map(handle) })
        };
        for (tenant, agent, is_in) in [
            ("acme", Some("anyone"), true),
            ("acme", None, true),
            ("beta", Some("clerk"), true),
            ("beta", Some("other"), false),
            ("beta", None, true),
            ("gamma", Some("clerk"), false),
            ("gamma", None, false),
        ] {
            assert_eq!(includes(&only, tenant, agent), is_in, "{tenant} {agent:?}");
            assert!(includes(&ToolAudience::Everybody, tenant, agent));
        }
    }
}
