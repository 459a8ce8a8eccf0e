//! The command line: one noun per group, the same verbs everywhere.
//!
//! Verbs have short aliases (`ls`, `get`, `rm`, `new`, `kill`) and nouns take their plural, so what is typed by
//! habit works. Here is what every command shares; each group is in a file of its own.

mod agent;
mod approval;
mod audit;
mod budget;
mod capability;
mod delivery;
mod run;
mod secret;
mod session;
mod talk;
mod tenant;
mod tool;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use dromia_api::Handle;

pub use self::agent::{Agent, AgentName, CreateAgent, KillAgent, ListTasks, SpawnAgent};
pub use self::approval::{
    AddRule, Approval, ApprovalName, ApprovalRule, ApproveCall, DenyCall, ListApprovals, RuleName, TestRule,
};
pub use self::audit::{
    Audit, Decision, ExportAudit, QueryAudit, RecordName, Records, TailAudit, VerifyAudit,
};
pub use self::budget::{Budget, BudgetName, SetBudget};
pub use self::capability::{
    Capability, CapabilityLimits, CapabilityName, CheckCapability, DelegateCapability, GrantCapability,
};
pub use self::delivery::{Delivery, DeliveryName, DeliveryStanding, ListDeliveries, RedriveDelivery};
pub use self::run::{Cost, CostSummary, ExportRun, ListRuns, Run, RunName, ShowRun, WatchRun};
pub use self::secret::{RotateSecret, Secret, SecretName, SetSecret};
pub use self::session::{ExportSession, ImportSession, Session, SessionName};
pub use self::talk::{Ask, Chat, Event, SendEvent};
pub use self::tenant::{CreateTenant, CreateToken, Tenant, Token, TokenName};
pub use self::tool::{CallTool, TestTool, Tool, ToolName};
use self::value::duration;
use crate::format::{Color, Fields, Format};

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The tenant to work in
    #[arg(long, short = 'T', global = true, value_name = "HANDLE", help_heading = "Global options")]
    pub tenant: Option<Handle>,
    /// The agent, by handle or id
    #[arg(long, global = true, value_name = "AGENT", help_heading = "Global options")]
    pub agent: Option<String>,
    /// Print results as a table, as JSON, or as one line of JSON per row
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", help_heading = "Global options")]
    pub output: Option<Format>,
    /// Print one JSON document on stdout; with `=`, only these fields of it, or of its rows
    #[arg(
        long,
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_name = "FIELD,…",
        help_heading = "Global options"
    )]
    pub json: Option<Fields>,
    /// Print one line of JSON per row, as `-o jsonl` does
    // A command whose lines are something else has its own words for the same flag.
    #[arg(long, global = true, help_heading = "Global options")]
    pub jsonl: bool,
    /// When to use colour: auto, always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t = Color::Auto,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub color: Color,
    /// Ask nothing; fail instead
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_input: bool,
    /// Answer every question with yes
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub yes: bool,
    /// How long to wait for an answer, such as 500ms, 30s or 5m
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// The home of the instance; without it `$DROMIA_HOME`, else ~/.dromia
    // The variable is read by `Context` and not by clap, which would name the option in every usage as if it were wanted.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub home: Option<PathBuf>,
    /// The socket of the server [default: run/dromia.sock in the home]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub socket: Option<PathBuf>,
}

/// Commands that talk to a running server.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Ask an agent and print its answer, nothing else
    #[command(
        after_help = "Examples:\n  dromia ask \"what is due today?\"\n  git diff | dromia ask --agent reviewer -\n  dromia ask \"and now?\" --jsonl --usage-file usage.json\n  dromia ask \"who wrote this?\" --schema person.json\n\nWith --schema the schema is written under the question, and the answer is checked here: it is printed\nas JSON, without a code fence around it, or the command names the places that do not satisfy the schema\nand exits with 1. Nothing is asked twice."
    )]
    Ask(Ask),
    /// Talk with an agent, line by line
    #[command(
        after_help = "Examples:\n  dromia chat\n  dromia chat --agent ops\n  dromia chat --session ses_0199c0de…\n\nType /quit or press Ctrl-D to leave. What comes from a pipe ends with the exit code of the last turn\nthat failed, or 0 if none did."
    )]
    Chat(Chat),
    /// Send events
    #[command(subcommand, visible_alias = "events")]
    Event(Event),
    /// Register and steer agents
    #[command(subcommand, visible_alias = "agents")]
    Agent(Agent),
    /// Register and list tenants
    #[command(subcommand, visible_alias = "tenants")]
    Tenant(Tenant),
    /// Make credentials of the tenant, and take them back
    #[command(subcommand, visible_alias = "tokens")]
    Token(Token),
    /// Set secrets that agents may use and nobody may read back
    #[command(subcommand, visible_alias = "secrets")]
    Secret(Secret),
    /// Grant signed rights to agents, hand them on and take them back
    #[command(subcommand, visible_alias = "capabilities")]
    Capability(Capability),
    /// Look at conversations, and carry them in and out
    #[command(subcommand, visible_alias = "sessions")]
    Session(Session),
    /// Look at runs and steer them
    #[command(subcommand, visible_alias = "runs")]
    Run(Run),
    /// Look at messages on their way out, and have them sent again
    #[command(subcommand, visible_alias = "deliveries")]
    Delivery(Delivery),
    /// Look at tools, what they may use and who may use them, and test them here
    #[command(subcommand, visible_alias = "tools")]
    Tool(Tool),
    /// Look at who did and decided what, and for what was removed or changed
    #[command(subcommand)]
    Audit(Audit),
    /// Show what runs cost
    #[command(subcommand, visible_alias = "costs")]
    Cost(Cost),
    /// Say how much may be spent, and see how much is
    #[command(subcommand, visible_alias = "budgets")]
    Budget(Budget),
    /// Answer calls that wait for a person, and keep rules that answer in your place
    #[command(subcommand, visible_alias = "approvals")]
    Approval(Approval),
    /// Show how the server stands
    #[command(
        after_help = "Examples:\n  dromia status\n  dromia status --json=version,store\n  dromia status --all > report.txt"
    )]
    Status(Status),
    /// Show the server, the tenant, and what you may do there
    #[command(after_help = "Examples:\n  dromia whoami\n  dromia whoami --tenant acme --json")]
    Whoami,
}

/// How much to show.
#[derive(Debug, Clone, Copy, Args)]
pub struct Status {
    /// Everything that helps somebody else to help: versions, doctor, configuration; without secrets
    #[arg(long)]
    pub all: bool,
}

/// Which page to list.
#[derive(Debug, Clone, Args)]
pub struct Listing {
    /// The most rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub limit: u32,
    /// Only rows after this one, which is what the page before named as `--after`
    #[arg(long, value_name = "ROW")]
    pub after: Option<String>,
}

#[cfg(test)]
mod tests;
