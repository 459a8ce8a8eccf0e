//! Files of an agent's workspace.

use dromia_contracts::workspace_files::FileKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name in a directory of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileResource {
    /// The name in its directory.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// The size of a file in bytes; 0 for anything else.
    pub bytes: u64,
}

/// What putting a file wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileWritten {
    /// The path in the workspace.
    pub path: String,
    /// How many bytes it has.
    pub bytes: u64,
}
