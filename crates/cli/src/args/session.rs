//! `dromia session`: conversations, and how they are carried in and out.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dromia_api::SessionId;

use super::Listing;

/// What to do with sessions.
#[derive(Debug, Clone, Subcommand)]
pub enum Session {
    /// List sessions, the newest first
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia session list --agent ops")]
    List(Listing),
    /// Show a session and what was said in it
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia session show ses_0199c0de…")]
    Show(SessionName),
    /// Write a session into a file
    #[command(after_help = "Examples:\n  dromia session export ses_0199c0de… --file talk.session")]
    Export(ExportSession),
    /// Read a session from a file
    #[command(
        after_help = "Examples:\n  dromia session import talk.session --agent ops\n  dromia session import own.session --agent ops --trust-labels\n  dromia session import talk.session --agent ops --copy second"
    )]
    Import(ImportSession),
}

/// A session, by id.
#[derive(Debug, Clone, Args)]
pub struct SessionName {
    /// Its id
    pub id: SessionId,
}

/// A session to write.
#[derive(Debug, Clone, Args)]
pub struct ExportSession {
    /// Its id
    pub id: SessionId,
    /// The file; stdout without it
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long, requires = "file")]
    pub force: bool,
}

/// A session to read.
#[derive(Debug, Clone, Args)]
pub struct ImportSession {
    /// The file; `-` reads it from stdin
    pub file: PathBuf,
    /// Vouch for the file: texts in it that say to be trusted are, as if they had been typed here
    #[arg(long)]
    pub trust_labels: bool,
    /// Import the file once more, as the copy of this name; the same file and name give the same session
    #[arg(long, value_name = "NAME")]
    pub copy: Option<String>,
}
