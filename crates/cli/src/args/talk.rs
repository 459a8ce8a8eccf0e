//! `dromia ask`, `dromia chat` and `dromia event`: what is said to an agent.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dromia_api::SessionId;

/// What to ask.
#[derive(Debug, Clone, Args)]
pub struct Ask {
    /// The question; `-` reads it from stdin
    pub text: String,
    /// Ask in this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Take only JSON that satisfies the JSON Schema in this file
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Print each entry as one line of JSON when it comes, the answer last
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,
    /// Write what the run used into this file, however it ends
    #[arg(long, value_name = "FILE")]
    pub usage_file: Option<PathBuf>,
    /// Makes a repeated command one question
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// With whom to talk.
#[derive(Debug, Clone, Args)]
pub struct Chat {
    /// Go on with this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
}

/// What to do with events.
#[derive(Debug, Clone, Subcommand)]
pub enum Event {
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
    /// The platform of the session
    #[arg(long, value_name = "NAME")]
    pub platform: Option<String>,
    /// The place on the platform; a new one, so a new session, without it
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Who speaks, under your own name
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// The session itself
    #[arg(long, value_name = "ID", conflicts_with_all = ["platform", "channel", "actor"])]
    pub session: Option<SessionId>,
    /// Makes a repeated command one event
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}
