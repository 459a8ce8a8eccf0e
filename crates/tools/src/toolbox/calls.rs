//! What each built-in tool does when it is called, one arm per tool.
//!
//! An arm reads its arguments and hands over; the work itself lies in the module of the tool. Nothing here asks the gate or
//! looks whether a secret is told: the one is done before, the other around it.

use std::sync::Arc;

use dromia_contracts::content::Part;
use dromia_contracts::file::FileLabels;
use dromia_contracts::label::Label;
use dromia_contracts::plan::Declaration;
use dromia_contracts::scope::Actor;
use dromia_contracts::tool::{Pieces, PreparedCall, ToolContext, ToolOutput};

use super::Toolbox;
use super::programs::family;
use super::workspaces::made;
use crate::arguments::{
    Exec, FileContent, FileDelete, FileEdit, FileList, FileRead, FileSearch, HttpRequest, MessageSend,
    PastRead, ShellExecute, parse,
};
use crate::catalogue::Builtin;
use crate::edit;
use crate::external::Registered;
use crate::files::{self, WORKSPACE_FACT};
use crate::listing;
use crate::marks::Holds;
use crate::message;
use crate::past;
use crate::program::{self, Program};
use crate::search;
use crate::web;
use crate::workspace::{Missing, Workspace};

impl Toolbox {
    pub(super) async fn execute(
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
                let (way, family) = (self.way(&context, &terms, call.network), family(&context, &call));
                let program = Program { argv, cwd, timeout_s, terms, way, family };
                self.program(&context, &call, program, pieces).await
            }
            Builtin::ShellExecute => {
                let ShellExecute { command, cwd, timeout_s } = parse(&call.arguments)?;
                let argv = vec![program::SHELL.to_owned(), "-c".to_owned(), command];
                let terms = self.terms(tool, &context).await?;
                let (way, family) = (self.way(&context, &terms, call.network), family(&context, &call));
                let program = Program { argv, cwd, timeout_s, terms, way, family };
                self.program(&context, &call, program, pieces).await
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

    async fn send(&self, context: &ToolContext, call: &PreparedCall) -> Result<ToolOutput, String> {
        let arguments: MessageSend = parse(&call.arguments)?;
        let hops_max = self.config.hops_max;
        let item = message::send(&*self.store, &self.runtime, context, call, arguments, hops_max)
            .await
            .map_err(|error| error.to_string())?;
        let parts = vec![Part::text("sent; the answer, if any, stays in that session", WORKSPACE_FACT)];
        Ok(ToolOutput { parts, sends: vec![item], ..ToolOutput::default() })
    }
}

fn done(parts: Vec<Part>) -> ToolOutput {
    ToolOutput { parts, ..ToolOutput::default() }
}

/// Says what a file holds that was changed, if anybody knows.
fn marked(path: String, author: &Actor, (parts, holds): (Vec<Part>, Option<Holds>)) -> ToolOutput {
    let files = holds.map(|holds| FileLabels::of(path, Some(holds.by(author))));
    ToolOutput { files: files.unwrap_or_default(), ..done(parts) }
}
