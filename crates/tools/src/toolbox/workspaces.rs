//! File work in the workspace of an agent, beside the async threads.
//!
//! What changes something has its turn, one at a time in a workspace. No work has a deadline: a permit goes with it, and it
//! goes on if the caller is dropped.

use std::sync::Arc;

use dromia_contracts::AgentId;
use dromia_contracts::file::FileLabels;
use dromia_contracts::tool::{ToolContext, ToolOutput};

use tokio::sync::OwnedSemaphorePermit;

use super::Toolbox;
use crate::file_error::FileError;
use crate::files;
use crate::kept::Long;
use crate::marks::{self, Holds};
use crate::program;
use crate::walk::{self, Seen};
use crate::workspace::{Missing, Workspace};

impl Toolbox {
    /// Looks at every file of a workspace, which is made where it is not there.
    pub(super) async fn look(&self, agent: AgentId) -> Result<Seen, String> {
        self.file(agent, Missing::Make, made(walk::look)).await
    }

    /// Keeps a result that is longer than what is told of it, and tells where.
    pub(super) async fn keep(
        &self,
        context: &ToolContext,
        mut output: ToolOutput,
        long: Option<Long>,
    ) -> ToolOutput {
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
    pub(super) async fn change<T, F>(&self, agent: AgentId, missing: Missing, work: F) -> Result<T, String>
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

    pub(super) async fn file<T, F>(&self, agent: AgentId, missing: Missing, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let permit = Arc::clone(&self.file_work).acquire_owned().await.map_err(|error| error.to_string())?;
        self.with_permit(permit, agent, missing, work).await
    }

    /// Looks at all that lies in a workspace, which may take a while: it keeps none of those waiting who work on files.
    pub(super) async fn survey<T, F>(&self, agent: AgentId, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let permit =
            tokio::time::timeout(program::TURN_WAIT, Arc::clone(&self.surveys).acquire_owned()).await;
        let permit = permit.map_err(|_| "too many workspaces are looked at just now".to_owned())?;
        self.with_permit(permit.map_err(|error| error.to_string())?, agent, Missing::Leave, work).await
    }

    async fn with_permit<T, F>(
        &self,
        permit: OwnedSemaphorePermit,
        agent: AgentId,
        missing: Missing,
        work: F,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
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

/// Adapts work that needs a workspace, where one has just been made.
pub(super) fn made<T, F>(work: F) -> impl FnOnce(Option<&Workspace>) -> Result<T, FileError>
where
    F: FnOnce(&Workspace) -> Result<T, FileError>,
{
    move |workspace| workspace.map_or(Err(FileError::Missing), work)
}
