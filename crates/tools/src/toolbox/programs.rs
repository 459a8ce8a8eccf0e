//! How a program of an agent runs: on whose terms, with which way out, and what is known of its workspace afterwards.
//!
//! What a program did to a file nobody says, so that is looked up: what may have been read before it ran labels what lies
//! there after it. The sandbox is picked here and made elsewhere.

use std::sync::Arc;

use dromia_contracts::AgentId;
use dromia_contracts::approval::{BoundFiles, Contents};
use dromia_contracts::file::FileLabels;
use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{Family, Network};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::{Pieces, PreparedCall, ToolContext, ToolOutput};

use super::Toolbox;
use crate::arguments::{Exec, ShellExecute, parse};
use crate::catalogue::Builtin;
use crate::contents;
use crate::marks;
use crate::program::{self, Program};
use crate::proxy::{Watched, Way};
use crate::workspace::{Workspace, workspace_path};

impl Toolbox {
    /// Asks what the operator says about a tool in these hands. Without an answer nothing runs.
    pub(super) async fn terms(&self, tool: Builtin, context: &ToolContext) -> Result<ToolTerms, String> {
        let terms = self.config.terms.of(tool.name(), Some((&context.scope, context.agent))).await;
        terms.map_err(|_| "its limits cannot be read now; nothing ran, try again later".to_owned())
    }

    /// The way out of a program, where the operator says that there is one, the agent's grants cover anything, and the gate
    /// was told of it: what was judged as a program without one has none, whatever is said by now.
    pub(super) fn way(
        &self,
        context: &ToolContext,
        terms: &ToolTerms,
        judged: Option<Network>,
    ) -> Option<Way> {
        let given = terms.network_for(&context.grants).min(judged.unwrap_or(Network::None));
        (given == Network::Proxy).then(|| Way {
            line: Arc::new(Watched {
                line: Arc::clone(&self.config.way_out),
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
        agent: AgentId,
        call: &PreparedCall,
        extent: BoundFiles,
    ) -> Result<Option<Contents>, String> {
        let words = match Builtin::find(&call.tool).filter(|_| self.external(&call.tool).is_none()) {
            Some(Builtin::Exec) => {
                let Exec { mut argv, cwd, .. } = parse(&call.arguments)?;
                argv.extend(cwd.names().map(str::to_owned));
                argv
            }
            Some(Builtin::ShellExecute) => {
                let ShellExecute { command, cwd, .. } = parse(&call.arguments)?;
                [command].into_iter().chain(cwd.names().map(str::to_owned)).collect()
            }
            Some(_) | None => return Ok(None),
        };
        let clock = Arc::clone(&self.runtime.clock);
        let look = move |workspace: Option<&Workspace>| {
            Ok(contents::look(workspace, &words, extent, &*clock).map_err(|problem| problem.to_string()))
        };
        let looked = self.survey(agent, look).await;
        looked.unwrap_or_else(Err).map(Some)
    }

    /// Tells whether the files are those to which somebody holds the call who allowed it.
    async fn holds(&self, agent: AgentId, call: &PreparedCall) -> Result<(), String> {
        let Some(held) = call.contents else { return Ok(()) };
        match self.contents_of(agent, call, held.extent).await {
            Ok(Some(now)) if now == held => Ok(()),
            Ok(_) => {
                Err("files that the program could execute have changed since it was allowed; nothing ran"
                    .to_owned())
            }
            Err(problem) => Err(format!("nobody can say whether the files changed: {problem}; nothing ran")),
        }
    }

    pub(super) async fn program(
        &self,
        context: &ToolContext,
        call: &PreparedCall,
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
        // As late as can be: it waited for its turn, and others of the agent did not.
        self.holds(agent, call).await?;
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
}

/// Whose a program is: of one run of one agent, as long as what the run has seen has one label. One that somebody allowed has
/// nothing in common with those before it: what they left beside the workspace nobody looked at.
pub(super) fn family(context: &ToolContext, call: &PreparedCall) -> Option<Family> {
    let family = Family { run: context.run, agent: context.agent, label: context.label };
    call.contents.is_none().then_some(family)
}
