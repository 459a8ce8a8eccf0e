//! The built-in tools, and those that an operator registers, behind the [`ToolHost`] port.
//!
//! Invariant: a call executes its canonical arguments and nothing else, at most once per invocation, and never
//! fails: the model is shown what goes wrong. Blocking file work runs beside the async threads, at most
//! [`FILE_WORK_MAX`] at a time; what looks at many files is work for the processor, and done where that is. Tenants share all
//! of it, and programs, by turns; whose call waits for its turn says so, and holds no slot of a run meanwhile.
//!
//! It does not ask the gate; the engine does, before it calls. It sets no deadline on file work: an effect whose
//! end is not awaited would be neither done nor undone.

mod calls;
mod catalogues;
mod person_files;
mod programs;
mod reach;
mod registry;
mod workspaces;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dromia_contracts::approval::{BoundFiles, ExecutableFiles};
use dromia_contracts::content::{ContentPart, ToolCall};
use dromia_contracts::egress::EgressClient;
use dromia_contracts::pool::SlotPool;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::sandbox::{ProcessLimits, SandboxSelector};
use dromia_contracts::scope::Scope;
use dromia_contracts::store::{Read, Store};
use dromia_contracts::tool::{
    CallProgressSink, DiscardProgress, PrepareError, PreparedCall, ToolContext, ToolDescriptor, ToolHost,
    ToolManifest, ToolOutput,
};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::{OperatorTerms, ToolTerms};
use dromia_contracts::vault::{LeakDetector, mask_secrets};
use dromia_contracts::workspace::{RunWorkspace, WorkspaceReference, WorkspaceRoots};
use dromia_contracts::{AgentId, BoxFuture, RunId, TenantId};

use self::registry::ToolRegistry;
use crate::action_digest::action_digest;
use crate::arguments::{HttpRequest, parse_arguments};
use crate::catalogue::BuiltinTool;
use crate::external::{self, ExternalTool, RegisteredTool};
use crate::file_labels::FileLabelRegistry;
use crate::files::{self, WORKSPACE_FACT};
use crate::limits;
use crate::program::{PROGRAMS_MAX, PROGRAMS_RESERVE};
use crate::quota::WorkspaceQuotas;
use crate::reference::HeldReference;
use crate::workspace::PathResolver;
use crate::workspace_lock::{AgentLocks, DirectoryTurns};

/// The most file calls that run at once; more of them wait their turn.
pub const FILE_WORK_MAX: usize = 32;

/// How many of them one tenant does not take alone.
const FILE_WORK_RESERVE: usize = 8;

/// The most calls of one tenant that wait for a slot of a kind.
const WAITING_MAX: usize = 1024;

/// How the built-in tools are set up.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// The instance's home; workspaces lie below it.
    pub root: PathBuf,
    /// What may change later.
    pub calls: CallSettings,
    /// Who knows in which sandbox programs run.
    pub sandboxes: Arc<dyn SandboxSelector>,
    /// What the operator says about each tool.
    pub terms: Arc<dyn OperatorTerms>,
    /// The scanner for secrets in the arguments and the results of tools.
    pub leaks: Arc<dyn LeakDetector>,
    /// Where agents may have workspaces outside of the home.
    pub workspace_roots: Arc<dyn WorkspaceRoots>,
}

/// What the operator may change while the tools are used.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// Slows every tool call down by this much, for demonstrations.
    pub pace: Option<Duration>,
    /// The most messages between agents in a row; a message from outside begins a new row.
    pub hops_max: u32,
    /// The line for whatever agents are granted.
    pub granted: Arc<dyn EgressClient>,
    /// The line for what programs of agents reach through their proxy; a redirect must be its answer.
    pub programs: Arc<dyn EgressClient>,
}

/// Whose call works on files, and who hears that it waits.
#[derive(Clone, Copy)]
struct CallSite<'a> {
    tenant: TenantId,
    agent: AgentId,
    /// The directory of the operator's that is its workspace, as this call found it.
    held: Option<&'a Arc<HeldReference>>,
    pieces: &'a dyn CallProgressSink,
}

/// The built-in tools.
#[derive(Debug)]
pub struct Toolbox {
    tools: RwLock<Arc<ToolRegistry>>,
    config: ToolsConfig,
    calls: RwLock<CallSettings>,
    resolver: PathResolver,
    store: Arc<dyn Store>,
    runtime: Runtime,
    file_work: SlotPool,
    turns: Arc<AgentLocks>,
    directories: DirectoryTurns,
    marks: FileLabelRegistry,
    quotas: Arc<WorkspaceQuotas>,
    programs: SlotPool,
}

impl Toolbox {
    /// Sets the tools up. Nothing is made on disk.
    pub fn new(config: ToolsConfig, store: Arc<dyn Store>, runtime: Runtime) -> Self {
        Self {
            tools: RwLock::new(Arc::new(ToolRegistry::new(0, Vec::new()))),
            calls: RwLock::new(config.calls.clone()),
            config,
            resolver: PathResolver::probe(),
            marks: FileLabelRegistry::new(Arc::clone(&store)),
            store,
            runtime,
            file_work: SlotPool::new(FILE_WORK_MAX, FILE_WORK_RESERVE, WAITING_MAX),
            turns: Arc::new(AgentLocks::new()),
            directories: DirectoryTurns::default(),
            quotas: Arc::default(),
            programs: SlotPool::new(PROGRAMS_MAX, PROGRAMS_RESERVE, WAITING_MAX),
        }
    }

    /// Registers tools of others, each with the line to its server. Names are the operator's to keep apart.
    #[must_use]
    pub fn with_external(
        self,
        tools: impl IntoIterator<Item = (ExternalTool, Arc<dyn EgressClient>)>,
    ) -> Self {
        let registry = ToolRegistry::new(0, register_tools(tools));
        Self { tools: RwLock::new(Arc::new(registry)), ..self }
    }

    /// Lets other settings count for calls that begin from now on.
    pub fn replace_settings(&self, calls: CallSettings) {
        *self.calls.write().unwrap_or_else(PoisonError::into_inner) = calls;
    }

    // No code panics while it holds the lock.
    fn call_settings(&self) -> CallSettings {
        self.calls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers others in their place, for calls that begin from now on.
    pub fn replace_external(&self, tools: impl IntoIterator<Item = (ExternalTool, Arc<dyn EgressClient>)>) {
        let mut current = self.tools.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(current.next(register_tools(tools)));
    }

    /// Lists the facts of each tool that a policy gets beside its calls: of the built-in ones, and of these.
    pub fn tool_manifests<'a>(
        external: impl IntoIterator<Item = &'a ExternalTool>,
    ) -> impl Iterator<Item = (String, ToolManifest)> {
        let built_in = BuiltinTool::ALL.into_iter().map(|tool| (tool.name().to_owned(), tool.manifest()));
        built_in.chain(external.into_iter().map(|tool| (tool.name().to_owned(), tool.manifest())))
    }

    /// The same of the tools that it has now.
    pub fn current_manifests(&self) -> Vec<(String, ToolManifest)> {
        Self::tool_manifests(self.registry().external()).collect()
    }

    /// Returns the names of all built-in tools, sorted; grants are checked against them.
    pub fn builtin_names() -> [&'static str; 19] {
        BuiltinTool::ALL.map(BuiltinTool::name)
    }

    /// Returns what a built-in tool says about itself.
    pub fn describe_builtin(name: &str) -> Option<ToolDescriptor> {
        BuiltinTool::find_by_name(name).filter(|tool| tool.name() == name).map(BuiltinTool::descriptor)
    }

    /// Returns whether a tool runs programs.
    pub fn runs_programs(tool: &str) -> bool {
        matches!(BuiltinTool::find_by_name(tool), Some(BuiltinTool::Exec | BuiltinTool::ShellExecute))
    }

    /// Refuses a call whose arguments hold the value of a secret: it belongs to its server and nowhere else.
    async fn check_for_secrets(&self, scope: &Scope, call: &PreparedCall) -> Result<(), String> {
        let found = self.config.leaks.scan_text(scope, call.arguments.as_bytes()).await;
        let found = found.map_err(|_| {
            "the server cannot check now whether the arguments contain a secret; nothing was done".to_owned()
        })?;
        match found.first() {
            None => Ok(()),
            Some(leak) => Err(format!(
                "the arguments contain the value of the secret {0:?}; nothing was done. Name it instead, with \
                 {{\"secret\":\"{0}\"}} as a header of http.request",
                leak.secret
            )),
        }
    }

    /// Writes stars over secrets in a tool's result. If it cannot be scanned, the result is withheld.
    async fn mask_secrets(&self, scope: &Scope, mut output: ToolOutput) -> ToolOutput {
        for part in &mut output.parts {
            let ContentPart::Text { text, .. } = part else { continue };
            let Ok(found) = self.config.leaks.scan_text(scope, text.as_bytes()).await else {
                let parts = vec![files::fact_part(
                    "the result is withheld: the server cannot check now whether it contains a secret"
                        .to_owned(),
                )];
                return ToolOutput { failed: true, parts, ..output };
            };
            if !found.is_empty() {
                let mut bytes = std::mem::take(text).into_bytes();
                mask_secrets(&mut bytes, &found);
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        output
    }
}

/// Checks a call of a built-in tool and puts it in canonical form. Pure: it needs no tool that is set up.
pub fn prepare_builtin(call: &ToolCall) -> Result<PreparedCall, PrepareError> {
    let tool = BuiltinTool::find_by_name(&call.tool)
        .ok_or_else(|| PrepareError::UnknownTool { name: call.tool.chars().take(64).collect() })?;
    let arguments = tool
        .canonical_arguments(&call.arguments)
        .map_err(|problem| PrepareError::Arguments { tool: tool.name().to_owned(), problem })?;
    let action = action_digest(tool.name(), &arguments);
    let request = (tool == BuiltinTool::HttpRequest).then(|| parse_arguments::<HttpRequest>(&arguments));
    let request = request.transpose();
    let request =
        request.map_err(|problem| PrepareError::Arguments { tool: tool.name().to_owned(), problem })?;
    Ok(PreparedCall {
        id: call.id,
        tool: tool.name().to_owned(),
        effect: request.as_ref().map_or_else(|| tool.effect_class(), HttpRequest::effect_class),
        reaches: request.as_ref().map(HttpRequest::reached_hosts),
        arguments,
        action,
        network: None,
        contents: None,
    })
}

impl ToolHost for Toolbox {
    fn shared_catalogue(&self) -> ToolCatalogue {
        self.registry().shared().clone()
    }

    fn tool_catalogue<'a>(&'a self, scope: &'a Scope, agent: Option<AgentId>) -> Read<'a, ToolCatalogue> {
        Box::pin(async move {
            let registry = self.registry();
            if !registry.is_scoped() {
                return Ok(registry.shared().clone());
            }
            let named = self.agent_name(scope, agent).await?;
            Ok(named.map_or_else(|| registry.shared().clone(), |named| registry.catalogue_for(&named)))
        })
    }

    fn has_tool<'a>(&'a self, scope: &'a Scope, agent: AgentId, tool: &'a str) -> Read<'a, bool> {
        Box::pin(async move {
            let is_external = self.find_external(scope, agent, tool).await?.is_some();
            Ok(is_external || self.registry().shared().find_tool(tool).is_some())
        })
    }

    fn prepare_call(&self, tools: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        let Some(own) = tools.find_tool(&call.tool).filter(|own| tools.is_configured(&own.name)) else {
            return prepare_builtin(call);
        };
        match self.registry().find_external(&call.tool) {
            Some(external) if external.tool.descriptor() == own => external.tool.prepare_call(call),
            // The operator changed it, or took it away, since the caller's run began.
            changed => external::prepare_by(own, changed.map(|external| &external.tool), call),
        }
    }

    fn execute_call<'a>(
        &'a self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput> {
        Box::pin(async move {
            let scope = context.scope.clone();
            let output = self.execute_builtin(context, call, pieces).await.unwrap_or_else(failed_output);
            self.mask_secrets(&scope, output).await
        })
    }

    fn process_limits(&self, tool: &str, terms: &ToolTerms) -> Option<ProcessLimits> {
        Self::runs_programs(tool).then(|| limits::limits_max(terms))
    }

    fn executable_files<'a>(
        &'a self,
        tenant: TenantId,
        agent: AgentId,
        workspace: &'a RunWorkspace,
        call: &'a PreparedCall,
        extent: BoundFiles,
    ) -> BoxFuture<'a, Result<Option<ExecutableFiles>, String>> {
        Box::pin(async move {
            if !Self::runs_programs(&call.tool) {
                return Ok(None);
            }
            let held = self.hold_reference(tenant, workspace).await?;
            let at = CallSite { tenant, agent, held: held.as_ref(), pieces: &DiscardProgress };
            self.contents_of(at, call, extent).await
        })
    }

    fn check_workspace<'a>(
        &'a self,
        tenant: TenantId,
        workspace: &'a WorkspaceReference,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            match self.open_reference(tenant, workspace.clone()).await {
                Ok(held) => held.check_access(workspace).map_err(|error| error.to_string()),
                Err(problem) => Err(problem),
            }
        })
    }

    fn let_go(&self, run: RunId) {
        self.config.sandboxes.let_go(run);
        self.marks.let_go(run);
    }
}

fn register_tools(
    tools: impl IntoIterator<Item = (ExternalTool, Arc<dyn EgressClient>)>,
) -> Vec<RegisteredTool> {
    tools.into_iter().map(|(tool, line)| RegisteredTool { tool, line }).collect()
}

fn failed_output(text: String) -> ToolOutput {
    ToolOutput {
        failed: true,
        parts: vec![ContentPart::new_text(text, WORKSPACE_FACT)],
        ..ToolOutput::default()
    }
}
