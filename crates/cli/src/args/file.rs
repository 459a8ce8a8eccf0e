//! `dromia file`: the files of an agent's workspace.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PageArguments;

/// What to do with files of the selected agent.
#[derive(Debug, Clone, Subcommand)]
pub enum FileCommand {
    /// List a directory of the workspace
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia file list\n  dromia file list notes --agent ops\n  dromia file list --json"
    )]
    List(ListFiles),
    /// Print a file of the workspace, or write it to a file here
    #[command(
        after_help = "Examples:\n  dromia file get notes/today.md\n  dromia file get report.pdf --file report.pdf --agent ops"
    )]
    Get(GetFile),
    /// Copy a file into the workspace, in the place of what is there
    #[command(
        after_help = "Runs see the file as untrusted. Names that programs outside execute, such as most of .git, are refused.\n\nExamples:\n  dromia file put plan.md\n  dromia file put plan.md notes/plan.md --agent ops\n  date | dromia file put - today.txt"
    )]
    Put(PutFile),
}

/// Which files to list.
#[derive(Debug, Clone, Args)]
pub struct ListFiles {
    /// The directory [default: the workspace itself]
    pub path: Option<String>,
    /// Which page
    #[command(flatten)]
    pub page: PageArguments,
}

/// A file to take out.
#[derive(Debug, Clone, Args)]
pub struct GetFile {
    /// Its path in the workspace, such as notes/today.md
    pub path: String,
    /// Write to this file [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long, requires = "file")]
    pub force: bool,
}

/// A file to put in.
#[derive(Debug, Clone, Args)]
pub struct PutFile {
    /// The file here; `-` reads it from stdin
    pub local: PathBuf,
    /// Its path in the workspace [default: the name of the file here]
    pub remote: Option<String>,
}
