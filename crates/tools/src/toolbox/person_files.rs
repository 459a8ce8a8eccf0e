//! The files of a workspace for people: listed, taken out and put in, by the same opening and the same rules as the file
//! tools have.
//!
//! It asks no gate, because no agent acts; the caller has seen that the person may. A file that is put in has no label, so
//! it is untrusted for every run.

use std::io::Read as _;

use bytes::Bytes;
use dromia_contracts::tool::DiscardProgress;
use dromia_contracts::workspace::RunWorkspace;
use dromia_contracts::workspace_files::{AgentWorkspace, FILE_BYTES_MAX, WorkspaceFiles, WorkspaceName};
use dromia_contracts::{BoxFuture, Digest, ErrorCode, Fault};

use super::workspaces::require_workspace;
use super::{CallSite, Toolbox};
use crate::file_error::FileError;
use crate::files;
use crate::listing;
use crate::path::{FilePath, WorkspacePath};
use crate::workspace::{MissingDirectory, Workspace};
use crate::workspace_scan::content_digest;

impl Toolbox {
    /// Returns where a run works that would begin now.
    fn find_workspace(workspace: &AgentWorkspace<'_>) -> RunWorkspace {
        workspace.reference.cloned().map_or(RunWorkspace::Home, RunWorkspace::Directory)
    }
}

impl WorkspaceFiles for Toolbox {
    fn list_names<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        path: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<WorkspaceName>, Fault>> {
        Box::pin(async move {
            let (tenant, agent) = (workspace.scope.tenant(), workspace.agent);
            let path = WorkspacePath::parse(path).map_err(|error| invalid_fault(error.to_string()))?;
            let held = self.hold_reference(tenant, &Self::find_workspace(&workspace)).await;
            let held = held.map_err(invalid_fault)?;
            let at = CallSite { tenant, agent, held: held.as_ref(), pieces: &DiscardProgress };
            let after = after.to_owned();
            let list =
                move |workspace: Option<&Workspace>| Ok(listing::list_names(workspace, &path, &after, limit));
            let listed = self.run_file_work(at, MissingDirectory::Leave, list).await.map_err(busy_fault)?;
            listed.map_err(file_fault)
        })
    }

    fn read_whole<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            let (tenant, agent) = (workspace.scope.tenant(), workspace.agent);
            let path = parse_file_path(path)?;
            let held = self.hold_reference(tenant, &Self::find_workspace(&workspace)).await;
            let held = held.map_err(invalid_fault)?;
            let at = CallSite { tenant, agent, held: held.as_ref(), pieces: &DiscardProgress };
            let read = move |workspace: Option<&Workspace>| Ok(read_bounded(workspace, &path));
            let content = self.run_file_work(at, MissingDirectory::Leave, read).await.map_err(busy_fault)?;
            content.map_err(file_fault)?.ok_or_else(|| {
                let text =
                    format!("the file has more than {FILE_BYTES_MAX} bytes, which is the most that is sent");
                Fault::new(ErrorCode::BodyTooLarge, text).with_hint("have the agent send or split it")
            })
        })
    }

    fn write_whole<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        path: &'a str,
        content: Bytes,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(String, Digest), Fault>> {
        Box::pin(async move {
            let (tenant, agent) = (workspace.scope.tenant(), workspace.agent);
            let path = parse_file_path(path)?;
            let named = path.to_string();
            let held = self.hold_reference(tenant, &Self::find_workspace(&workspace)).await;
            let held = held.map_err(invalid_fault)?;
            if held.as_ref().is_some_and(|held| held.identity.read_only) {
                let text = "the workspace is for reading only; nothing was written".to_owned();
                return Err(
                    invalid_fault(text).with_hint("lift that with `dromia agent set NAME workspace=DIR`")
                );
            }
            let at = CallSite { tenant, agent, held: held.as_ref(), pieces: &DiscardProgress };
            let (digest, more, key) = (content_digest(&content), content.len(), key.to_owned());
            let write =
                move |workspace: &Workspace| Ok(files::replace_file(workspace, &path, &content, &key, None));
            let write = require_workspace(write);
            let written = self.grow_files(workspace.scope, at, MissingDirectory::Make, more, write).await;
            written.map_err(busy_fault)?.map_err(file_fault)?;
            Ok((named, digest))
        })
    }
}

/// Reads a file of which no more is held than may be; nothing where it is longer.
fn read_bounded(workspace: Option<&Workspace>, path: &FilePath) -> Result<Option<Bytes>, FileError> {
    let file = workspace.ok_or(FileError::Missing)?.open_for_reading(path)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= FILE_BYTES_MAX).then(|| content.into()))
}

fn parse_file_path(path: &str) -> Result<FilePath, Fault> {
    let parsed = WorkspacePath::parse(path).and_then(FilePath::try_from);
    parsed.map_err(|error| invalid_fault(error.to_string()))
}

fn invalid_fault(text: String) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, text)
}

/// The fault of work that was not done: its text says why.
fn busy_fault(text: String) -> Fault {
    Fault::new(ErrorCode::Overloaded, text)
}

fn file_fault(error: FileError) -> Fault {
    let code = match error {
        FileError::Missing => ErrorCode::FileNotFound,
        FileError::System(_) | FileError::NotConfirmed | FileError::Torn => ErrorCode::Internal,
        _ => ErrorCode::InvalidRequest,
    };
    let text = error.to_string();
    Fault::new(code, text.strip_prefix("refused: ").unwrap_or(&text))
}
