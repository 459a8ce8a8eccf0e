//! The services behind the gateway, which the program hands in.

use std::sync::Arc;

use dromia_contracts::ScopeAuthority;
use dromia_contracts::audit::{AuditLog, AuditSigner};
use dromia_contracts::capability::CapabilityRegistry;
use dromia_contracts::egress::EgressClient;
use dromia_contracts::gate::Gate;
use dromia_contracts::runs::EnginePort;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::Store;
use dromia_contracts::tool::ToolHost;
use dromia_contracts::tool_policy::OperatorTerms;
use dromia_contracts::vault::Vault;
use dromia_contracts::workspace_files::WorkspaceFiles;

use crate::outbox::Outbox;

/// The services behind the gateway.
#[derive(Debug, Clone)]
pub struct GatewayPorts {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// The engine.
    pub runs: Arc<dyn EnginePort>,
    /// What leaves by itself, and the channels that it leaves by.
    pub outbox: Outbox,
    /// The tools, to be described; nothing is called here.
    pub tools: Arc<dyn ToolHost>,
    /// The files of agents' workspaces.
    pub files: Arc<dyn WorkspaceFiles>,
    /// The gate, to be asked whether an agent may use a tool.
    pub gate: Arc<dyn Gate>,
    /// The line of agents, for the pictures that a request names by URL.
    pub reach: Arc<dyn EgressClient>,
    /// What the operator says about tools.
    pub terms: Arc<dyn OperatorTerms>,
    /// The secrets of tenants.
    pub vault: Arc<dyn Vault>,
    /// The chains of the audit.
    pub audit: Arc<dyn AuditLog>,
    /// The key that signs what leaves of it.
    pub notary: Arc<dyn AuditSigner>,
    /// Capabilities of tenants.
    pub capabilities: Arc<dyn CapabilityRegistry>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes.
    pub authority: ScopeAuthority,
}
