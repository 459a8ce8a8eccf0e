//! File work in the workspace of an agent, beside the async threads.
//!
//! What changes something has its turn, one at a time in a workspace. No work has a deadline: a slot goes with it, and it
//! goes on if the caller is dropped.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use dromia_contracts::file::FileLabels;
use dromia_contracts::pool::{PoolSlot, SlotPool};
use dromia_contracts::tool::{CallProgressSink, ToolContext, ToolOutput};
use dromia_contracts::workspace::{RunWorkspace, WorkspaceReference};
use dromia_contracts::{Scope, TenantId};

use super::{CallSite, Toolbox};
use crate::file_error::FileError;
use crate::file_labels::{self, LabelledContent};
use crate::files;
use crate::program;
use crate::reference::HeldReference;
use crate::spilled_output::LongOutput;
use crate::workspace::{MissingDirectory, Workspace};
use crate::workspace_lock::DirectoryTurn;
use crate::workspace_scan::{self, WorkspaceDigests};

/// What a call gets that finds too many others of its tenant in line.
const TOO_MANY_WAIT: &str = "too many calls wait for files; nothing was done, try again later";

/// What a call gets that would change a workspace for reading only.
const READ_ONLY: &str = "refused: the workspace is for reading only; nothing was changed. A person can lift that with \
                         `dromia agent set NAME workspace=DIR`";

/// What a call gets whose work has no result.
const BROKEN: &str = "the tool failed; its effects are unknown";

impl CallSite<'_> {
    /// Waits for a slot of a pool; nothing where as many of the tenant wait as may. Who must wait says so, and goes on when its
    /// run may.
    pub(super) async fn slot_of(self, pool: &SlotPool) -> Option<PoolSlot> {
        if let Some(slot) = pool.try_take(self.tenant) {
            return Some(slot);
        }
        self.pieces.note_waiting();
        let slot = pool.wait_for_slot(self.tenant).await;
        self.pieces.goes_on().await;
        slot
    }
}

impl Toolbox {
    /// Opens the directory of the operator's that a call works in, if it works in one.
    pub(super) async fn hold_reference(
        &self,
        tenant: TenantId,
        workspace: &RunWorkspace,
    ) -> Result<Option<Arc<HeldReference>>, String> {
        match workspace {
            RunWorkspace::Home => Ok(None),
            RunWorkspace::Directory(reference) => {
                self.open_reference(tenant, reference.clone()).await.map(|held| Some(Arc::new(held)))
            }
            RunWorkspace::Withdrawn(reference) => Err(format!(
                "workspace {}: the agent has it no more since this run began, so nothing was done; begin another \
                 run with a new message",
                reference.directory().display()
            )),
        }
    }

    /// Opens a directory of the operator's for a tenant.
    pub(super) async fn open_reference(
        &self,
        tenant: TenantId,
        reference: WorkspaceReference,
    ) -> Result<HeldReference, String> {
        let roots = self.config.workspace_roots.list_roots(tenant).await?;
        let (home, resolver) = (self.config.root.clone(), self.resolver);
        let opened = tokio::task::spawn_blocking(move || {
            HeldReference::open(&reference, &roots, &home, resolver).map_err(|error| error.to_string())
        });
        // A disk of the network may not answer.
        match tokio::time::timeout(program::TURN_WAIT, opened).await {
            Ok(opened) => opened.map_err(|_| BROKEN.to_owned())?,
            Err(_) => {
                Err("the workspace's disk does not answer; nothing was done, try again later".to_owned())
            }
        }
    }

    /// Waits for the turn of a call that changes a directory of the operator's; others have their turn elsewhere.
    pub(super) async fn wait_for_turn(&self, at: CallSite<'_>) -> Result<Option<DirectoryTurn>, String> {
        let Some(held) = at.held else { return Ok(None) };
        if held.identity.read_only {
            return Ok(None);
        }
        let turn = self.directories.find_turn(held.directory_key());
        if let Ok(turn) = Arc::clone(&turn).try_lock_owned() {
            return Ok(Some(turn));
        }
        at.pieces.note_waiting();
        let turn = tokio::time::timeout(program::TURN_WAIT, turn.lock_owned()).await;
        at.pieces.goes_on().await;
        turn.map(Some).map_err(|_| {
            let path = held.path.display();
            format!("another call has been changing {path} for too long; nothing was done, try again later")
        })
    }

    /// Looks at every file of a workspace, which is made where it is not there.
    pub(super) async fn walk_workspace(&self, at: CallSite<'_>) -> Result<WorkspaceDigests, String> {
        self.compute_in_workspace(
            at,
            MissingDirectory::Make,
            require_workspace(workspace_scan::digest_workspace),
        )
        .await
    }

    /// Keeps a result that is longer than what the model is shown of it, and adds where it is.
    pub(super) async fn spill_output(
        &self,
        context: &ToolContext,
        pieces: &dyn CallProgressSink,
        mut output: ToolOutput,
        long: Option<LongOutput>,
    ) -> ToolOutput {
        let Some(long) = long else { return output };
        let label = file_labels::label_of(&output.parts, context.label);
        self.marks.begin_writing(context, label);
        let (holds, key) = (
            LabelledContent::with_label(&long.bytes, label).into_file_label(&context.author),
            context.key.clone(),
        );
        let keep = move |workspace: &Workspace| long.spill_to_file(workspace, &key);
        // In the home, wherever the agent works: a directory of the operator's gets only what was asked for.
        let at = CallSite { tenant: context.scope.tenant(), agent: context.agent, held: None, pieces };
        match self.change_files(at, MissingDirectory::Make, require_workspace(keep)).await {
            Ok(kept) => {
                output.parts.push(kept.told);
                let gone = kept.gone.into_iter().map(|path| (path, None));
                let files = gone.chain([(kept.path, Some(holds))]).collect();
                output.files.extend(FileLabels { files, rest: None });
            }
            Err(problem) => output.parts.push(files::fact_part(format!("[the rest is lost: {problem}]"))),
        }
        output
    }

    /// Does file work that changes something, one at a time in a workspace.
    pub(super) async fn change_files<T, F>(
        &self,
        at: CallSite<'_>,
        missing: MissingDirectory,
        work: F,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        if at.held.is_some_and(|held| held.identity.read_only) {
            return Err(READ_ONLY.to_owned());
        }
        let (turns, agent) = (Arc::clone(&self.turns), at.agent);
        let turn = self.wait_for_turn(at).await?;
        let change = move |workspace: Option<&Workspace>| {
            let _turn = match turn {
                Some(turn) => (Some(turn), None),
                None => (None, Some(turns.lock_agent(agent))),
            };
            work(workspace)
        };
        self.run_file_work(at, missing, change).await
    }

    /// The same, where it may add so many bytes and the workspace holds no more than it may then.
    pub(super) async fn grow_files<T, F>(
        &self,
        scope: &Scope,
        at: CallSite<'_>,
        missing: MissingDirectory,
        more: usize,
        work: F,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let (agent, limit) = (at.agent, self.disk_bytes(scope, at.agent).await?);
        let quotas = Arc::clone(&self.quotas);
        let directory = at.held.map(|held| held.directory_key());
        let grow = move |workspace: Option<&Workspace>| {
            match (workspace, directory) {
                (Some(_), Some(directory)) => quotas.admit_growth(directory, more as u64, limit)?,
                (Some(workspace), None) => quotas.admit_bytes(agent, workspace, more as u64, limit)?,
                (None, _) => {}
            }
            work(workspace)
        };
        self.change_files(at, missing, grow).await
    }

    /// Does work on a file, beside the tasks.
    pub(super) async fn run_file_work<T, F>(
        &self,
        at: CallSite<'_>,
        missing: MissingDirectory,
        work: F,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let slot = at.slot_of(&self.file_work).await.ok_or(TOO_MANY_WAIT)?;
        let work = self.bind_to_workspace(at, missing, work);
        let told = tokio::task::spawn_blocking(move || {
            // The slot goes with the work, which goes on if the caller is dropped.
            let _slot = slot;
            work()
        });
        told.await.map_err(|_| BROKEN.to_owned())?
    }

    /// Looks for something in a workspace.
    pub(super) async fn search_work<T, F>(&self, at: CallSite<'_>, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        self.compute_in_workspace(at, MissingDirectory::Leave, work).await
    }

    /// Looks at all that lies in a workspace.
    pub(super) async fn scan_with_timeout<T, F>(&self, at: CallSite<'_>, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let survey = tokio::time::timeout(
            program::TURN_WAIT,
            self.compute_in_workspace(at, MissingDirectory::Leave, work),
        )
        .await;
        if survey.is_err() {
            at.pieces.goes_on().await;
        }
        survey
            .unwrap_or_else(|_| Err("the server is reading too many workspaces; try again later".to_owned()))
    }

    /// Does work on many files, which keeps a processor busy: it keeps none of those waiting who work on one. Its run needs no
    /// slot until it is done.
    async fn compute_in_workspace<T, F>(
        &self,
        at: CallSite<'_>,
        missing: MissingDirectory,
        work: F,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let work = self.bind_to_workspace(at, missing, work);
        at.pieces.note_waiting();
        let done = self.runtime.run_compute(at.tenant, work).await;
        at.pieces.goes_on().await;
        done.unwrap_or_else(|| Err(BROKEN.to_owned()))
    }

    /// Puts work into the workspace of an agent.
    fn bind_to_workspace<T, F>(
        &self,
        at: CallSite<'_>,
        missing: MissingDirectory,
        work: F,
    ) -> impl FnOnce() -> Result<T, String> + Send + 'static + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(Option<&Workspace>) -> Result<T, FileError> + Send + 'static,
    {
        let (root, resolver) = (self.config.root.clone(), self.resolver);
        let (agent, held) = (at.agent, at.held.cloned());
        move || {
            let workspace = match held {
                Some(held) => Workspace::of_reference(held.handle.as_fd(), resolver).map(Some),
                None => Workspace::open(&root, agent, resolver, missing),
            };
            workspace.and_then(|workspace| work(workspace.as_ref())).map_err(|error| error.to_string())
        }
    }
}

/// Adapts work that needs a workspace, where one has just been made.
pub(super) fn require_workspace<T, F>(work: F) -> impl FnOnce(Option<&Workspace>) -> Result<T, FileError>
where
    F: FnOnce(&Workspace) -> Result<T, FileError>,
{
    move |workspace| workspace.map_or(Err(FileError::Missing), work)
}
