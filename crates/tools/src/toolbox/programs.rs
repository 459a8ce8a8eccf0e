//! How a program of an agent runs: on whose terms, with which way out, and what is known of its workspace afterwards.
//!
//! No program reports what it did to a file, so the workspace is scanned: the label of all that it may have read before
//! it ran is the label of what it leaves there. The sandbox is picked here and made elsewhere.

use std::sync::Arc;

use dromia_contracts::approval::{BoundFiles, ExecutableFiles};
use dromia_contracts::file::FileLabels;
use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{NetworkAccess, SandboxFamily};
use dromia_contracts::tool::{PreparedCall, ToolContext, ToolOutput};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{AgentId, Scope};

use super::{CallSite, Toolbox};
use crate::arguments::{ProgramExecute, ShellExecute, parse_arguments};
use crate::catalogue::BuiltinTool;
use crate::contents;
use crate::file_labels;
use crate::limits;
use crate::program::{self, JudgedProgram};
use crate::proxy::{ProxyUpstream, ScannedUpstream};
use crate::workspace::{Workspace, workspace_path};

impl Toolbox {
    /// Asks what the operator says about a tool in these hands. Without an answer nothing runs.
    pub(super) async fn tool_terms(
        &self,
        tool: BuiltinTool,
        context: &ToolContext,
    ) -> Result<ToolTerms, String> {
        self.terms_for_agent(tool, &context.scope, context.agent).await
    }

    async fn terms_for_agent(
        &self,
        tool: BuiltinTool,
        scope: &Scope,
        agent: AgentId,
    ) -> Result<ToolTerms, String> {
        let terms = self.config.terms.effective_terms(tool.name(), Some((scope, agent))).await;
        terms.map_err(|_| {
            "the limits of the program cannot be read now; nothing ran, try again later".to_owned()
        })
    }

    /// How much may lie in the workspace of an agent: as much as for whichever of its programs may leave more there.
    pub(super) async fn disk_bytes(&self, scope: &Scope, agent: AgentId) -> Result<u64, String> {
        let (exec, shell) = (
            self.terms_for_agent(BuiltinTool::Exec, scope, agent).await?,
            self.terms_for_agent(BuiltinTool::ShellExecute, scope, agent).await?,
        );
        Ok([exec, shell].iter().map(|terms| limits::limits_max(terms).disk_bytes).fold(0, u64::max))
    }

    /// The way out of a program, where the operator says that there is one, the agent's grants cover anything, and the
    /// gate knew of it: a program that was judged without one has none, whatever the operator says by now.
    pub(super) fn program_upstream(
        &self,
        context: &ToolContext,
        terms: &ToolTerms,
        judged: Option<NetworkAccess>,
    ) -> Option<ProxyUpstream> {
        let given = terms.network_for(&context.grants).min(judged.unwrap_or(NetworkAccess::None));
        (given == NetworkAccess::Proxy).then(|| ProxyUpstream {
            line: Arc::new(ScannedUpstream {
                line: self.call_settings().programs,
                leaks: Arc::clone(&self.config.leaks),
                scope: context.scope.clone(),
            }),
            grants: context.grants.clone(),
            share: context.scope.tenant().to_string(),
        })
    }

    /// Looks at the files that a call's program could execute.
    pub(super) async fn contents_of(
        &self,
        at: CallSite<'_>,
        call: &PreparedCall,
        extent: BoundFiles,
    ) -> Result<Option<ExecutableFiles>, String> {
        let words = match BuiltinTool::find_by_name(&call.tool)
            .filter(|_| self.registry().find_external(&call.tool).is_none())
        {
            Some(BuiltinTool::Exec) => {
                let ProgramExecute { mut argv, cwd, .. } = parse_arguments(&call.arguments)?;
                argv.extend(cwd.components().map(str::to_owned));
                argv
            }
            Some(BuiltinTool::ShellExecute) => {
                let ShellExecute { command, cwd, .. } = parse_arguments(&call.arguments)?;
                [command].into_iter().chain(cwd.components().map(str::to_owned)).collect()
            }
            Some(_) | None => return Ok(None),
        };
        let clock = Arc::clone(&self.runtime.clock);
        let look = move |workspace: Option<&Workspace>| {
            Ok(contents::scan_contents(workspace, &words, extent, &*clock)
                .map_err(|problem| problem.to_string()))
        };
        let looked = self.scan_with_timeout(at, look).await;
        looked.unwrap_or_else(Err).map(Some)
    }

    /// Returns whether the files are those to which an approval binds the call.
    async fn check_contents(&self, at: CallSite<'_>, call: &PreparedCall) -> Result<(), String> {
        let Some(held) = call.contents else { return Ok(()) };
        match self.contents_of(at, call, held.extent).await {
            Ok(Some(now)) if now == held => Ok(()),
            Ok(_) => {
                Err("files that the program could execute changed after the approval; nothing ran".to_owned())
            }
            Err(problem) => {
                Err(format!("the server cannot check whether the files changed: {problem}; nothing ran"))
            }
        }
    }

    pub(super) async fn run_program(
        &self,
        context: &ToolContext,
        call: &PreparedCall,
        program: JudgedProgram,
        at: CallSite<'_>,
    ) -> Result<ToolOutput, String> {
        let CallSite { agent, tenant, pieces, .. } = at;
        // However long the others run, this call learns in time that its program did not run.
        let turn = tokio::time::timeout(program::TURN_WAIT, at.slot_of(&self.programs)).await;
        let Ok(Some(_slot)) = turn else {
            pieces.goes_on().await;
            return Err("too many programs are running; nothing ran, try again later".to_owned());
        };
        let sandboxes = &self.config.sandboxes;
        let sandbox = match program.terms.sandbox {
            Some(least) => sandboxes.pick_at_least(tenant, least).await,
            None => sandboxes.pick_backend(tenant).await,
        };
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        let _turn = self.wait_for_turn(at).await?;
        // Making the directory is file work as any other. What lies there is what the program may read.
        let before = self.walk_workspace(at).await?;
        let mut read = self.marks.workspace_labels(context).await.label_of_all(&before).join(context.label);
        if program.way.is_some() {
            // What others answer it can become a file too, without a word in its output.
            read = read.join(Label::OUTSIDE);
        }
        if at.held.is_some() {
            // People and other agents write there as well, at any moment.
            read = read.join(Label::UNKNOWN_FILE);
        }
        self.marks.begin_writing(context, read);
        let place = if let Some(held) = at.held {
            (held.path.clone(), Some(held.identity))
        } else {
            let path = workspace_path(&self.config.root, agent);
            (tokio::fs::canonicalize(path).await.map_err(|error| error.to_string())?, None)
        };
        // As late as can be: it waited for its turn, and others of the agent did not.
        self.check_contents(at, call).await?;
        self.quotas.forget_usage(agent);
        let done = program::run_program(&*sandbox, place, program, &*self.runtime.clock, pieces).await;
        self.quotas.forget_usage(agent);
        let mut done = done.or_else(|error| program::not_started_result(&error))?;
        let (files, label) = self.looked_after(context, at, read).await;
        file_labels::narrow_labels(&mut done.parts, label);
        let output = ToolOutput {
            failed: done.failed,
            parts: done.parts,
            egress: done.egress,
            files,
            ..ToolOutput::default()
        };
        Ok(self.spill_output(context, pieces, output, done.whole).await)
    }

    /// Says what a program that may have read this left in the workspace, and the label of that.
    async fn looked_after(
        &self,
        context: &ToolContext,
        at: CallSite<'_>,
        read: Label,
    ) -> (FileLabels, Label) {
        let seen = self.walk_workspace(at).await;
        let known = self.marks.workspace_labels(context).await;
        // Other runs of the agent may have written meanwhile what is not known yet.
        let label = self.marks.begin_writing(context, read);
        let Ok(seen) = seen else {
            // What it changed is unknown, so the label says that.
            let label = label.join(Label::UNKNOWN_FILE);
            return (FileLabels { rest: Some(label), ..FileLabels::default() }, label);
        };
        let label = known.label_of_known().join(label);
        (known.changed_labels(&seen, label), label)
    }
}

/// Whose a program is: of one run of one agent, as long as what the run has seen has one label. An approved one has
/// nothing in common with those before it: what they left beside the workspace was not looked at.
pub(super) fn process_family(context: &ToolContext, call: &PreparedCall) -> Option<SandboxFamily> {
    let family = SandboxFamily { run: context.run, agent: context.agent, label: context.label };
    call.contents.is_none().then_some(family)
}
