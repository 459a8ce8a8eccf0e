//! Workspaces by reference: a directory of the operator's that an agent works in, instead of the workspace in its home.
//!
//! A [`WorkspaceReference`] is a clean absolute path and whether it is for reading only. It says nothing about what lies
//! there: the kernel decides that at each call, beneath one of the tenant's roots ([`WorkspaceRoots`]). What it refuses by
//! itself is a path that no root could make safe: one into a repository's own directory or an editor's.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::guarded_paths;
use crate::{BoxFuture, TenantId};

/// The longest path, in bytes.
const BYTES_MAX: usize = 4096;

/// What a reference for reading only ends with.
const READ_ONLY: &str = ":ro";

/// A directory of the operator's as the workspace of an agent, written `DIR` or `DIR:ro`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkspaceReference {
    directory: String,
    read_only: bool,
}

/// Says why a text names no workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseWorkspaceError {
    /// It begins with no slash.
    #[error(
        "a workspace is an absolute path of the server's machine, such as /srv/work/site or /srv/work/site:ro"
    )]
    NotAbsolute,
    /// It is the root directory.
    #[error("a workspace can't be /, the whole file system; name a directory below one of workspaces.roots")]
    WholeSystem,
    /// It has `.`, `..` or an empty name.
    #[error(
        "a workspace is a path without `.`, `..` and double slashes; write it in full, such as /srv/work/site"
    )]
    NotClean,
    /// It has a control character.
    #[error("a workspace's path must not contain control characters")]
    ControlCharacter,
    /// It is too long.
    #[error("a workspace's path has at most 4096 bytes")]
    TooLong,
    /// It leads into what programs outside execute.
    #[error(
        "a workspace can't be `.git`, `.vscode` or `.dromia`, or lie below one: programs outside execute what is \
         there; name the directory that holds it"
    )]
    Guarded,
}

impl WorkspaceReference {
    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        Path::new(&self.directory)
    }

    /// Returns whether nothing may be changed there.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

impl FromStr for WorkspaceReference {
    type Err = ParseWorkspaceError;

    fn from_str(text: &str) -> Result<Self, ParseWorkspaceError> {
        let (path, read_only) = text.strip_suffix(READ_ONLY).map_or((text, false), |path| (path, true));
        let Some(below) = path.strip_prefix('/') else { return Err(ParseWorkspaceError::NotAbsolute) };
        let below = below.strip_suffix('/').unwrap_or(below);
        if below.is_empty() {
            return Err(ParseWorkspaceError::WholeSystem);
        }
        if path.len() > BYTES_MAX {
            return Err(ParseWorkspaceError::TooLong);
        }
        if below.chars().any(char::is_control) {
            return Err(ParseWorkspaceError::ControlCharacter);
        }
        if below.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(ParseWorkspaceError::NotClean);
        }
        let is_fixed = |name: &str| {
            let directories = guarded_paths::DIRECTORIES.iter().map(|(directory, _)| *directory);
            directories.chain([guarded_paths::REPOSITORY]).any(|guarded| name == guarded)
        };
        if below.split('/').any(is_fixed) {
            return Err(ParseWorkspaceError::Guarded);
        }
        Ok(Self { directory: format!("/{below}"), read_only })
    }
}

impl fmt::Display for WorkspaceReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.directory, if self.read_only { READ_ONLY } else { "" })
    }
}

impl Serialize for WorkspaceReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkspaceReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for WorkspaceReference {
    fn schema_name() -> Cow<'static, str> {
        "WorkspaceReference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^/[^\\u0000-\\u001f]+$",
            "maxLength": BYTES_MAX + READ_ONLY.len(),
            "description": "A directory of the server's machine, as an absolute path; with `:ro` behind it, for reading only.",
        })
    }
}

/// Where the calls of a run work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RunWorkspace {
    /// In the workspace of the agent's home.
    #[default]
    Home,
    /// In a directory of the operator's.
    Directory(WorkspaceReference),
    /// Nowhere: the agent has this directory no more since the run began.
    Withdrawn(WorkspaceReference),
}

impl RunWorkspace {
    /// Returns where a run works that began with one workspace, while its agent has another one by now. A run keeps its own,
    /// and what is taken away counts at once.
    pub fn for_run(began: Option<&WorkspaceReference>, now: Option<&WorkspaceReference>) -> Self {
        match (began, now) {
            (None, _) => Self::Home,
            (Some(began), Some(now)) if began.directory == now.directory => {
                let read_only = began.read_only || now.read_only;
                Self::Directory(WorkspaceReference { read_only, ..began.clone() })
            }
            (Some(began), _) => Self::Withdrawn(began.clone()),
        }
    }
}

/// The port to the operator's word on where workspaces by reference may lie.
pub trait WorkspaceRoots: Send + Sync + fmt::Debug {
    /// Lists the directories at or below which agents of a tenant may have workspaces; an error says why that is not known.
    fn list_roots(&self, tenant: TenantId) -> BoxFuture<'_, Result<Vec<PathBuf>, String>>;
}

/// The same for every tenant.
impl WorkspaceRoots for Vec<PathBuf> {
    fn list_roots(&self, _: TenantId) -> BoxFuture<'_, Result<Vec<PathBuf>, String>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_workspace_and_loses_it_at_once() {
        let of = |text: &str| text.parse::<WorkspaceReference>().ok();
        let run = |began: &str, now: &str| RunWorkspace::for_run(of(began).as_ref(), of(now).as_ref());
        let directory = |text: &str| RunWorkspace::Directory(text.parse().expect("a reference"));
        let withdrawn = |text: &str| RunWorkspace::Withdrawn(text.parse().expect("a reference"));
        assert_eq!(run("", "/srv/a"), RunWorkspace::Home);
        assert_eq!(run("/srv/a", "/srv/a"), directory("/srv/a"));
        assert_eq!(run("/srv/a", "/srv/a:ro"), directory("/srv/a:ro"));
        assert_eq!(run("/srv/a:ro", "/srv/a"), directory("/srv/a:ro"));
        assert_eq!(run("/srv/a", ""), withdrawn("/srv/a"));
        assert_eq!(run("/srv/a", "/srv/b"), withdrawn("/srv/a"));
    }

    #[test]
    fn a_reference_is_a_clean_absolute_path() {
        for (text, written) in [
            ("/srv/work", Ok("/srv/work")),
            ("/srv/work/", Ok("/srv/work")),
            ("/srv/work:ro", Ok("/srv/work:ro")),
            ("/srv/a.git", Ok("/srv/a.git")),
            ("", Err(ParseWorkspaceError::NotAbsolute)),
            (".", Err(ParseWorkspaceError::NotAbsolute)),
            ("srv/work", Err(ParseWorkspaceError::NotAbsolute)),
            ("~/work", Err(ParseWorkspaceError::NotAbsolute)),
            ("/", Err(ParseWorkspaceError::WholeSystem)),
            ("/:ro", Err(ParseWorkspaceError::WholeSystem)),
            ("//srv", Err(ParseWorkspaceError::NotClean)),
            ("/srv/../etc", Err(ParseWorkspaceError::NotClean)),
            ("/srv/./a", Err(ParseWorkspaceError::NotClean)),
            ("/srv/a\nb", Err(ParseWorkspaceError::ControlCharacter)),
            ("/srv/site/.git", Err(ParseWorkspaceError::Guarded)),
            ("/srv/site/.git/hooks", Err(ParseWorkspaceError::Guarded)),
            ("/srv/.vscode/x:ro", Err(ParseWorkspaceError::Guarded)),
        ] {
            let parsed = text.parse::<WorkspaceReference>();
            assert_eq!(parsed.map(|reference| reference.to_string()), written.map(str::to_owned), "{text:?}");
        }
        let long = format!("/{}", "n".repeat(BYTES_MAX));
        assert_eq!(long.parse::<WorkspaceReference>(), Err(ParseWorkspaceError::TooLong));
    }
}
