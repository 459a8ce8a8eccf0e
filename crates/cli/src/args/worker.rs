//! `dromia worker`: the branches and workers that runs of a session began.

use clap::{Args, Subcommand};
use dromia_api::SessionId;

use super::{IdReference, PageArguments};

/// What to do with branches and workers.
#[derive(Debug, Clone, Subcommand)]
pub enum WorkerCommand {
    /// List the branches and workers of a session, oldest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia worker list --open\n  dromia worker list --session 3f9a1c72 -o json"
    )]
    List(ListWorkers),
    /// Show a branch or a worker
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia worker show 3f9a1c72")]
    Show(WorkerName),
    /// Say more to a worker, working or done
    #[command(
        after_help = "A worker that works reads the message before its next step. One that is done begins again, and what comes of it goes to the\nsession that it works for.\n\nExamples:\n  dromia worker send 3f9a1c72 \"only the tests, please\"\n  git diff | dromia worker send 3f9a1c72 -"
    )]
    Send(SendToWorker),
    /// End what a branch or a worker does, after its current tool call
    #[command(after_help = "Examples:\n  dromia worker cancel 3f9a1c72")]
    Cancel(WorkerName),
}

/// Which branches and workers to list.
#[derive(Debug, Clone, Args)]
pub struct ListWorkers {
    /// Those of this session [default: the newest that has any]
    #[arg(long, value_name = "ID")]
    pub session: Option<IdReference<SessionId>>,
    /// Only those that have not ended
    #[arg(long)]
    pub open: bool,
    /// Which page
    #[command(flatten)]
    pub page: PageArguments,
}

/// A branch or a worker, by its own session.
#[derive(Debug, Clone, Args)]
pub struct WorkerName {
    /// Its session, or the first or last digits of it
    #[arg(value_name = "ID")]
    pub id: IdReference<SessionId>,
}

/// A message to a worker.
#[derive(Debug, Clone, Args)]
pub struct SendToWorker {
    /// Its session, or the first or last digits of it
    #[arg(value_name = "ID")]
    pub id: IdReference<SessionId>,
    /// The message; `-` reads it from stdin
    pub text: String,
    /// A repeated command with the same key sends one message
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}
