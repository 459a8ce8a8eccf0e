//! What the operator says about tools, for every agent or for one: the port to it.
//!
//! Terms come from the configuration and never from a tenant. They bound what a call may use ([`ToolTerms`]) and add to
//! what an agent's own grants cover ([`OperatorTerms::operator_grants`]); the gate and the sandbox keep them.

use std::fmt;
use std::sync::Arc;

use crate::BoxFuture;
use crate::egress::may_reach;
use crate::id::{AgentId, TenantId};
use crate::identity_document::PromptKind;
use crate::sandbox::{IsolationLevel, NetworkAccess};
use crate::scope::Scope;
use crate::store::Read;

/// What the operator says about one tool. Nothing said is the tool's own default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolTerms {
    /// The weakest isolation that will do for its programs.
    pub sandbox: Option<IsolationLevel>,
    /// What its programs may reach; nothing where the operator does not say.
    pub network: Option<NetworkAccess>,
    /// Whether an agent needs the operator's word beside its own grant.
    pub privileged: bool,
    /// Hosts that it may reach beside those which the agent's grants name.
    pub net: Vec<String>,
    /// The most processor time of one call, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// The most memory of one call, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most time of one call, in milliseconds; a call may ask for less.
    pub wall_ms: Option<u64>,
    /// The most bytes in the workspace while a program of it runs.
    pub disk_bytes: Option<u64>,
}

impl ToolTerms {
    /// Returns which network a program gets that an agent with these grants starts: a way out only where the operator
    /// says so and some grant may cover a host. This one answer is what is judged, what is run and what is shown of it.
    pub fn network_for(&self, grants: &[String]) -> NetworkAccess {
        match self.network {
            Some(NetworkAccess::Proxy) if grants.iter().any(|grant| may_reach(grant)) => NetworkAccess::Proxy,
            Some(NetworkAccess::Proxy | NetworkAccess::None) | None => NetworkAccess::None,
        }
    }
}

/// Spells the operator's word for a privileged tool, as the agent's grants hold it. No configuration of an agent may
/// hold it.
pub fn privileged_grant(tool: &str) -> String {
    format!("{CLEARED}{tool}")
}

/// What the operator's word for a privileged tool begins with.
pub const CLEARED: &str = "privileged:";

/// The port to what the operator says about tools.
///
/// Guarantee: the same question has the same answer as long as the process lives, unless an agent gets another handle or
/// a capability.
pub trait OperatorTerms: Send + Sync + fmt::Debug {
    /// Says what counts for a tool in the hands of an agent; without an agent, what counts for those of whom nothing is
    /// said.
    fn effective_terms<'a>(
        &'a self,
        tool: &'a str,
        agent: Option<(&'a Scope, AgentId)>,
    ) -> Read<'a, ToolTerms>;

    /// Lists what the operator adds to an agent's own grants: hosts, the word for privileged tools, and the word for the
    /// capabilities that it holds.
    fn operator_grants<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Vec<String>>;

    /// Says what a kind of run of the scope's tenant reads first, where the operator says it; an agent's own document comes
    /// before it.
    fn kind_prompt<'a>(&'a self, scope: &'a Scope, kind: PromptKind) -> Read<'a, Option<Arc<str>>>;

    /// Takes note that an agent is being erased, once that mark is durable: what it held counts no more.
    fn note_agent_erased(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, ()>;
}

/// The same terms for every tool of every agent, and no grant beside the agents' own.
impl OperatorTerms for ToolTerms {
    fn effective_terms<'a>(&'a self, _: &'a str, _: Option<(&'a Scope, AgentId)>) -> Read<'a, ToolTerms> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }

    fn operator_grants<'a>(&'a self, _: &'a Scope, _: AgentId) -> Read<'a, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn kind_prompt<'a>(&'a self, _: &'a Scope, _: PromptKind) -> Read<'a, Option<Arc<str>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn note_agent_erased(&self, _: TenantId, _: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_a_proxy_only_by_terms_and_grant() {
        let given = |network, grants: &[&str]| {
            let grants: Vec<String> = grants.iter().map(|&grant| grant.to_owned()).collect();
            ToolTerms { network, ..ToolTerms::default() }.network_for(&grants)
        };
        let (covers, of_no_use): ([&[&str]; 3], [&[&str]; 2]) = (
            [&["exec", "net:h"], &["net.read:h"], &["holder:ten_1/agt_1"]],
            [&[], &["exec", "network.x", "model"]],
        );
        for grants in covers {
            assert_eq!(given(Some(NetworkAccess::Proxy), grants), NetworkAccess::Proxy, "{grants:?}");
            for network in [None, Some(NetworkAccess::None)] {
                assert_eq!(given(network, grants), NetworkAccess::None, "{grants:?}");
            }
        }
        for grants in of_no_use {
            assert_eq!(given(Some(NetworkAccess::Proxy), grants), NetworkAccess::None, "{grants:?}");
        }
    }
}
