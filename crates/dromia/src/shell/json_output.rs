//! What `dromia version` and `dromia help commands` print with `--json`.

use schemars::JsonSchema;
use serde::Serialize;

/// What `dromia version` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VersionInfo {
    /// The program's name.
    pub(super) name: &'static str,
    /// Its version.
    pub(super) version: &'static str,
    /// The system it was made for.
    pub(super) system: String,
}

/// One command of the tree.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CommandRow {
    /// The command as it is typed.
    pub(super) command: String,
    /// What it does.
    pub(super) about: String,
    /// Other words for its last one.
    pub(super) aliases: Vec<String>,
    /// Whether it does something itself, and is no group of commands.
    pub(super) is_leaf: bool,
    /// Whether `dromia help schemas COMMAND` knows what it prints with `--json`.
    pub(super) has_schema: bool,
}
