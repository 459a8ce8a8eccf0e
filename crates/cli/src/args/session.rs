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
    /// Show how much of the model's window a session fills, and with what
    #[command(
        after_help = "Examples:\n  dromia session context\n  dromia session context 3f9a1c72 --json=percent,past"
    )]
    Context(SessionName),
    /// Have the oldest half of a session summarized for its later requests
    #[command(
        after_help = "The words themselves stay: `dromia session archive show` prints them, and the agent reads them with past.read.\nThe server does this by itself once a turn has filled four fifths of the window.\n\nExamples:\n  dromia session compact --dry-run\n  dromia session compact 3f9a1c72"
    )]
    Compact(CompactSession),
    /// Show the parts of a session that summaries took the place of
    #[command(
        subcommand,
        after_help = "Examples:\n  dromia session archive list\n  dromia session archive show 3f9a1c72"
    )]
    Archive(ArchiveCommand),
    /// Delete a session with its runs, branches and workers
    #[command(
        after_help = "A session on hold, or with a run that has not ended, is not deleted. Its seal stays in the audit.\n\nExamples:\n  dromia session delete 3f9a1c72\n  dromia session delete 3f9a1c72 --yes"
    )]
    Delete(NamedSession),
    /// Keep a session: neither retention nor a person deletes it
    #[command(
        after_help = "Its agent and its tenant aren't deleted either. `--off` ends the hold.\n\nExamples:\n  dromia session hold 3f9a1c72\n  dromia session hold 3f9a1c72 --off"
    )]
    Hold(HoldSession),
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

/// A session that must be named.
#[derive(Debug, Clone, Args)]
pub struct NamedSession {
    /// Its id, the first or last digits of it, or @last~1
    #[arg(value_name = "ID")]
    pub id: IdReference<SessionId>,
}

/// A session to keep.
#[derive(Debug, Clone, Args)]
pub struct HoldSession {
    /// Its id, the first or last digits of it, or @last~1
    #[arg(value_name = "ID")]
    pub id: IdReference<SessionId>,
    /// End the hold
    #[arg(long)]
    pub off: bool,
}

/// A session to compact.
#[derive(Debug, Clone, Args)]
pub struct CompactSession {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<SessionId>>,
    /// Only say which part would be summarized
    #[arg(long)]
    pub dry_run: bool,
}

/// What to do with the summarized parts of a session.
#[derive(Debug, Clone, Subcommand)]
pub enum ArchiveCommand {
    /// List the summaries of a session, oldest first
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia session archive list 3f9a1c72")]
    List(SessionName),
    /// Print a summary and the words behind it
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia session archive show 3f9a1c72\n  dromia session archive show 3f9a1c72 --part 2"
    )]
    Show(ShowArchive),
}

/// A summarized part of a session.
#[derive(Debug, Clone, Args)]
pub struct ShowArchive {
    /// The session's id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<SessionId>>,
    /// Which summary, as `session archive list` numbers them [default: the newest]
    #[arg(long, value_name = "NUMBER")]
    pub part: Option<usize>,
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
