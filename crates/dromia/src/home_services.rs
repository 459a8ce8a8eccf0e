//! The services of a home, wired to one another: store, engine, gate, tools, vault. Nothing runs yet.

use std::sync::Arc;

use dromia_contracts::ScopeAuthority;
use dromia_contracts::capability::CapabilityRegistry;
use dromia_contracts::egress::{Egress, EgressClient, LineError};
use dromia_contracts::gate::Gate;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::Store;
use dromia_contracts::tool::ToolHost;
use dromia_contracts::tool_policy::OperatorTerms;
use dromia_engine::{Engine, EnginePorts};
use dromia_guard::policy::{PolicyEvaluator, PolicyWorkers};
use dromia_guard::{GrantGate, GuardedEgress, PolicyEngine, StoreCapabilities, StoreVault};
use dromia_models::ModelRegistry;
use dromia_store::{OpenError, SqliteStore, StoreConfig};
use dromia_tools::{AgentHomes, ExternalTool, Toolbox, ToolsConfig};

use crate::config::{ExternalToolConfig, ResolvedConfig};
use crate::egress_client;
use crate::home::Home;
use crate::keyfile::KeyFile;
use crate::live_config::{LiveGate, LiveModels, ReplaceableParts};
use crate::runtime;
use crate::sandbox_choice::TenantSandboxes;
use crate::store_obstacle;
use crate::system::ExitError;
use crate::tool_policy::ToolTermsTable;
use crate::workspace_roots::TenantWorkspaceRoots;

/// The services of a home, wired to one another.
pub(crate) struct HomeServices {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) engine: Engine,
    pub(crate) runtime: Runtime,
    pub(crate) authority: ScopeAuthority,
    pub(crate) egress: Arc<GuardedEgress>,
    pub(crate) vault: Arc<StoreVault>,
    pub(crate) capabilities: Arc<StoreCapabilities>,
    pub(crate) tools: Arc<dyn ToolHost>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) policies: PolicyEngine,
    pub(crate) terms: Arc<dyn OperatorTerms>,
    /// What of these another configuration replaces.
    pub(crate) parts: ReplaceableParts,
}

/// Opens the store and builds the engine; nothing runs yet.
pub(crate) fn open_services(home: &Home, resolved: &ResolvedConfig) -> anyhow::Result<HomeServices> {
    let runtime = runtime::real_runtime();
    let authority = ScopeAuthority::claim();
    let sqlite = Arc::new(
        SqliteStore::open(StoreConfig::new(home.store_dir())).map_err(|error| open_error(home, error))?,
    );
    let store: Arc<dyn Store> = Arc::clone(&sqlite) as _;
    let keys = KeyFile::new(home.vault_key(), Arc::clone(&runtime.ids));
    let keys = keys.for_store(StoreConfig::new(home.store_dir()));
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(keys), runtime.clone()));
    let capabilities = StoreCapabilities::new(Arc::clone(&store), Arc::clone(&vault), runtime.clone());
    let capabilities = Arc::new(capabilities);
    let egress =
        egress_client::guarded_egress(resolved.calls.reachable.opened.clone()).with_vault(Arc::clone(&vault));
    let egress = egress.with_capabilities(capabilities.live_capabilities());
    let egress = Arc::new(egress);
    let models = ModelRegistry::new(resolved.models.clone(), &runtime.clock, &*egress).map_err(|error| {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        ExitError::usage_error(format!("{}: {error}{source}", home.config_path().display()))
    })?;
    let held: Arc<dyn CapabilityRegistry> = Arc::clone(&capabilities) as _;
    let table = ToolTermsTable::new(
        (resolved.calls.said.clone(), resolved.calls.prompts.clone()),
        Arc::clone(&store),
        authority.issue_operator(),
        held,
    );
    let table = Arc::new(table);
    let terms: Arc<dyn OperatorTerms> = Arc::clone(&table) as _;
    let sandboxes = TenantSandboxes::new(resolved, Arc::clone(&store), authority.issue_operator());
    let sandboxes = Arc::new(sandboxes);
    let tools = ToolsConfig {
        root: home.root_dir().to_owned(),
        calls: egress_client::call_settings(resolved, &*egress)?,
        sandboxes: Arc::clone(&sandboxes) as _,
        terms: Arc::clone(&terms),
        leaks: Arc::clone(&vault) as _,
        workspace_roots: Arc::new(TenantWorkspaceRoots::new(
            resolved.programs.workspace_roots.clone(),
            Arc::clone(&store),
            authority.issue_operator(),
        )),
    };
    let tools = Toolbox::new(tools, Arc::clone(&store), runtime.clone());
    let tools = tools.with_external(connect_external_tools(resolved, &*egress)?);
    let policies =
        PolicyEngine::built_in()?.with_evaluator(PolicyEvaluator::Apart(PolicyWorkers::of_this_program()));
    let gate = build_gate(&policies, &capabilities, resolved);
    egress.ask_rights(gate.current_rights());
    let live_gate = Arc::new(LiveGate::new(gate));
    let toolbox = Arc::new(tools);
    let tools: Arc<dyn ToolHost> = Arc::clone(&toolbox) as _;
    let gate: Arc<dyn Gate> = Arc::clone(&live_gate) as _;
    let models = Arc::new(LiveModels::new(models));
    let parts =
        ReplaceableParts { models: Arc::clone(&models), gate: live_gate, terms: table, toolbox, sandboxes };
    let ports = EnginePorts {
        store: Arc::clone(&store),
        model: models,
        tools: Arc::clone(&tools),
        gate: Arc::clone(&gate),
        terms: Arc::clone(&terms),
        leaks: Arc::clone(&vault) as _,
        homes: Arc::new(AgentHomes::new(home.root_dir().to_owned())),
        runtime: runtime.clone(),
        authority: authority.clone(),
    };
    let engine = Engine::new(ports, resolved.engine.clone());
    capabilities.tell_of_changes(engine.rights_watch());
    Ok(HomeServices {
        store: sqlite,
        engine,
        runtime,
        authority,
        egress,
        vault,
        capabilities,
        tools,
        gate,
        policies,
        terms,
        parts,
    })
}

/// Builds the gate of a configuration on the layers of policy that count.
pub(crate) fn build_gate(
    policies: &PolicyEngine,
    capabilities: &StoreCapabilities,
    resolved: &ResolvedConfig,
) -> GrantGate {
    let external = || resolved.calls.external.iter().map(|external| &external.tool);
    let policies = policies.clone().with_manifests(Toolbox::tool_manifests(external()));
    let policies = policies.about_irreversible(resolved.calls.irreversible);
    let gate = GrantGate::new(policies).with_capabilities(capabilities.live_capabilities());
    gate.with_privileged(resolved.calls.said.privileged_tools())
}

/// A tool of the operator's own with the line to its server.
pub(crate) type ConnectedTool = (ExternalTool, Arc<dyn EgressClient>);

/// Opens a line to the server of each tool of the operator's own.
pub(crate) fn connect_external_tools(
    resolved: &ResolvedConfig,
    egress: &dyn Egress,
) -> Result<Vec<ConnectedTool>, LineError> {
    let opened = |external: &ExternalToolConfig| {
        Ok((external.tool.clone(), egress.open_client(external.egress_plan())?))
    };
    resolved.calls.external.iter().map(opened).collect()
}

/// Says what an operator can do about a store that does not open.
pub(crate) fn open_error(home: &Home, error: OpenError) -> anyhow::Error {
    if let Some(message) = store_obstacle::obstacle_text(home.root_dir(), &error) {
        return ExitError { code: 1, message }.into();
    }
    let place = home.root_dir().display();
    match error {
        OpenError::HomeLocked { pid } => {
            let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            ExitError::conflict_error(format!(
                "{place} is in use by {who}; stop it, or choose another home with --home"
            ))
        }
        OpenError::NewerSchema { found, known } => ExitError::conflict_error(format!(
            "the store in {place} has schema {found}, and this program supports {known}; use the newer program"
        )),
        OpenError::NotOurs => {
            ExitError::conflict_error(format!("the database in {place} belongs to another program"))
        }
        OpenError::LogHeld => ExitError::conflict_error(format!(
            "another process reads the database in {place}, so the server cannot make the log of an earlier \
             run durable; end that process (a running `dromia audit verify` or `dromia backup create`, an open \
             `sqlite3`) and start again"
        )),
        OpenError::Damaged { problem } => ExitError {
            code: 1,
            message: format!("the store in {place} is damaged: {problem}; restore it from a backup"),
        }
        .into(),
        other => anyhow::Error::new(other).context(format!("failed to open the store in {place}")),
    }
}
