//! `dromia ask`, `dromia chat` and `dromia event`: what is said to an agent.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dromia_api::{BusyPolicy, SessionId};

use super::IdReference;

/// What to ask.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub struct AskArguments {
    /// The question, in one word or several; a pipe or a file on stdin joins it, and `-` waits for stdin
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// Ask in this session
    #[arg(long, value_name = "ID", conflicts_with = "continue_last")]
    pub session: Option<IdReference<SessionId>>,
    /// Continue your last session with the agent
    #[arg(long = "continue", short)]
    pub continue_last: bool,
    /// Print the id of the run and leave it running
    #[arg(long, conflicts_with_all = ["schema", "jsonl", "usage_file"])]
    pub detach: bool,
    /// What the message does while a turn of the session runs
    #[arg(long, value_name = "POLICY")]
    pub when_busy: Option<BusyPolicyChoice>,
    /// Let this run work in a directory of the server's machine, with :ro behind it for reading only; workspaces.roots in
    /// dromia.yaml lists below which directories it may lie. A relative one is resolved here
    #[arg(long, value_name = "DIR[:ro]")]
    pub workspace: Option<String>,
    /// Also wait for branches and workers, and print what their conclusions lead to
    #[arg(long, conflicts_with_all = ["detach", "schema", "jsonl", "json"])]
    pub until_idle: bool,
    /// Never read stdin
    #[arg(long)]
    pub no_stdin: bool,
    /// Accept only JSON that satisfies the JSON Schema in this file
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Print each entry as one line of JSON when it arrives, the answer last
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,
    /// Write what the run used to this file, however it ends
    #[arg(long, value_name = "FILE")]
    pub usage_file: Option<PathBuf>,
    /// A repeated command with the same key asks once
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// With whom to talk.
#[derive(Debug, Clone, Args)]
pub struct ChatArguments {
    /// Continue this session
    #[arg(long, value_name = "ID", conflicts_with = "continue_last")]
    pub session: Option<IdReference<SessionId>>,
    /// Continue your last session with the agent
    #[arg(long = "continue", short)]
    pub continue_last: bool,
}

/// What to do with events.
#[derive(Debug, Clone, Subcommand)]
pub enum EventCommand {
    /// Send a message to an agent
    #[command(
        after_help = "Examples:\n  dromia event send \"deploy finished\" --agent ops\n  dromia event send \"and now?\" --channel deploys --actor ci --wait"
    )]
    Send(SendEvent),
}

/// An event to send.
#[derive(Debug, Clone, Args)]
pub struct SendEvent {
    /// The message; `-` reads it from stdin
    pub text: String,
    /// Wait for the answer
    #[arg(long)]
    pub wait: bool,
    /// Use a session of this platform
    #[arg(long, value_name = "NAME")]
    pub platform: Option<String>,
    /// Use the session of this channel [default: a new session]
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Send as this actor, below your own name
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Send to this session
    #[arg(long, value_name = "ID", conflicts_with_all = ["platform", "channel", "actor"])]
    pub session: Option<IdReference<SessionId>>,
    /// What the message does while a turn of the session runs
    #[arg(long, value_name = "POLICY")]
    pub when_busy: Option<BusyPolicyChoice>,
    /// A repeated command with the same key sends one event
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// What a message does while a turn of its session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BusyPolicyChoice {
    /// Gets a turn of its own, after the others
    FollowUp,
    /// Joins the turn before its next model call
    Steer,
    /// Is answered together with other messages that wait to be collected
    Collect,
    /// Ends the turn and goes next
    Interrupt,
}

impl From<BusyPolicyChoice> for BusyPolicy {
    fn from(choice: BusyPolicyChoice) -> Self {
        match choice {
            BusyPolicyChoice::FollowUp => Self::FollowUp,
            BusyPolicyChoice::Steer => Self::Steer,
            BusyPolicyChoice::Collect => Self::Collect,
            BusyPolicyChoice::Interrupt => Self::Interrupt,
        }
    }
}
