//! `dromia session`: conversations, their export and import.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dromia_api::SessionId;

use super::{IdReference, PageArguments};

/// What to do with sessions.
#[derive(Debug, Clone, Subcommand)]
pub enum SessionCommand {
    /// List sessions, newest first
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia session list --agent ops")]
    List(PageArguments),
    /// Show a session and its messages
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia session show\n  dromia session show 3f9a1c72"
    )]
    Show(SessionName),
    /// Write a session to a file
    #[command(after_help = "Examples:\n  dromia session export 3f9a1c72 --file talk.session")]
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
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<SessionId>>,
}

/// A session to write.
#[derive(Debug, Clone, Args)]
pub struct ExportSession {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<SessionId>>,
    /// Write to this file [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long, requires = "file")]
    pub force: bool,
}

/// A session to read.
#[derive(Debug, Clone, Args)]
pub struct ImportSession {
    /// The file; `-` reads it from stdin
    pub file: PathBuf,
    /// Trust the texts that the file marks as trusted, as if you had typed them here
    #[arg(long)]
    pub trust_labels: bool,
    /// Import a second copy with this name; the same file and name give the same session
    #[arg(long, value_name = "NAME")]
    pub copy: Option<String>,
}
