//! `dromia retention`: how long sessions are kept.

use clap::{Args, Subcommand};

/// What to do with sessions that are due.
#[derive(Debug, Clone, Subcommand)]
pub enum RetentionCommand {
    /// Show how long sessions are kept, what is due now and what is on hold
    #[command(after_help = "Examples:\n  dromia retention show\n  dromia -T acme retention show")]
    Show,
    /// Delete the sessions that are due now
    #[command(
        after_help = "The server does this by itself every few minutes. A session on hold stays: see `dromia session hold --help`.\n\nExamples:\n  dromia retention run --dry-run\n  dromia retention run --yes"
    )]
    Run(RunRetention),
}

/// A deletion of the sessions that are due.
#[derive(Debug, Clone, Args)]
pub struct RunRetention {
    /// Only list what would be deleted
    #[arg(long)]
    pub dry_run: bool,
}
