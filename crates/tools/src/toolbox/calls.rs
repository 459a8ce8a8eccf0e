//! What each built-in tool does when it is called, one arm per tool.
//!
//! An arm reads its arguments and hands over; the work itself lies in the module of the tool. Nothing here asks the
//! gate or scans results for secrets: the caller does the one before, the other around it.

use std::sync::Arc;

use dromia_contracts::content::ContentPart;
use dromia_contracts::file::FileLabels;
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanDeclaration;
use dromia_contracts::scope::Actor;
use dromia_contracts::tool::{CallProgressSink, PreparedCall, ToolContext, ToolOutput};

use super::programs::process_family;
use super::workspaces::require_workspace;
use super::{CallSite, Toolbox};
use crate::arguments::{
    BranchBegin, FileContent, FileDelete, FileEdit, FileList, FileRead, FileSearch, HttpRequest,
    InterimReply, MessageSend, PastRead, ProgramExecute, ShellExecute, WorkerCancel, WorkerRoute,
    WorkerSpawn, parse_arguments,
};
use crate::branch;
use crate::catalogue::BuiltinTool;
use crate::edit;
use crate::external::RegisteredTool;
use crate::file_labels::LabelledContent;
use crate::files::{self, WORKSPACE_FACT};
use crate::listing;
use crate::message;
use crate::past_read;
use crate::program::{self, JudgedProgram};
use crate::search;
use crate::spilled_output;
use crate::web;
use crate::workspace::{MissingDirectory, Workspace};
use crate::{worker_cancel, worker_route, worker_spawn};

/// What a model reads after it gave work away.
const END_TURN: &str =
    "Do not wait for it: begin what else there is to begin, then end your turn with a short answer.";

impl Toolbox {
    pub(super) async fn execute_builtin(
        &self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &dyn CallProgressSink,
    ) -> Result<ToolOutput, String> {
        let tool = BuiltinTool::find_by_name(&call.tool);
        // Read again for each call: an agent that lost a tool lost it at once.
        let external = self.find_external(&context.scope, context.agent, &call.tool).await;
        let external = external.map_err(|_| "the store did not answer; nothing was done".to_owned())?;
        if tool.is_none() && external.is_none() {
            return Err("there is no such tool".to_owned());
        }
        self.check_for_secrets(&context.scope, &call).await?;
        if let Some(pace) = self.call_settings().pace {
            self.runtime.clock.sleep(pace).await;
        }
        if let Some(RegisteredTool { tool, line }) = external.as_deref() {
            tool.check_judged(&call.arguments)?;
            let leaks = &*self.config.leaks;
            let (output, long) = tool.post_call(&**line, leaks, &context, call.arguments).await;
            return Ok(self.spill_output(&context, pieces, output, long).await);
        }
        let Some(tool) = tool else { return Err("there is no such tool".to_owned()) };
        let held = if tool.uses_workspace() {
            self.hold_reference(context.scope.tenant(), &context.workspace).await?
        } else {
            None
        };
        let at =
            CallSite { tenant: context.scope.tenant(), agent: context.agent, held: held.as_ref(), pieces };
        match tool {
            BuiltinTool::TimeNow => Ok(done_output(vec![ContentPart::new_text(
                self.runtime.clock.now().to_string(),
                Label::PUBLIC_FACT,
            )])),
            BuiltinTool::HttpRequest => {
                let arguments: HttpRequest = parse_arguments(&call.arguments)?;
                let asked = context.clone();
                let (output, long) =
                    web::send_request(&*self.call_settings().granted, &*self.config.leaks, asked, arguments)
                        .await;
                Ok(self.spill_output(&context, pieces, output, long).await)
            }
            BuiltinTool::MessageSend => self.send_message(&context, &call).await,
            BuiltinTool::Branch => begin_branch(self, &context, &call),
            BuiltinTool::WorkerCancel => cancel_child(self, &context, &call).await,
            BuiltinTool::WorkerRoute => self.route_to_worker(&context, &call).await,
            BuiltinTool::WorkerSpawn => self.spawn_worker(&context, &call).await,
            // The engine sends it with the result, to those who get the answer.
            BuiltinTool::Reply => {
                let InterimReply { text } = parse_arguments(&call.arguments)?;
                let parts = vec![ContentPart::new_text(text, context.label)];
                Ok(ToolOutput { reply: true, ..done_output(parts) })
            }
            BuiltinTool::PastRead => {
                let arguments: PastRead = parse_arguments(&call.arguments)?;
                past_read::read_past(&context.past, &arguments).map(done_output)
            }
            // The engine reads plans off the journal, and refuses what comes too late; there is nothing to do here.
            BuiltinTool::PlanDeclare => {
                let PlanDeclaration { tools } = parse_arguments(&call.arguments)?;
                let leads: usize = tools.values().map(|calls| calls.to.len()).sum();
                let text = format!("planned: {} tools, {leads} destinations", tools.len());
                Ok(done_output(vec![ContentPart::new_text(text, Label::PUBLIC_FACT)]))
            }
            BuiltinTool::Exec => {
                let ProgramExecute { argv, cwd, timeout_s } = parse_arguments(&call.arguments)?;
                let terms = self.tool_terms(tool, &context).await?;
                let (way, family) =
                    (self.program_upstream(&context, &terms, call.network), process_family(&context, &call));
                let program = JudgedProgram { argv, cwd, timeout_s, terms, way, family };
                self.run_program(&context, &call, program, at).await
            }
            BuiltinTool::ShellExecute => {
                let ShellExecute { command, cwd, timeout_s } = parse_arguments(&call.arguments)?;
                let argv = vec![program::SHELL.to_owned(), "-c".to_owned(), command];
                let terms = self.tool_terms(tool, &context).await?;
                let (way, family) =
                    (self.program_upstream(&context, &terms, call.network), process_family(&context, &call));
                let program = JudgedProgram { argv, cwd, timeout_s, terms, way, family };
                self.run_program(&context, &call, program, at).await
            }
            BuiltinTool::FileRead => {
                let arguments: FileRead = parse_arguments(&call.arguments)?;
                let mark = self.marks.file_access(&context, &arguments.path.to_string()).await;
                // Long results lie in the home, wherever the agent works.
                let kept = CallSite { held: None, ..at };
                let at = if spilled_output::is_spilled(&arguments.path) { kept } else { at };
                let read =
                    move |workspace: Option<&Workspace>| files::read_file(workspace, &arguments, &mark);
                self.run_file_work(at, MissingDirectory::Leave, read).await.map(done_output)
            }
            BuiltinTool::FileList => {
                let arguments: FileList = parse_arguments(&call.arguments)?;
                let list =
                    move |workspace: Option<&Workspace>| listing::list_directory(workspace, &arguments);
                self.run_file_work(at, MissingDirectory::Leave, list).await.map(done_output)
            }
            BuiltinTool::FileSearch => {
                let arguments: FileSearch = parse_arguments(&call.arguments)?;
                let pattern = arguments.compile_pattern()?;
                let (clock, known) =
                    (Arc::clone(&self.runtime.clock), self.marks.workspace_labels(&context).await);
                let search = move |workspace: Option<&Workspace>| {
                    search::search_files(workspace, &arguments, &pattern, &*clock, &known)
                };
                self.search_work(at, search).await.map(done_output)
            }
            BuiltinTool::FileDelete => {
                let arguments: FileDelete = parse_arguments(&call.arguments)?;
                let path = arguments.path.to_string();
                let delete = move |workspace: Option<&Workspace>| files::delete_file(workspace, &arguments);
                let parts = self.change_files(at, MissingDirectory::Leave, delete).await?;
                Ok(ToolOutput { files: FileLabels::for_file(path, None), ..done_output(parts) })
            }
            BuiltinTool::FileEdit => {
                let arguments: FileEdit = parse_arguments(&call.arguments)?;
                let path = arguments.path.to_string();
                let mark = self.marks.file_access(&context, &path).await;
                self.marks.begin_writing(&context, context.label);
                let key = context.key.clone();
                let more = arguments.new.len().saturating_mul(arguments.count as usize);
                let edit =
                    move |workspace: Option<&Workspace>| edit::edit_file(workspace, &arguments, &key, &mark);
                let changed =
                    self.grow_files(&context.scope, at, MissingDirectory::Leave, more, edit).await?;
                Ok(labelled_output(path, &context.author, changed))
            }
            BuiltinTool::FileWrite => {
                let arguments: FileContent = parse_arguments(&call.arguments)?;
                let path = arguments.path.to_string();
                self.marks.begin_writing(&context, context.label);
                let holds = Some(LabelledContent::with_label(arguments.content.as_bytes(), context.label));
                let (more, key) = (arguments.content.len(), context.key.clone());
                let write = move |workspace: &Workspace| files::write_file(workspace, &arguments, &key);
                let parts = self
                    .grow_files(&context.scope, at, MissingDirectory::Make, more, require_workspace(write))
                    .await?;
                Ok(labelled_output(path, &context.author, (parts, holds)))
            }
            BuiltinTool::FileAppend => {
                let arguments: FileContent = parse_arguments(&call.arguments)?;
                let path = arguments.path.to_string();
                let mark = self.marks.file_access(&context, &path).await;
                self.marks.begin_writing(&context, context.label);
                let more = arguments.content.len();
                let append = move |workspace: &Workspace| files::append_file(workspace, &arguments, &mark);
                let changed = self
                    .grow_files(&context.scope, at, MissingDirectory::Make, more, require_workspace(append))
                    .await?;
                Ok(labelled_output(path, &context.author, changed))
            }
        }
    }

    async fn send_message(&self, context: &ToolContext, call: &PreparedCall) -> Result<ToolOutput, String> {
        let arguments: MessageSend = parse_arguments(&call.arguments)?;
        let hops_max = self.call_settings().hops_max;
        let item = message::prepare_message(&*self.store, &self.runtime, context, call, arguments, hops_max)
            .await
            .map_err(|error| error.to_string())?;
        let parts =
            vec![ContentPart::new_text("sent; the answer, if any, stays in that session", WORKSPACE_FACT)];
        Ok(ToolOutput { parts, sends: vec![item], ..ToolOutput::default() })
    }
}

impl Toolbox {
    async fn route_to_worker(
        &self,
        context: &ToolContext,
        call: &PreparedCall,
    ) -> Result<ToolOutput, String> {
        let arguments: WorkerRoute = parse_arguments(&call.arguments)?;
        let hops_max = self.call_settings().hops_max;
        let item =
            worker_route::prepare_route(&*self.store, &self.runtime, context, call, arguments, hops_max)
                .await
                .map_err(|error| error.to_string())?;
        let text = format!("sent; what comes of it comes as a message. {END_TURN}");
        let parts = vec![ContentPart::new_text(text, WORKSPACE_FACT)];
        Ok(ToolOutput { parts, sends: vec![item], ..ToolOutput::default() })
    }

    async fn spawn_worker(&self, context: &ToolContext, call: &PreparedCall) -> Result<ToolOutput, String> {
        let arguments: WorkerSpawn = parse_arguments(&call.arguments)?;
        let hops_max = self.call_settings().hops_max;
        let (open, item) =
            worker_spawn::prepare_worker(&*self.store, &self.runtime, context, call, arguments, hops_max)
                .await
                .map_err(|error| error.to_string())?;
        let text = format!(
            "spawned in {}; its result comes as a message when it has ended. {END_TURN}",
            open.session
        );
        let parts = vec![ContentPart::new_text(text, WORKSPACE_FACT)];
        Ok(ToolOutput { parts, sends: vec![item], opens: vec![open], ..ToolOutput::default() })
    }
}

fn begin_branch(toolbox: &Toolbox, context: &ToolContext, call: &PreparedCall) -> Result<ToolOutput, String> {
    let arguments: BranchBegin = parse_arguments(&call.arguments)?;
    let hops_max = toolbox.call_settings().hops_max;
    let (open, item) = branch::prepare_branch(&toolbox.runtime, context, call, arguments, hops_max)
        .map_err(|error| error.to_string())?;
    let text = format!("begun in {}; its conclusion comes as a message. {END_TURN}", open.session);
    let parts = vec![ContentPart::new_text(text, WORKSPACE_FACT)];
    Ok(ToolOutput { parts, sends: vec![item], opens: vec![open], ..ToolOutput::default() })
}

async fn cancel_child(
    toolbox: &Toolbox,
    context: &ToolContext,
    call: &PreparedCall,
) -> Result<ToolOutput, String> {
    let arguments: WorkerCancel = parse_arguments(&call.arguments)?;
    let signal = worker_cancel::prepare_cancel(&*toolbox.store, &toolbox.runtime, context, &arguments)
        .await
        .map_err(|error| error.to_string())?;
    let text = format!("{} ends after its current call; its end comes as a message", arguments.worker);
    let parts = vec![ContentPart::new_text(text, WORKSPACE_FACT)];
    Ok(ToolOutput { parts, sends: vec![signal], ..ToolOutput::default() })
}

fn done_output(parts: Vec<ContentPart>) -> ToolOutput {
    ToolOutput { parts, ..ToolOutput::default() }
}

/// Says what a file holds that was changed, if anybody knows.
fn labelled_output(
    path: String,
    author: &Actor,
    (parts, holds): (Vec<ContentPart>, Option<LabelledContent>),
) -> ToolOutput {
    let files = holds.map(|holds| FileLabels::for_file(path, Some(holds.into_file_label(author))));
    ToolOutput { files: files.unwrap_or_default(), ..done_output(parts) }
}
