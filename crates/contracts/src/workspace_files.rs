//! The port to the files of an agent's workspace, for people: list a directory, take a file out, put one in.
//!
//! The same rules as for the file tools: no link is followed, no name that programs outside execute is written, and what is
//! for reading only stays as it is. A caller says whose workspace is meant, and has looked whether it may.

use std::fmt;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::digest::Digest;
use crate::fault::Fault;
use crate::id::AgentId;
use crate::scope::Scope;
use crate::workspace::WorkspaceReference;

/// The largest file that is taken out or put in, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// The workspace of an agent.
#[derive(Debug, Clone, Copy)]
pub struct AgentWorkspace<'a> {
    /// Who asks, in which tenant.
    pub scope: &'a Scope,
    /// The agent.
    pub agent: AgentId,
    /// The directory that it works in, where that is not the workspace of its home.
    pub reference: Option<&'a WorkspaceReference>,
}

/// What a name in a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, which no file tool follows.
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// A name in a directory of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceName {
    /// The name. Bytes that are no text are shown as a sign.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// The size in bytes, of a file.
    pub bytes: u64,
}

/// The port to the files of workspaces.
pub trait WorkspaceFiles: Send + Sync + fmt::Debug {
    /// Lists names of a directory after one, in their order, at most `limit`.
    fn list_names<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        path: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<WorkspaceName>, Fault>>;

    /// Reads a whole file of at most [`FILE_BYTES_MAX`] bytes.
    fn read_whole<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Bytes, Fault>>;

    /// Writes a whole file; returns its clean path and the digest of its content. `key` is the request's, so that a repeated
    /// one finds what it left half-done.
    fn write_whole<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        path: &'a str,
        content: Bytes,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(String, Digest), Fault>>;
}
