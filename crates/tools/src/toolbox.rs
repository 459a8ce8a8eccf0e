//! The built-in tools, and those that an operator registers, behind the [`ToolHost`] port.
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
use dromia_contracts::file::FileLabels;
use dromia_contracts::label::Label;
use dromia_contracts::plan::Declaration;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::sandbox::{Family, Limits, Network, Sandboxes};
use dromia_contracts::scope::{Actor, Scope};
use dromia_contracts::store::Store;
use dromia_contracts::terms::{Terms, ToolTerms};
use dromia_contracts::tool::{
    Manifest, Pieces, PrepareError, PreparedCall, ToolContext, ToolDescriptor, ToolHost, ToolOutput,
};
use dromia_contracts::vault::{Leaks, mask};
use dromia_contracts::{AgentId, BoxFuture, RunId};
use tokio::sync::Semaphore;

use crate::arguments::{
    Exec, FileContent, FileDelete, FileEdit, FileList, FileRead, FileSearch, HttpRequest, MessageSend,
    PastRead, ShellExecute, parse,
};
use crate::catalogue::Builtin;
use crate::edit;
use crate::external::{ExternalTool, Registered};
use crate::file_error::FileError;
use crate::files::{self, WORKSPACE_FACT};
use crate::kept::Long;
use crate::limits;
use crate::listing;
use crate::marks::{self, Holds, Marks};
use crate::message;
use crate::past;
use crate::program::{self, PROGRAMS_MAX, Program};
use crate::proxy::{self, Watched, Way};
use crate::search;
use crate::turns::Turns;
use crate::walk::{self, Seen};
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

    async fn execute(
        &self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &dyn Pieces,
    ) -> Result<ToolOutput, String> {
        let (tool, external) = (Builtin::find(&call.tool), self.external(&call.tool));
        if tool.is_none() && external.is_none() {
            return Err("there is no such tool".to_owned());
        }
        let agent = context.agent;
        self.check(&context.scope, &call).await?;
        if let Some(pace) = self.config.pace {
            let now = self.runtime.clock.now();
            self.runtime.clock.sleep_until(now.checked_add(pace).unwrap_or(now)).await;
        }
        if let Some(Registered { tool, line }) = external {
            let leaks = &*self.config.leaks;
            let (output, long) = tool.call(&**line, leaks, &context, call.arguments).await;
            return Ok(self.keep(&context, output, long).await);
        }
        let Some(tool) = tool else { return Err("there is no such tool".to_owned()) };
        match tool {
            Builtin::TimeNow => {
                Ok(done(vec![Part::text(self.runtime.clock.now().to_string(), Label::PUBLIC_FACT)]))
            }
            Builtin::HttpRequest => {
                let arguments: HttpRequest = parse(&call.arguments)?;
                let asked = context.clone();
                let (output, long) = web::request(&*self.line, &*self.config.leaks, asked, arguments).await;
                Ok(self.keep(&context, output, long).await)
            }
            Builtin::MessageSend => self.send(&context, &call).await,
            Builtin::PastRead => {
                let arguments: PastRead = parse(&call.arguments)?;
                past::read(&context.past, &arguments).map(done)
            }
            // The engine reads plans off the journal, and refuses what comes too late; there is nothing to do here.
            Builtin::PlanDeclare => {
                let Declaration { tools } = parse(&call.arguments)?;
                let leads: usize = tools.values().map(Vec::len).sum();
                let text = format!("planned: {} tools, {leads} destinations", tools.len());
                Ok(done(vec![Part::text(text, Label::PUBLIC_FACT)]))
            }
            Builtin::Exec => {
                let Exec { argv, cwd, timeout_s } = parse(&call.arguments)?;
                let terms = self.terms(tool, &context).await?;
                let (way, family) = (self.way(&context, &terms), family(&context));
                let program = Program { argv, cwd, timeout_s, terms, way, family };
                self.program(&context, program, pieces).await
            }
            Builtin::ShellExecute => {
                let ShellExecute { command, cwd, timeout_s } = parse(&call.arguments)?;
                let argv = vec![program::SHELL.to_owned(), "-c".to_owned(), command];
                let terms = self.terms(tool, &context).await?;
                let (way, family) = (self.way(&context, &terms), family(&context));
                let program = Program { argv, cwd, timeout_s, terms, way, family };
                self.program(&context, program, pieces).await
            }
            Builtin::FileRead => {
                let arguments: FileRead = parse(&call.arguments)?;
                let mark = self.marks.of(&context, &arguments.path.to_string()).await;
                let read = move |workspace: Option<&Workspace>| files::read(workspace, &arguments, &mark);
                self.file(agent, Missing::Leave, read).await.map(done)
            }
            Builtin::FileList => {
                let arguments: FileList = parse(&call.arguments)?;
                let list = move |workspace: Option<&Workspace>| listing::list(workspace, &arguments);
                self.file(agent, Missing::Leave, list).await.map(done)
            }
            Builtin::FileSearch => {
                let arguments: FileSearch = parse(&call.arguments)?;
                let pattern = arguments.compile()?;
                let (clock, known) = (Arc::clone(&self.runtime.clock), self.marks.all(&context).await);
                let search = move |workspace: Option<&Workspace>| {
                    search::search(workspace, &arguments, &pattern, &*clock, &known)
                };
                self.file(agent, Missing::Leave, search).await.map(done)
            }
            Builtin::FileDelete => {
                let arguments: FileDelete = parse(&call.arguments)?;
                let path = arguments.path.to_string();
                let delete = move |workspace: Option<&Workspace>| files::delete(workspace, &arguments);
                let parts = self.change(agent, Missing::Leave, delete).await?;
                Ok(ToolOutput { files: FileLabels::of(path, None), ..done(parts) })
            }
            Builtin::FileEdit => {
                let arguments: FileEdit = parse(&call.arguments)?;
                let path = arguments.path.to_string();
                let mark = self.marks.of(&context, &path).await;
                self.marks.begin(&context, context.label);
                let edit = move |workspace: Option<&Workspace>| {
                    edit::edit(workspace, &arguments, &context.key, &mark)
                };
                let changed = self.change(agent, Missing::Leave, edit).await?;
                Ok(marked(path, &context.author, changed))
            }
            Builtin::FileWrite => {
                let arguments: FileContent = parse(&call.arguments)?;
                let path = arguments.path.to_string();
                self.marks.begin(&context, context.label);
                let holds = Some(Holds::of(arguments.content.as_bytes(), context.label));
                let write = move |workspace: &Workspace| files::write(workspace, &arguments, &context.key);
                let parts = self.change(agent, Missing::Make, made(write)).await?;
                Ok(marked(path, &context.author, (parts, holds)))
            }
            Builtin::FileAppend => {
                let arguments: FileContent = parse(&call.arguments)?;
                let path = arguments.path.to_string();
                let mark = self.marks.of(&context, &path).await;
                self.marks.begin(&context, context.label);
                let append = move |workspace: &Workspace| files::append(workspace, &arguments, &mark);
                let changed = self.change(agent, Missing::Make, made(append)).await?;
                Ok(marked(path, &context.author, changed))
            }
        }
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

    async fn send(&self, context: &ToolContext, call: &PreparedCall) -> Result<ToolOutput, String> {
        let arguments: MessageSend = parse(&call.arguments)?;
        let hops_max = self.config.hops_max;
        let item = message::send(&*self.store, &self.runtime, context, call, arguments, hops_max)
            .await
            .map_err(|error| error.to_string())?;
        let parts = vec![Part::text("sent; the answer, if any, stays in that session", WORKSPACE_FACT)];
        Ok(ToolOutput { parts, sends: vec![item], ..ToolOutput::default() })
    }

    /// Asks what the operator says about a tool in these hands. Without an answer nothing runs.
    async fn terms(&self, tool: Builtin, context: &ToolContext) -> Result<ToolTerms, String> {
        let terms = self.config.terms.of(tool.name(), Some((&context.scope, context.agent))).await;
        terms.map_err(|_| "its limits cannot be read now; nothing ran, try again later".to_owned())
    }

    /// The way out of a program, where the operator says that there is one and the agent's grants cover anything.
    fn way(&self, context: &ToolContext, terms: &ToolTerms) -> Option<Way> {
        let has_one = match terms.network {
            Some(Network::Proxy) => proxy::is_of_use(&context.grants),
            Some(Network::None) | None => false,
        };
        has_one.then(|| Way {
            line: Arc::new(Watched {
                line: Arc::clone(&self.config.way_out),
                leaks: Arc::clone(&self.config.leaks),
                scope: context.scope.clone(),
            }),
            grants: context.grants.clone(),
            share: context.scope.tenant().to_string(),
        })
    }

    async fn program(
        &self,
        context: &ToolContext,
        program: Program,
        pieces: &dyn Pieces,
    ) -> Result<ToolOutput, String> {
        let (agent, tenant) = (context.agent, context.scope.tenant());
        // However long the others run, this one is told in time that it did not.
        let turn = tokio::time::timeout(program::TURN_WAIT, self.programs.acquire()).await;
        let _permit = match turn {
            Ok(permit) => permit.map_err(|error| error.to_string())?,
            Err(_) => return Err("too many programs run at once; nothing ran, try again later".to_owned()),
        };
        let sandboxes = &self.config.sandboxes;
        let sandbox = match program.terms.sandbox {
            Some(least) => sandboxes.pick_at_least(tenant, least).await,
            None => sandboxes.pick(tenant).await,
        };
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        // Making the directory is file work as any other. What lies there is what the program may read.
        let before = self.look(agent).await?;
        let mut read = self.marks.all(context).await.label_of_all(&before).join(context.label);
        if program.way.is_some() {
            // What others answer it can become a file too, without a word in its output.
            read = read.join(Label::OUTSIDE);
        }
        self.marks.begin(context, read);
        let path = workspace_path(&self.config.root, agent);
        let path = tokio::fs::canonicalize(path).await.map_err(|error| error.to_string())?;
        let done = program::run(&*sandbox, path, program, &*self.runtime.clock, pieces).await;
        let mut done = done.map_err(|error| error.to_string())?;
        let (files, label) = self.looked_after(context, read).await;
        marks::narrow(&mut done.parts, label);
        let output = ToolOutput {
            failed: done.failed,
            parts: done.parts,
            egress: done.egress,
            files,
            ..ToolOutput::default()
        };
        Ok(self.keep(context, output, done.whole).await)
    }

    /// Says what a program that may have read this left in the workspace, and the label of that.
    async fn looked_after(&self, context: &ToolContext, read: Label) -> (FileLabels, Label) {
        let seen = self.look(context.agent).await;
        let known = self.marks.all(context).await;
        // Other runs of the agent may have written meanwhile what is not known yet.
        let label = self.marks.begin(context, read);
        let Ok(seen) = seen else {
            // Nobody knows what it changed, so that is what is said.
            let label = label.join(Label::UNKNOWN_FILE);
            return (FileLabels { rest: Some(label), ..FileLabels::default() }, label);
        };
        let label = known.label_of_known().join(label);
        (known.changed(&seen, label), label)
    }

    /// Looks at every file of a workspace, which is made where it is not there.
    async fn look(&self, agent: AgentId) -> Result<Seen, String> {
        self.file(agent, Missing::Make, made(walk::look)).await
    }

    /// Keeps a result that is longer than what is told of it, and tells where.
    async fn keep(&self, context: &ToolContext, mut output: ToolOutput, long: Option<Long>) -> ToolOutput {
        let Some(long) = long else { return output };
        let label = marks::label_of(&output.parts, context.label);
        self.marks.begin(context, label);
        let (holds, key) = (Holds::of(&long.bytes, label).by(&context.author), context.key.clone());
        let keep = move |workspace: &Workspace| long.keep(workspace, &key);
        match self.change(context.agent, Missing::Make, made(keep)).await {
            Ok(kept) => {
                output.parts.push(kept.told);
                let gone = kept.gone.into_iter().map(|path| (path, None));
                let files = gone.chain([(kept.path, Some(holds))]).collect();
                output.files.extend(FileLabels { files, rest: None });
            }
            Err(problem) => output.parts.push(files::fact(format!("[the rest is lost: {problem}]"))),
        }
        output
    }

    /// Does file work that changes something, one at a time in a workspace.
    async fn change<T, F>(&self, agent: AgentId, missing: Missing, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let turns = Arc::clone(&self.turns);
        let change = move |workspace: Option<&Workspace>| {
            let _turn = turns.take(agent);
            work(workspace)
        };
        self.file(agent, missing, change).await
    }

    async fn file<T, F>(&self, agent: AgentId, missing: Missing, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
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
            Ok(Ok(told)) => Ok(told),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the tool broke down; what it did is not known".to_owned()),
        }
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

    fn let_go(&self, run: RunId) {
        self.config.sandboxes.let_go(run);
        self.marks.let_go(run);
    }
}

/// Whose a program is: of one run of one agent, as long as what the run has seen has one label.
fn family(context: &ToolContext) -> Family {
    Family { run: context.run, agent: context.agent, label: context.label }
}

/// The digest of what is done.
pub(crate) fn action(tool: &str, arguments: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tool.as_bytes()).update(&[0]).update(arguments.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// Adapts work that needs a workspace, where one has just been made.
fn made<T, F>(work: F) -> impl FnOnce(Option<&Workspace>) -> Result<T, FileError>
where
    F: FnOnce(&Workspace) -> Result<T, FileError>,
{
    move |workspace| workspace.map_or(Err(FileError::Missing), work)
}

fn done(parts: Vec<Part>) -> ToolOutput {
    ToolOutput { parts, ..ToolOutput::default() }
}

/// Says what a file holds that was changed, if anybody knows.
fn marked(path: String, author: &Actor, (parts, holds): (Vec<Part>, Option<Holds>)) -> ToolOutput {
    let files = holds.map(|holds| FileLabels::of(path, Some(holds.by(author))));
    ToolOutput { files: files.unwrap_or_default(), ..done(parts) }
}

fn failed(text: String) -> ToolOutput {
    ToolOutput { failed: true, parts: vec![Part::text(text, WORKSPACE_FACT)], ..ToolOutput::default() }
}
