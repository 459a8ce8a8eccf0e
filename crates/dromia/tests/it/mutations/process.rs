//! The services of one process, wired in the test as the binary wires them, with a store that can be
//! spoiled between the engine and SQLite.
//!
//! A life ends as a crash ends it: its tasks are dropped where they stand. Only what SQLite was handed before is
//! still written, as it is by a kernel that outlives the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dromia_contracts::egress::{
    Egress, EgressClient, EgressClientConfig, EgressError, EgressFault, EgressRequest, EgressResponse,
    EgressTunnel, LineError, TunnelRequest,
};
use dromia_contracts::entry::Entry;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::sandbox::{SandboxBackend, SandboxError, SandboxSelector};
use dromia_contracts::store::{PageRequest, Store, StoredEntry};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::vault::NoSecrets;
use dromia_contracts::{Actor, BoxFuture, Scope, ScopeAuthority, TenantId};
use dromia_engine::{Engine, EngineConfig, EnginePorts, RunState};
use dromia_guard::policy::{PolicyLayer, PolicyText};
use dromia_guard::{GrantGate, PolicyEngine, PolicyLayers};
use dromia_models::{ModelRegistry, ModelsConfig};
use dromia_store::{SqliteStore, StoreConfig, rebuild_projections};
use dromia_testkit::FaultyStore;
use dromia_tools::{AgentHomes, CallSettings, Toolbox, ToolsConfig};
use jiff::SignedDuration;

use crate::home::DEADLINE;

/// A way out that leads nowhere.
#[derive(Debug)]
struct Nowhere;

impl Egress for Nowhere {
    fn open_client(&self, _: EgressClientConfig) -> Result<Arc<dyn EgressClient>, LineError> {
        Ok(Arc::new(Self))
    }
}

impl EgressClient for Nowhere {
    fn send_request(&self, _: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        let error = EgressError { failure: EgressFault::Unreachable, is_sent: false, decisions: Vec::new() };
        Box::pin(std::future::ready(Err(error)))
    }

    fn request_tunnel(&self, _: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        let error = EgressError { failure: EgressFault::Unreachable, is_sent: false, decisions: Vec::new() };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// A machine on which no program runs.
#[derive(Debug)]
struct NoSandbox;

impl SandboxSelector for NoSandbox {
    fn pick_backend(&self, _: TenantId) -> BoxFuture<'_, Result<Arc<dyn SandboxBackend>, SandboxError>> {
        let refused = SandboxError::Unavailable {
            missing: "this life runs no programs".to_owned(),
            fix: "use the real program".to_owned(),
        };
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// What a person must allow in this process, and what is put off.
const ASKS: &str = r#"package dromia.policy

import rego.v1

verdicts contains {"verdict": "ask", "rule": "look", "reason": "a person looks"} if {
	input.action.tool == "file.write"
	input.action.arguments.path != "later"
}

verdicts contains {"verdict": "delay", "rule": "later", "reason": "not in haste"} if {
	input.action.tool == "file.write"
	input.action.arguments.path == "later"
}
"#;

fn policies(tools: &Toolbox) -> PolicyEngine {
    let policies = PolicyEngine::built_in()
        .expect("the shipped policy compiles")
        .with_manifests(tools.current_manifests());
    let file = PolicyText { name: "asks.rego".to_owned(), text: ASKS.to_owned() };
    let instance = Some(PolicyLayer::compile_layer("instance", &[file]).expect("the policy compiles"));
    policies.replace_layers(PolicyLayers { instance, ..PolicyLayers::default() });
    policies
}

/// One life of a process.
pub(crate) struct TestProcess {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) engine: Engine,
    pub(crate) authority: ScopeAuthority,
    pub(crate) root: PathBuf,
}

impl TestProcess {
    /// Opens the directory and starts the engine. Must be called inside a tokio runtime.
    pub(crate) fn open(root: &Path, spoil: impl FnOnce(&FaultyStore)) -> Self {
        Self::open_with(root, spoil, |_| {})
    }

    /// The same with an engine that is configured otherwise.
    pub(crate) fn open_with(
        root: &Path,
        spoil: impl FnOnce(&FaultyStore),
        configure: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let sqlite = SqliteStore::open(StoreConfig::new(root.join("store"))).expect("the store opens");
        let store = Arc::new(FaultyStore::new(Arc::new(sqlite)));
        spoil(&store);
        let runtime: Runtime = dromia_testkit::tokio_runtime();
        let authority = ScopeAuthority::claim();
        let port: Arc<dyn Store> = Arc::clone(&store) as _;
        let tools = ToolsConfig {
            root: root.to_owned(),
            calls: CallSettings {
                pace: None,
                hops_max: 16,
                granted: Arc::new(Nowhere),
                programs: Arc::new(Nowhere),
            },
            sandboxes: Arc::new(NoSandbox),
            terms: Arc::new(ToolTerms::default()),
            leaks: Arc::new(NoSecrets),
            workspace_roots: Arc::new(Vec::new()),
        };
        let tools = Toolbox::new(tools, Arc::clone(&port), runtime.clone());
        let gate = GrantGate::new(policies(&tools));
        let ports = EnginePorts {
            store: port,
            model: Arc::new(
                ModelRegistry::new(ModelsConfig::default(), &runtime.clock, &Nowhere).expect("models"),
            ),
            tools: Arc::new(tools),
            gate: Arc::new(gate),
            terms: Arc::new(ToolTerms::default()),
            leaks: Arc::new(NoSecrets),
            homes: Arc::new(AgentHomes::new(root.to_owned())),
            runtime,
            authority: authority.clone(),
        };
        let mut config = EngineConfig::default();
        config.approvals.cooling = SignedDuration::from_millis(50);
        configure(&mut config);
        let engine = Engine::new(ports, config);
        engine.start();
        Self { store, engine, authority, root: root.to_owned() }
    }

    /// What a client of the tenant may see.
    pub(crate) fn scope(&self, tenant: TenantId) -> Scope {
        self.authority.issue_scope(tenant, Actor::new("token:sweep"))
    }

    /// Waits until nothing is left to do: no run is open, no input waits, nothing is being erased.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let settled = async {
            loop {
                let operator = self.authority.issue_operator();
                let open =
                    self.store.open_runs(&operator, PageRequest::first_page(9)).await.map_err(words)?;
                let waiting = self
                    .store
                    .pending_sessions(&operator, PageRequest::first_page(9))
                    .await
                    .map_err(words)?;
                let deleting = self.store.deleting_agents(&operator).await.map_err(words)?;
                if open.is_empty()
                    && waiting.is_empty()
                    && deleting.is_empty()
                    && self.engine.count_active_runs() == 0
                {
                    return Ok(());
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, settled).await {
            Ok(settled) => settled,
            Err(_) => Err("the engine does not come to rest".to_owned()),
        }
    }
}

/// Drops the projections of a closed store and builds them anew from the truth.
pub(crate) fn rebuild(root: &Path) -> Result<(), String> {
    let fold = |journal: &[StoredEntry]| {
        let entries: Result<Vec<Entry>, _> = journal.iter().map(StoredEntry::decode).collect();
        entries.map(|entries| RunState::fold(&entries).run_head()).map_err(words)
    };
    let rebuilt = rebuild_projections(&StoreConfig::new(root.join("store")), &fold).map_err(words)?;
    match rebuilt.unread.first() {
        None => Ok(()),
        Some((run, problem)) => Err(format!("the journal of {run} was not read: {problem}")),
    }
}

/// An error as a finding.
pub(crate) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
