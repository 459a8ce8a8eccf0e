//! The built-in tools behind the [`ToolHost`] port.
//!
//! Invariant: a call executes its canonical arguments and nothing else, at most once per invocation, and never
//! fails: what goes wrong is told to the model. Blocking file work runs beside the async threads, at most
//! [`FILE_WORK_MAX`] at a time.
//!
//! It does not ask the gate; the engine does, before it calls. It sets no deadline on file work: an effect whose
//! end nobody awaited would be neither done nor undone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::content::{Part, ToolCall};
use dromia_contracts::digest::Digest;
use dromia_contracts::egress::Line;
use dromia_contracts::label::Label;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::sandbox::Sandboxes;
use dromia_contracts::store::Store;
use dromia_contracts::tool::{PrepareError, PreparedCall, ToolContext, ToolDescriptor, ToolHost, ToolOutput};
use dromia_contracts::{AgentId, BoxFuture};
use tokio::sync::Semaphore;

use crate::arguments::{
    Exec, FileContent, FileDelete, FileList, FileRead, HttpRequest, MessageSend, ShellExecute, parse,
};
use crate::catalogue::Builtin;
use crate::file_error::FileError;
use crate::files::{self, Told, WORKSPACE_FACT};
use crate::listing;
use crate::message;
use crate::program::{self, PROGRAMS_MAX, Program};
use crate::web;
use crate::workspace::{Missing, Resolver, Workspace, workspace_path};

/// The most file calls that run at once; more of them wait their turn.
pub const FILE_WORK_MAX: usize = 32;

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
    file_work: Arc<Semaphore>,
    programs: Semaphore,
}

impl Toolbox {
    /// Sets the tools up. Nothing is made on disk. The line is the one for whatever agents are granted.
    pub fn new(config: ToolsConfig, store: Arc<dyn Store>, runtime: Runtime, line: Arc<dyn Line>) -> Self {
        Self {
            descriptors: Builtin::ALL.into_iter().map(Builtin::descriptor).collect(),
            config,
            resolver: Resolver::probe(),
            store,
            runtime,
            line,
            file_work: Arc::new(Semaphore::new(FILE_WORK_MAX)),
            programs: Semaphore::new(PROGRAMS_MAX),
        }
    }

    /// Returns the names of all built-in tools, sorted; grants are checked against them.
    pub fn names() -> [&'static str; 10] {
        Builtin::ALL.map(Builtin::name)
    }

    async fn execute(&self, context: ToolContext, call: PreparedCall) -> Result<ToolOutput, String> {
        let Some(tool) = Builtin::find(&call.tool) else { return Err("there is no such tool".to_owned()) };
        let agent = context.agent;
        if let Some(pace) = self.config.pace {
            let now = self.runtime.clock.now();
            self.runtime.clock.sleep_until(now.checked_add(pace).unwrap_or(now)).await;
        }
        match tool {
            Builtin::TimeNow => {
                Ok(done(vec![Part::text(self.runtime.clock.now().to_string(), Label::PUBLIC_FACT)]))
            }
            Builtin::HttpRequest => {
                let arguments: HttpRequest = parse(&call.arguments)?;
                Ok(web::request(&*self.line, context, arguments).await)
            }
            Builtin::MessageSend => self.send(&context, &call).await,
            Builtin::Exec => {
                let Exec { argv, cwd, timeout_s } = parse(&call.arguments)?;
                self.program(&context, Program { argv, cwd, timeout_s, key: context.key.clone() }).await
            }
            Builtin::ShellExecute => {
                let ShellExecute { command, cwd, timeout_s } = parse(&call.arguments)?;
                let argv = vec![program::SHELL.to_owned(), "-c".to_owned(), command];
                self.program(&context, Program { argv, cwd, timeout_s, key: context.key.clone() }).await
            }
            Builtin::FileRead => {
                let arguments: FileRead = parse(&call.arguments)?;
                self.file(agent, Missing::Leave, move |workspace| files::read(workspace, &arguments)).await
            }
            Builtin::FileList => {
                let arguments: FileList = parse(&call.arguments)?;
                self.file(agent, Missing::Leave, move |workspace| listing::list(workspace, &arguments)).await
            }
            Builtin::FileDelete => {
                let arguments: FileDelete = parse(&call.arguments)?;
                self.file(agent, Missing::Leave, move |workspace| files::delete(workspace, &arguments)).await
            }
            Builtin::FileWrite => {
                let arguments: FileContent = parse(&call.arguments)?;
                let write = move |workspace: &Workspace| files::write(workspace, &arguments, &context.key);
                self.file(agent, Missing::Make, made(write)).await
            }
            Builtin::FileAppend => {
                let arguments: FileContent = parse(&call.arguments)?;
                self.file(agent, Missing::Make, made(move |workspace| files::append(workspace, &arguments)))
                    .await
            }
        }
    }

    async fn send(&self, context: &ToolContext, call: &PreparedCall) -> Result<ToolOutput, String> {
        let arguments: MessageSend = parse(&call.arguments)?;
        let hops_max = self.config.hops_max;
        let item = message::send(&*self.store, &self.runtime, context, call, arguments, hops_max)
            .await
            .map_err(|error| error.to_string())?;
        let parts = vec![Part::text("sent; the answer, if any, stays in that session", WORKSPACE_FACT)];
        Ok(ToolOutput { parts, sends: vec![item], ..ToolOutput::default() })
    }

    async fn program(&self, context: &ToolContext, program: Program) -> Result<ToolOutput, String> {
        let agent = context.agent;
        // However long the others run, this one is told in time that it did not.
        let turn = tokio::time::timeout(program::TURN_WAIT, self.programs.acquire()).await;
        let _permit = match turn {
            Ok(permit) => permit.map_err(|error| error.to_string())?,
            Err(_) => return Err("too many programs run at once; nothing ran, try again later".to_owned()),
        };
        let sandbox = self.config.sandboxes.pick(context.scope.tenant()).await;
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        // Making the directory is file work as any other.
        self.file(agent, Missing::Make, |_| Ok(Vec::new())).await?;
        let path = workspace_path(&self.config.root, agent);
        let path = tokio::fs::canonicalize(path).await.map_err(|error| error.to_string())?;
        let key = program.key.clone();
        let done = program::run(&*sandbox, path, program).await.map_err(|error| error.to_string())?;
        let mut output = ToolOutput { failed: done.failed, parts: done.parts, ..ToolOutput::default() };
        if let Some((path, whole)) = done.whole {
            let kept = made(move |workspace| files::keep(workspace, &path, &whole, &key));
            match self.file(agent, Missing::Make, kept).await {
                Ok(told) => output.parts.extend(told.parts),
                Err(problem) => output.parts.push(files::fact(format!("[the rest is lost: {problem}]"))),
            }
        }
        Ok(output)
    }

    async fn file<F>(&self, agent: AgentId, missing: Missing, work: F) -> Result<ToolOutput, String>
    where
        F: FnOnce(Option<&Workspace>) -> Told + Send + 'static,
    {
        let permit = Arc::clone(&self.file_work).acquire_owned().await.map_err(|error| error.to_string())?;
        let (root, resolver) = (self.config.root.clone(), self.resolver);
        let told = tokio::task::spawn_blocking(move || {
            // The permit goes with the work, which goes on if the caller is dropped.
            let _permit = permit;
            let workspace = Workspace::open(&root, agent, resolver, missing)?;
            work(workspace.as_ref())
        });
        match told.await {
            Ok(Ok(parts)) => Ok(done(parts)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the tool broke down; what it did is not known".to_owned()),
        }
    }
}

impl ToolHost for Toolbox {
    fn descriptors(&self) -> &[ToolDescriptor] {
        &self.descriptors
    }

    fn prepare(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
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
        })
    }

    fn call(&self, context: ToolContext, call: PreparedCall) -> BoxFuture<'_, ToolOutput> {
        Box::pin(async move { self.execute(context, call).await.unwrap_or_else(failed) })
    }
}

fn action(tool: &str, arguments: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tool.as_bytes()).update(&[0]).update(arguments.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// Adapts work that needs a workspace, where one has just been made.
fn made<F>(work: F) -> impl FnOnce(Option<&Workspace>) -> Told
where
    F: FnOnce(&Workspace) -> Told,
{
    move |workspace| workspace.map_or(Err(FileError::Missing), work)
}

fn done(parts: Vec<Part>) -> ToolOutput {
    ToolOutput { parts, ..ToolOutput::default() }
}

fn failed(text: String) -> ToolOutput {
    ToolOutput { failed: true, parts: vec![Part::text(text, WORKSPACE_FACT)], ..ToolOutput::default() }
}
