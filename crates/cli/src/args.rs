//! The command line: one noun per group, the same verbs everywhere.
//!
//! Verbs have short aliases (`ls`, `get`, `rm`, `new`, `kill`) and nouns take their plural, so what is typed by
//! habit works.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use dromia_api::cost::CostBy;
use dromia_api::{Handle, RunId, RunStatus, SessionId, TokenScope};

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
    /// The home of the instance
    #[arg(long, global = true, value_name = "DIR", env = "DROMIA_HOME", help_heading = "Global options")]
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
        after_help = "Examples:\n  dromia ask \"what is due today?\"\n  git diff | dromia ask --agent reviewer -\n  dromia ask \"and now?\" --jsonl --usage-file usage.json"
    )]
    Ask(Ask),
    /// Talk with an agent, line by line
    #[command(
        after_help = "Examples:\n  dromia chat\n  dromia chat --agent ops --session ses_0199c0de…\n\nType /quit or press Ctrl-D to leave."
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
    /// Look at conversations, and carry them in and out
    #[command(subcommand, visible_alias = "sessions")]
    Session(Session),
    /// Look at runs and steer them
    #[command(subcommand, visible_alias = "runs")]
    Run(Run),
    /// Show what runs cost
    #[command(subcommand, visible_alias = "costs")]
    Cost(Cost),
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

/// What to ask.
#[derive(Debug, Clone, Args)]
pub struct Ask {
    /// The question; `-` reads it from stdin
    pub text: String,
    /// Ask in this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Print each entry as one line of JSON when it comes, the answer last
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,
    /// Write what the run used into this file, however it ends
    #[arg(long, value_name = "FILE")]
    pub usage_file: Option<PathBuf>,
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

/// What to do with agents.
#[derive(Debug, Clone, Subcommand)]
pub enum Agent {
    /// Register an agent
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia agent create ops --model default --instructions \"You run the servers.\"\n  dromia agent create reviewer --model default --instructions-file reviewer.md \\\n      --grant model --grant reply --grant 'file.*'"
    )]
    Create(CreateAgent),
    /// List agents
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia agent list\n  dromia agents ls --json")]
    List(Listing),
    /// Show an agent with its configuration
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia agent show ops")]
    Show(AgentName),
    /// Show an agent's state and its open runs
    #[command(after_help = "Examples:\n  dromia agent status ops")]
    Status(AgentName),
    /// Erase an agent and everything that belongs to it
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  dromia agent delete ops\n  dromia agent rm ops --yes"
    )]
    Delete(AgentName),
    /// Let an agent's runs rest at their next safe point
    #[command(after_help = "Examples:\n  dromia agent pause ops")]
    Pause(AgentName),
    /// Let a paused agent go on
    #[command(after_help = "Examples:\n  dromia agent resume ops")]
    Resume(AgentName),
    /// End an agent's runs; it takes no more input
    #[command(visible_alias = "kill", after_help = "Examples:\n  dromia agent terminate ops")]
    Terminate(AgentName),
    /// Make an agent the one that is meant when none is named
    #[command(after_help = "Examples:\n  dromia agent switch ops")]
    Switch(AgentName),
}

/// An agent to register.
#[derive(Debug, Clone, Args)]
pub struct CreateAgent {
    /// Its handle
    pub handle: Handle,
    /// The alias of its model
    #[arg(long, value_name = "ALIAS", default_value = "default")]
    pub model: String,
    /// The system text that makes it who it is
    #[arg(long, value_name = "TEXT", conflicts_with = "instructions_file")]
    pub instructions: Option<String>,
    /// A file with that text
    #[arg(long, value_name = "FILE")]
    pub instructions_file: Option<PathBuf>,
    /// What it may do: model, reply, a tool such as file.read, a family such as 'file.*'; repeatable
    #[arg(long = "grant", value_name = "GRANT", default_values = ["model", "reply"])]
    pub grants: Vec<String>,
    /// The most model calls of one run
    #[arg(long, value_name = "N")]
    pub model_calls_max: Option<u32>,
    /// The name that people see
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// A label; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
}

/// An agent, by name.
#[derive(Debug, Clone, Args)]
pub struct AgentName {
    /// Its handle or id
    pub name: String,
}

/// Which page to list.
#[derive(Debug, Clone, Args)]
pub struct Listing {
    /// The most rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub limit: u32,
    /// Only rows after this id
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
}

/// What to do with tenants.
#[derive(Debug, Clone, Subcommand)]
pub enum Tenant {
    /// Register a tenant and print its token, this once
    #[command(visible_alias = "new", after_help = "Examples:\n  dromia tenant create acme")]
    Create(CreateTenant),
    /// List tenants
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia tenant list")]
    List(Listing),
}

/// A tenant to register.
#[derive(Debug, Clone, Args)]
pub struct CreateTenant {
    /// Its handle
    pub handle: Handle,
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum Token {
    /// Make a token and print it, this once
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia token create laptop\n  dromia token create metrics --scope read --expires 30d\n  dromia --tenant acme token create admin --scope admin"
    )]
    Create(CreateToken),
    /// List tokens
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia token list\n  dromia tokens ls --json")]
    List(Listing),
    /// Take a token back, at once and for good
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  dromia token revoke laptop\n  dromia token revoke tok_0199c0de…"
    )]
    Revoke(TokenName),
}

/// A token to make.
#[derive(Debug, Clone, Args)]
pub struct CreateToken {
    /// What it is called; what it says is said by token:NAME
    pub name: String,
    /// What it may do: read, invoke (send events), admin (everything of the tenant); repeatable
    #[arg(long = "scope", value_name = "SCOPE", default_values_t = dromia_api::token::SCOPES_DEFAULT)]
    pub scopes: Vec<TokenScope>,
    /// How long it works, such as 12h, 30d or 8w; without it until it is revoked
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub expires: Option<u64>,
}

/// A token, by name.
#[derive(Debug, Clone, Args)]
pub struct TokenName {
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    pub name: String,
}

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
    #[command(after_help = "Examples:\n  dromia session import talk.session --agent ops")]
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
}

/// A session to read.
#[derive(Debug, Clone, Args)]
pub struct ImportSession {
    /// The file
    pub file: PathBuf,
}

/// What to do with runs.
#[derive(Debug, Clone, Subcommand)]
pub enum Run {
    /// List runs, the newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia run list --status running\n  dromia runs ls --agent ops --limit 10"
    )]
    List(ListRuns),
    /// Show a run and its steps, or what a model was sent
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia run show run_0199c0de…\n  dromia run show run_0199c0de… --step 1 --request > request.json"
    )]
    Show(ShowRun),
    /// Follow a run until it ends
    #[command(
        after_help = "Examples:\n  dromia run watch run_0199c0de…\n  dromia run watch run_0199c0de… --exit-status && echo answered"
    )]
    Watch(WatchRun),
    /// Say why a run stands where it stands, and what moves it
    #[command(after_help = "Examples:\n  dromia run why run_0199c0de…")]
    Why(RunName),
    /// Go on from a yielded run, or release a held one
    #[command(after_help = "Examples:\n  dromia run resume run_0199c0de…")]
    Resume(RunName),
    /// End a run at its next safe point
    #[command(after_help = "Examples:\n  dromia run cancel run_0199c0de…")]
    Cancel(RunName),
    /// End a run now
    #[command(visible_alias = "kill", after_help = "Examples:\n  dromia run terminate run_0199c0de…")]
    Terminate(RunName),
    /// Print a run's journal as JSON, whole or line by line
    #[command(after_help = "Examples:\n  dromia run export run_0199c0de… --jsonl > run.jsonl")]
    Export(ExportRun),
}

/// Which runs to list.
#[derive(Debug, Clone, Args)]
pub struct ListRuns {
    /// Only runs of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Only runs that stand so
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub status: Option<RunStatus>,
    /// Which page
    #[command(flatten)]
    pub page: Listing,
}

/// A run, by id.
#[derive(Debug, Clone, Args)]
pub struct RunName {
    /// Its id
    pub id: RunId,
}

/// A run to show.
#[derive(Debug, Clone, Args)]
pub struct ShowRun {
    /// Its id
    pub id: RunId,
    /// The model step whose request is meant
    #[arg(long, value_name = "N", requires = "request", value_parser = clap::value_parser!(u32).range(1..))]
    pub step: Option<u32>,
    /// Print the request that the step's model was sent, exactly as it was sent, and nothing else
    #[arg(long, requires = "step", conflicts_with_all = ["json", "output"])]
    pub request: bool,
    /// The attempt at the step; the last one without it
    #[arg(long, value_name = "N", requires = "request", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

/// A run to follow.
#[derive(Debug, Clone, Args)]
pub struct WatchRun {
    /// Its id
    pub id: RunId,
    /// Begin after this entry
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: u64,
    /// Print each entry as one line of JSON when it comes
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,
    /// Exit with 7 unless the run completes
    #[arg(long)]
    pub exit_status: bool,
}

/// A run to print.
#[derive(Debug, Clone, Args)]
pub struct ExportRun {
    /// Its id
    pub id: RunId,
    /// One entry per line; without it one document
    #[arg(long)]
    pub jsonl: bool,
}

/// What to ask about cost.
#[derive(Debug, Clone, Subcommand)]
pub enum Cost {
    /// Sum up what runs cost
    #[command(
        after_help = "Examples:\n  dromia cost summary --since 24h\n  dromia cost summary --by model --agent ops\n  dromia cost summary --by day --since 2026-01-01T00:00:00Z --json"
    )]
    Summary(CostSummary),
    /// Show what one run cost, attempt by attempt
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia cost show run_0199c0de…")]
    Show(RunName),
}

/// Which runs to sum up.
#[derive(Debug, Clone, Args)]
pub struct CostSummary {
    /// Only runs that began so long ago at most, such as 90m, 24h or 7d, or at a time or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Group by agent, model or day
    #[arg(long, value_name = "WHAT", default_value = "agent", value_parser = by)]
    pub by: CostBy,
}

fn by(text: &str) -> Result<CostBy, String> {
    CostBy::ALL.into_iter().find(|by| by.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = CostBy::ALL.iter().map(|by| by.as_str()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| format!("expected a time such as 500ms, 30s or 5m, found {text:?}"))?;
    let duration = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        unit => return Err(format!("{unit:?} is not ms, s, m or h")),
    };
    if duration.is_zero() { Err("the time must not be zero".to_owned()) } else { Ok(duration) }
}

/// Reads a life of days and weeks, in seconds.
fn lifetime(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| format!("expected a time such as 12h, 30d or 8w, found {text:?}"))?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        unit => return Err(format!("{unit:?} is not s, m, h, d or w")),
    };
    match number.saturating_mul(unit) {
        0 => Err("the time must not be zero".to_owned()),
        seconds => Ok(seconds),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, found {text:?}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn status(text: &str) -> Result<RunStatus, String> {
    RunStatus::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests;
