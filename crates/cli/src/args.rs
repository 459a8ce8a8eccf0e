//! The command line: one noun per group, the same verbs everywhere.
//!
//! Verbs have short aliases (`ls`, `get`, `rm`, `new`, `kill`) and nouns take their plural, so what is typed by
//! habit works. Here is what every command shares; each group is in a file of its own.

mod agent;
pub(crate) mod agent_change;
pub(crate) mod agent_identity;
mod approval;
mod ask;
mod audit;
mod budget;
mod capability;
mod context;
mod delivery;
mod file;
mod id;
mod retention;
mod run;
mod secret;
mod session;
mod template;
mod tenant;
mod tool;
mod value;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use dromia_api::HandleSlug;

pub use self::agent::{AgentCommand, AgentName, CreateAgent, KillAgent, ListTasks, ShowAgent, SpawnAgent};
pub use self::agent_change::{
    AgentHistory, AgentSetting, ApplyAgents, DiffAgent, RenameAgent, RevertAgent, SetAgent, SettingMode,
};
pub use self::agent_identity::{
    AgentIdentityCommand, DiffDocument, DocumentReference, EditDocument, ListDocuments, ShowDocument,
};
pub use self::approval::{
    AddRule, ApprovalCommand, ApprovalName, ApprovalRuleCommand, ApproveCall, DenyCall, ListApprovals,
    RuleName, TestRule,
};
pub use self::ask::{AskArguments, ChatArguments, EventCommand, SendEvent};
pub use self::audit::{
    AuditCommand, DecisionFilter, ExportAudit, QueryAudit, RecordFilters, RecordName, TailAudit, VerifyAudit,
};
pub use self::budget::{BudgetCommand, BudgetName, SetBudget};
pub use self::capability::{
    CapabilityCommand, CapabilityLimits, CapabilityName, CheckCapability, DelegateCapability, GrantCapability,
};
pub use self::context::{AddContext, ContextCommand};
pub use self::delivery::{DeliveryCommand, DeliveryName, DeliveryStanding, ListDeliveries, RedriveDelivery};
pub use self::file::{FileCommand, GetFile, ListFiles, PutFile};
pub use self::id::{IdReference, ListedId, NEWEST};
pub use self::retention::{RetentionCommand, RunRetention};
pub use self::run::{
    CostCommand, CostSummary, ExportRun, ListRuns, NewestRunName, RunCommand, RunName, RunTreeName, ShowRun,
    WatchRun,
};
pub use self::secret::{RotateSecret, SecretCommand, SecretName, SetSecret};
pub use self::session::{
    ArchiveCommand, CompactSession, ExportSession, HoldSession, ImportSession, NamedSession, SessionCommand,
    SessionName, ShowArchive,
};
pub use self::template::{RoleCommand, RoleName, ShowTemplate, TemplateCommand};
pub use self::tenant::{CreateTenant, CreateToken, NamedTenant, TenantCommand, TokenCommand, TokenName};
pub use self::tool::{CallTool, TestTool, ToolCommand, ToolName};
use self::value::parse_duration;
pub use self::worker::{ListWorkers, SendToWorker, WorkerCommand, WorkerName};
use crate::format::{ColorMode, FieldSelection, OutputFormat};
use crate::remote::ServerUrl;

/// Options that every command takes. They are hidden on the page of a command; `dromia help options` prints them.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag, and they are independent")]
pub struct GlobalOptions {
    /// Work in this tenant
    #[arg(long, short = 'T', global = true, value_name = "HANDLE", hide_short_help = true)]
    pub tenant: Option<HandleSlug>,
    /// Use this agent, by handle or id
    #[arg(long, global = true, value_name = "AGENT", hide_short_help = true)]
    pub agent: Option<String>,
    /// Print results as table, wide, json, jsonl, yaml or name
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", hide_short_help = true)]
    pub output: Option<OutputFormat>,
    /// Print one JSON document; with `=`, only these fields of it or of its rows
    #[arg(
        long,
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_name = "FIELD,…",
        hide_short_help = true
    )]
    pub json: Option<FieldSelection>,
    /// Print one line of JSON per row, the same as `-o jsonl`
    // A command whose lines are something else has its own words for the same flag.
    #[arg(long, global = true, hide_short_help = true)]
    pub jsonl: bool,
    /// Filter the JSON result with an expression of jq, such as `.items[].id`; a text is printed without its quotes
    #[arg(long, global = true, value_name = "EXPR", hide_short_help = true)]
    pub jq: Option<String>,
    /// Use colour: auto, always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t = ColorMode::Auto,
        hide_default_value = true,
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub color: ColorMode,
    /// Print plain lines that a screen reader can follow: nothing is written over, and no symbols [default: $ACCESSIBLE]
    #[arg(long, global = true, hide_short_help = true)]
    pub accessible: bool,
    /// Never ask a question; fail instead
    #[arg(long, global = true, hide_short_help = true)]
    pub no_input: bool,
    /// Answer yes to every question
    #[arg(long, short, global = true, hide_short_help = true)]
    pub yes: bool,
    /// Wait this long for an answer, such as 500ms, 30s or 5m
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration, hide_short_help = true)]
    pub timeout: Option<Duration>,
    /// Use this home [default: $DROMIA_HOME, else ~/.dromia]
    // The variable is read by `Context` and not by clap, which would name the option in every usage as if it were wanted.
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub home: Option<PathBuf>,
    /// Connect to this socket [default: run/dromia.sock in the home]
    #[arg(long, global = true, value_name = "PATH", hide_short_help = true)]
    pub socket: Option<PathBuf>,
    /// Work on the server of this context, which `dromia context add` keeps
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub context: Option<String>,
    /// Work on this server, such as `https://agents.example`, with the token in $DROMIA_TOKEN
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub server: Option<ServerUrl>,
    /// Trust the authorities in this file instead of the system's
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub ca: Option<PathBuf>,
}

/// Commands that talk to a running server.
#[derive(Debug, Clone, Subcommand)]
pub enum ClientCommand {
    /// Ask an agent and print its answer
    #[command(
        after_help = "Piped text joins the question, at most 512 KiB in all: `git diff | dromia ask review this` sends the words, an empty line and the diff. At a terminal the command waits for the end of the pipe. Without one, a pipe that stays silent for 3 seconds is left out; `-` behind the words waits for it, and --no-stdin or `</dev/null` never reads it.\n\nCtrl-C cancels the run; a second Ctrl-C leaves at once. If the run needs an approval, you are asked at a terminal; with --no-input the command ends with exit code 8.\n\nWith --schema, the agent gets the schema with the question, and this command checks the answer. It prints the answer as JSON without a code fence, or it names each place that does not satisfy the schema and exits with 1. It never asks a second time.\n\nWith --workspace, file tools and programs of this run work in that directory, and other runs of the session do not. It needs a role that may change the agent (admin).\n\nExamples:\n  dromia ask what is due today\n  git diff | dromia ask --agent reviewer review this\n  dromia ask -c \"and tomorrow?\"\n  dromia ask -c --when-busy steer \"leave the tests alone\"\n  dromia ask \"write the report\" --detach\n  dromia ask --workspace . \"fix the typo in README.md\"\n  dromia ask --workspace /srv/work/site:ro \"what is this?\"\n  dromia ask \"and now?\" --jsonl --usage-file usage.json\n  dromia ask \"who wrote this?\" --schema person.json"
    )]
    Ask(AskArguments),
    /// Chat with an agent
    #[command(
        after_help = "At a terminal, /help lists the commands and keys of the chat. When the input is a pipe, the command exits with the code of the last turn that failed, or with 0 if none failed.\n\nExamples:\n  dromia chat\n  dromia chat --agent ops\n  dromia chat --continue\n  dromia chat --session 3f9a1c72"
    )]
    Chat(ChatArguments),
    /// Send a message to an agent
    #[command(
        subcommand,
        visible_alias = "events",
        after_help = "Example:\n  dromia event send \"deploy finished\" --agent ops"
    )]
    Event(EventCommand),
    /// Create and control agents, and give them tasks
    #[command(
        subcommand,
        visible_alias = "agents",
        after_help = "Examples:\n  dromia agent create ops --instructions \"You run the servers.\"\n  dromia agent list\n  dromia agent pause ops"
    )]
    Agent(AgentCommand),
    /// Create, list, suspend and delete tenants
    #[command(
        subcommand,
        visible_alias = "tenants",
        after_help = "Examples:\n  dromia tenant create acme\n  dromia tenant list\n  dromia tenant suspend acme"
    )]
    Tenant(TenantCommand),
    /// Create, list and revoke access tokens
    #[command(
        subcommand,
        visible_alias = "tokens",
        after_help = "Examples:\n  dromia token create laptop --expires 30d\n  dromia token revoke laptop"
    )]
    Token(TokenCommand),
    /// Store secrets for agents; no command reads them back
    #[command(
        subcommand,
        visible_alias = "secrets",
        after_help = "Examples:\n  dromia secret list\n  dromia secret rotate github --stdin < token.txt"
    )]
    Secret(SecretCommand),
    /// Grant, delegate and revoke rights of agents
    #[command(
        subcommand,
        visible_alias = "capabilities",
        after_help = "Examples:\n  dromia capability grant scribe file:write:out/reports --expires 8h\n  dromia capability list"
    )]
    Capability(CapabilityCommand),
    /// Show, export and import conversations
    #[command(
        subcommand,
        visible_alias = "sessions",
        after_help = "Examples:\n  dromia session list\n  dromia session export 3f9a1c72 --file talk.session"
    )]
    Session(SessionCommand),
    /// Show how long sessions are kept, and delete those due
    #[command(
        subcommand,
        after_help = "Examples:\n  dromia retention show\n  dromia retention run --dry-run"
    )]
    Retention(RetentionCommand),
    /// Show the templates of agents
    #[command(
        subcommand,
        visible_alias = "templates",
        after_help = "Examples:\n  dromia template list\n  dromia agent create scout --template research --var tone=dry"
    )]
    Template(TemplateCommand),
    /// Show the roles of workers
    #[command(
        subcommand,
        visible_alias = "roles",
        after_help = "Examples:\n  dromia role list\n  dromia role show coder"
    )]
    Role(RoleCommand),
    /// List, show, steer and stop branches and workers
    #[command(
        subcommand,
        visible_alias = "workers",
        after_help = "Examples:\n  dromia worker list\n  dromia worker send 3f9a1c72 \"only the tests, please\""
    )]
    Worker(WorkerCommand),
    /// List, follow, explain and stop runs
    #[command(
        subcommand,
        visible_alias = "runs",
        after_help = "Examples:\n  dromia run list --status running\n  dromia run why 3f9a1c72"
    )]
    Run(RunCommand),
    /// Show outgoing messages and resend them
    #[command(
        subcommand,
        visible_alias = "deliveries",
        after_help = "Examples:\n  dromia delivery list --state dead\n  dromia delivery redrive 3f9a1c72"
    )]
    Delivery(DeliveryCommand),
    /// List, read and write files of an agent's workspace
    #[command(
        subcommand,
        visible_alias = "files",
        after_help = "Examples:\n  dromia file list --agent dev\n  dromia file get notes/today.md\n  dromia file put plan.md notes/plan.md"
    )]
    File(FileCommand),
    /// List, call and test the tools of agents
    #[command(
        subcommand,
        visible_alias = "tools",
        after_help = "Examples:\n  dromia tool list --agent dev\n  dromia tool call file.list --agent dev"
    )]
    Tool(ToolCommand),
    /// Query, follow, verify and export the audit log
    #[command(subcommand, after_help = "Examples:\n  dromia audit query --since 24h\n  dromia audit verify")]
    Audit(AuditCommand),
    /// Show what runs cost
    #[command(
        subcommand,
        visible_alias = "costs",
        after_help = "Examples:\n  dromia cost summary --since 24h\n  dromia cost show 3f9a1c72"
    )]
    Cost(CostCommand),
    /// Limit spending and see what is used
    #[command(
        subcommand,
        visible_alias = "budgets",
        after_help = "Examples:\n  dromia budget set daily --limit 5.00\n  dromia budget list"
    )]
    Budget(BudgetCommand),
    /// Approve or deny calls that wait for a person
    #[command(
        subcommand,
        visible_alias = "approvals",
        after_help = "Examples:\n  dromia approval list\n  dromia approval approve 3f9a1c72"
    )]
    Approval(ApprovalCommand),
    /// Show who needs you, what runs and what was spent
    #[command(
        after_help = "Examples:\n  dromia status\n  dromia status --watch\n  dromia status --all-tenants --json\n  dromia status --node --json=version,store\n  dromia status --all > report.txt"
    )]
    Status(StatusArguments),
    /// Keep servers on other machines under names
    #[command(
        subcommand,
        visible_alias = "contexts",
        after_help = "Examples:\n  dromia context add prod --server https://agents.example --token-stdin < token\n  dromia context use prod\n  dromia --context prod status"
    )]
    Context(ContextCommand),
    /// Show the server, the tenant and your rights
    #[command(after_help = "Examples:\n  dromia whoami\n  dromia whoami --tenant acme --json")]
    Whoami,
}

/// How much to show.
#[derive(Debug, Clone, Copy, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub struct StatusArguments {
    /// Show everything that a bug report needs: versions, doctor, configuration; no secrets
    #[arg(long, conflicts_with_all = ["node", "all_tenants", "watch"])]
    pub all: bool,
    /// Show the server itself: its store, its load, its policy
    #[arg(long, conflicts_with_all = ["all_tenants", "watch"])]
    pub node: bool,
    /// Show every tenant; for the operator on the server's machine
    #[arg(long, short = 'A')]
    pub all_tenants: bool,
    /// Show it again every 2 seconds until Ctrl-C; without a terminal, print what changed
    #[arg(long, short)]
    pub watch: bool,
}

/// Which page to list.
#[derive(Debug, Clone, Args)]
pub struct PageArguments {
    /// Print at most this many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub limit: u32,
    /// Start after this row, which the previous page printed
    #[arg(long, value_name = "ROW")]
    pub after: Option<String>,
}

#[cfg(test)]
mod tests;
