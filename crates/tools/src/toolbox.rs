//! The built-in tools, and those that an operator registers, behind the [`ToolHost`] port.
//!
//! Invariant: a call executes its canonical arguments and nothing else, at most once per invocation, and never
//! fails: what goes wrong is told to the model. Blocking file work runs beside the async threads, at most
//! [`FILE_WORK_MAX`] at a time.
//!
//! It does not ask the gate; the engine does, before it calls. It sets no deadline on file work: an effect whose
//! end nobody awaited would be neither done nor undone.

mod calls;
mod programs;
mod workspaces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::approval::{BoundFiles, Contents};
use dromia_contracts::content::{Part, ToolCall};
use dromia_contracts::digest::Digest;
use dromia_contracts::egress::Line;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::sandbox::{Limits, Sandboxes};
use dromia_contracts::scope::Scope;
use dromia_contracts::store::Store;
use dromia_contracts::terms::{Terms, ToolTerms};
use dromia_contracts::tool::{
    Manifest, Pieces, PrepareError, PreparedCall, ToolContext, ToolDescriptor, ToolHost, ToolOutput,
};
use dromia_contracts::vault::{Leaks, mask};
use dromia_contracts::{AgentId, BoxFuture, RunId};
use tokio::sync::Semaphore;

use crate::arguments::{HttpRequest, parse};
use crate::catalogue::Builtin;
use crate::external::{ExternalTool, Registered};
use crate::files::{self, WORKSPACE_FACT};
use crate::limits;
use crate::marks::Marks;
use crate::program::PROGRAMS_MAX;
use crate::turns::Turns;
use crate::workspace::Resolver;

/// The most file calls that run at once; more of them wait their turn.
pub const FILE_WORK_MAX: usize = 32;

/// The most workspaces that are looked at as a whole at once, to hold programs to what lies there.
pub const SURVEYS_MAX: usize = 8;

/// How the built-in tools are set up.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// The instance's home; workspaces lie below it.
    pub root: PathBuf,
    /// Slows every tool call down by this much, for demonstrations.
    pub pace: Option<Duration>,
    /// The most messages between agents in a row; whoever speaks from outside begins a new row.
    pub hops_max: u32,
    /// Who knows in which sandbox programs run.
    pub sandboxes: Arc<dyn Sandboxes>,
    /// What the operator says about each tool.
    pub terms: Arc<dyn Terms>,
    /// The line for what programs of agents reach through their proxy; a redirect must be its answer.
    pub way_out: Arc<dyn Line>,
    /// Who looks for secrets in what a tool is told and in what it tells.
    pub leaks: Arc<dyn Leaks>,
}

/// The built-in tools.
#[derive(Debug)]
pub struct Toolbox {
    descriptors: Vec<ToolDescriptor>,
    config: ToolsConfig,
    resolver: Resolver,
    store: Arc<dyn Store>,
    runtime: Runtime,
    line: Arc<dyn Line>,
    external: Vec<Registered>,
    file_work: Arc<Semaphore>,
    surveys: Arc<Semaphore>,
    turns: Arc<Turns>,
    marks: Marks,
    programs: Semaphore,
}

impl Toolbox {
    /// Sets the tools up. Nothing is made on disk. The line is the one for whatever agents are granted.
    pub fn new(config: ToolsConfig, store: Arc<dyn Store>, runtime: Runtime, line: Arc<dyn Line>) -> Self {
        Self {
            descriptors: Builtin::ALL.into_iter().map(Builtin::descriptor).collect(),
            config,
            resolver: Resolver::probe(),
            marks: Marks::new(Arc::clone(&store)),
            store,
            runtime,
            line,
            external: Vec::new(),
            file_work: Arc::new(Semaphore::new(FILE_WORK_MAX)),
            surveys: Arc::new(Semaphore::new(SURVEYS_MAX)),
            turns: Arc::new(Turns::new()),
            programs: Semaphore::new(PROGRAMS_MAX),
        }
    }

    /// Registers tools of others, each with the line to its server. Names are the operator's to keep apart.
    #[must_use]
    pub fn with_external(mut self, tools: impl IntoIterator<Item = (ExternalTool, Arc<dyn Line>)>) -> Self {
        for (tool, line) in tools {
            self.descriptors.push(tool.descriptor().clone());
            self.external.push(Registered { tool, line });
        }
        self.descriptors.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// Lists what a policy is told of each tool beside its calls.
    pub fn manifests(&self) -> impl Iterator<Item = (String, Manifest)> {
        let built_in = Builtin::ALL.into_iter().map(|tool| (tool.name().to_owned(), tool.manifest()));
        let external = self.external.iter();
        built_in.chain(external.map(|external| (external.tool.name().to_owned(), external.tool.manifest())))
    }

    fn external(&self, name: &str) -> Option<&Registered> {
        self.external.iter().find(|external| external.tool.name() == name)
    }

    /// Returns the names of all built-in tools, sorted; grants are checked against them.
    pub fn names() -> [&'static str; 14] {
        Builtin::ALL.map(Builtin::name)
    }

    /// Returns what a built-in tool says about itself.
    pub fn described(name: &str) -> Option<ToolDescriptor> {
        Builtin::find(name).filter(|tool| tool.name() == name).map(Builtin::descriptor)
    }

    /// Tells whether a tool runs programs.
    pub fn runs_programs(tool: &str) -> bool {
        matches!(Builtin::find(tool), Some(Builtin::Exec | Builtin::ShellExecute))
    }

    /// Refuses a call whose arguments hold the value of a secret: it belongs to its server and nowhere else.
    async fn check(&self, scope: &Scope, call: &PreparedCall) -> Result<(), String> {
        let found = self.config.leaks.find(scope, call.arguments.as_bytes()).await;
        let found = found.map_err(|_| {
            "nobody can look now whether the arguments hold a secret; nothing was done".to_owned()
        })?;
        match found.first() {
            None => Ok(()),
            Some(leak) => Err(format!(
                "the arguments hold the value of the secret {0:?}; nothing was done. Name it instead, with \
                 {{\"secret\":\"{0}\"}} as a header of http.request",
                leak.secret
            )),
        }
    }

    /// Writes stars over secrets in what a tool tells. Where nobody can look, nothing of it is told.
    async fn masked(&self, scope: &Scope, mut output: ToolOutput) -> ToolOutput {
        for part in &mut output.parts {
            let Part::Text { text, .. } = part else { continue };
            let Ok(found) = self.config.leaks.find(scope, text.as_bytes()).await else {
                let parts = vec![files::fact(
                    "the result is withheld: nobody can look now whether it holds a secret".to_owned(),
                )];
                return ToolOutput { failed: true, parts, ..output };
            };
            if !found.is_empty() {
                let mut bytes = std::mem::take(text).into_bytes();
                mask(&mut bytes, &found);
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        output
    }
}

/// Checks a call of a built-in tool and puts it in canonical form. Pure: it needs no tool that is set up.
pub fn prepare(call: &ToolCall) -> Result<PreparedCall, PrepareError> {
    let tool = Builtin::find(&call.tool)
        .ok_or_else(|| PrepareError::UnknownTool { name: call.tool.chars().take(64).collect() })?;
    let arguments = tool
        .canonical(&call.arguments)
        .map_err(|problem| PrepareError::Arguments { tool: tool.name().to_owned(), problem })?;
    let action = action(tool.name(), &arguments);
    let request = (tool == Builtin::HttpRequest).then(|| parse::<HttpRequest>(&arguments));
    let request = request.transpose();
    let request =
        request.map_err(|problem| PrepareError::Arguments { tool: tool.name().to_owned(), problem })?;
    Ok(PreparedCall {
        id: call.id,
        tool: tool.name().to_owned(),
        effect: request.as_ref().map_or_else(|| tool.effect(), HttpRequest::effect),
        reaches: request.as_ref().map(HttpRequest::reaches),
        arguments,
        action,
        network: None,
        contents: None,
    })
}

impl ToolHost for Toolbox {
    fn descriptors(&self) -> &[ToolDescriptor] {
        &self.descriptors
    }

    fn prepare(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        if let Some(external) = self.external(&call.tool) {
            return external.tool.prepare(call);
        }
        prepare(call)
    }

    fn call<'a>(
        &'a self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn Pieces,
    ) -> BoxFuture<'a, ToolOutput> {
        Box::pin(async move {
            let scope = context.scope.clone();
            let output = self.execute(context, call, pieces).await.unwrap_or_else(failed);
            self.masked(&scope, output).await
        })
    }

    fn limits(&self, tool: &str, terms: &ToolTerms) -> Option<Limits> {
        Self::runs_programs(tool).then(|| limits::most(terms))
    }

    fn contents<'a>(
        &'a self,
        agent: AgentId,
        call: &'a PreparedCall,
        extent: BoundFiles,
    ) -> BoxFuture<'a, Result<Option<Contents>, String>> {
        Box::pin(self.contents_of(agent, call, extent))
    }

    fn let_go(&self, run: RunId) {
        self.config.sandboxes.let_go(run);
        self.marks.let_go(run);
    }
}

/// The digest of what is done.
pub(crate) fn action(tool: &str, arguments: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tool.as_bytes()).update(&[0]).update(arguments.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

fn failed(text: String) -> ToolOutput {
    ToolOutput { failed: true, parts: vec![Part::text(text, WORKSPACE_FACT)], ..ToolOutput::default() }
}
