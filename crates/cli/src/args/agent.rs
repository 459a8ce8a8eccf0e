//! `dromia agent`: agents and how to steer them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dromia_api::{AgentMind, CapabilityId, HandleSlug, RunId, SessionId, TaskState, WorkspaceReference};

use super::agent_change::{AgentHistory, ApplyAgents, DiffAgent, RenameAgent, RevertAgent, SetAgent};
use super::agent_identity::AgentIdentityCommand;
use super::ask::BusyPolicyChoice;
use super::value::{parse_label, task_state};
use super::{IdReference, PageArguments};

/// What to do with agents.
#[derive(Debug, Clone, Subcommand)]
pub enum AgentCommand {
    /// Create an agent
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia agent create scout --template research --var tone=dry\n  dromia agent create ops --model default --instructions \"You run the servers.\"\n  dromia agent create reviewer --model default --instructions-file reviewer.md \\\n      --grant model --grant reply --grant 'file.*'\n  dromia agent create writer --workspace /srv/work/site \\\n      --grant model --grant reply --grant 'file.*'"
    )]
    Create(CreateAgent),
    /// List agents
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia agent list\n  dromia agents ls --json")]
    List(PageArguments),
    /// Show an agent with its configuration
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia agent show ops\n  dromia agent show ops --yaml > ops.yaml"
    )]
    Show(ShowAgent),
    /// Change an agent: its next revision counts for runs that begin afterwards
    #[command(
        after_help = "Keys: model, instructions, grants, model_calls_max, description, workspace, when_busy, mind, display_name, labels. A value that begins with @ names a file, whose content is read now; @@ is the sign itself. Grants that you take away count at once, also for runs that go on.\n\nExamples:\n  dromia agent set ops model=fast\n  dromia agent set ops instructions=@ops.md description=\"runs the servers\"\n  dromia agent set ops grants+=exec grants-=net:example.com\n  dromia agent set ops labels+=team=infra model_calls_max=\n  dromia agent set ops workspace=/srv/work/site:ro\n  dromia agent set ops workspace="
    )]
    Set(SetAgent),
    /// Change an agent in your editor
    #[command(after_help = "Examples:\n  dromia agent edit ops\n  EDITOR=nano dromia agent edit ops")]
    Edit(AgentName),
    /// Create and change agents as a YAML file says
    #[command(
        after_help = "The file has one agent, a list of agents, or several documents. What it does not name of an agent stays.\n\nExamples:\n  dromia agent apply -f agents.yaml --dry-run\n  dromia agent apply -f agents.yaml\n  dromia agent show ops --yaml | dromia agent apply -f -\n  dromia agent apply -f agents.yaml --prune --yes"
    )]
    Apply(ApplyAgents),
    /// Compare two revisions of an agent
    #[command(
        after_help = "Examples:\n  dromia agent diff ops\n  dromia agent diff ops 3\n  dromia agent diff ops 3 5"
    )]
    Diff(DiffAgent),
    /// List an agent's revisions: when, by whom, and what changed
    #[command(after_help = "Examples:\n  dromia agent history ops\n  dromia agent history ops --json")]
    History(AgentHistory),
    /// Show and write documents that say who an agent is and whom it talks with
    #[command(
        subcommand,
        after_help = "Examples:\n  dromia agent identity edit ops SOUL.md\n  dromia agent identity list ops"
    )]
    Identity(AgentIdentityCommand),
    /// Take an earlier revision of an agent again, as its next one
    #[command(after_help = "Examples:\n  dromia agent revert ops 3")]
    Revert(RevertAgent),
    /// Give an agent another handle; the old one is free at once
    #[command(after_help = "Examples:\n  dromia agent rename ops servers")]
    Rename(RenameAgent),
    /// Show an agent's state and its open runs
    #[command(after_help = "Examples:\n  dromia agent status ops")]
    Status(AgentName),
    /// Erase an agent and everything that belongs to it
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  dromia agent delete ops\n  dromia agent rm ops --yes"
    )]
    Delete(AgentName),
    /// Pause an agent: its runs stop at their next safe point
    #[command(after_help = "Examples:\n  dromia agent pause ops")]
    Pause(AgentName),
    /// Resume a paused agent
    #[command(after_help = "Examples:\n  dromia agent resume ops")]
    Resume(AgentName),
    /// End an agent for good: its runs end, and it accepts no more input
    #[command(after_help = "Examples:\n  dromia agent terminate ops --yes")]
    Terminate(AgentName),
    /// Give an agent a task, in a session of its own
    #[command(
        after_help = "Examples:\n  dromia agent spawn dev --task \"run the tests and say which fail\"\n  git diff | dromia agent spawn reviewer --task - --wait\n  dromia agent spawn dev --task \"tidy up\" --idempotency-key tidy-1 --json"
    )]
    Spawn(SpawnAgent),
    /// List an agent's tasks and their states
    #[command(
        after_help = "Examples:\n  dromia agent tasks dev\n  dromia agent tasks dev --state paused --json"
    )]
    Tasks(ListTasks),
    /// End an agent's runs and tasks now; it still accepts input
    #[command(
        after_help = "The programs of a running tool end too; the journal records that the outcome is unknown.\n\nExamples:\n  dromia agent kill dev\n  dromia agent kill dev --run 3f9a1c72\n  dromia agent kill dev --session 3f9a1c72"
    )]
    Kill(KillAgent),
    /// Choose the agent that commands use when you name none
    #[command(after_help = "Examples:\n  dromia agent switch ops")]
    Switch(AgentName),
}

/// An agent to show.
#[derive(Debug, Clone, Args)]
pub struct ShowAgent {
    /// Which
    #[command(flatten)]
    pub agent: AgentName,
    /// Print it as `dromia agent apply -f` reads it
    #[arg(long)]
    pub yaml: bool,
}

/// An agent to register.
#[derive(Debug, Clone, Args)]
pub struct CreateAgent {
    /// Its handle
    pub handle: HandleSlug,
    /// Make it from this template; `dromia template list` shows them
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Set a variable of the template; repeatable
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_label, requires = "template")]
    pub variables: Vec<(String, String)>,
    /// The alias of its model
    #[arg(long, value_name = "ALIAS", default_value = "default")]
    pub model: String,
    /// Its system prompt
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["instructions_file", "template"])]
    pub instructions: Option<String>,
    /// Read the system prompt from this file
    #[arg(long, value_name = "FILE", conflicts_with = "template")]
    pub instructions_file: Option<PathBuf>,
    /// Grant it a right: model, reply, a tool such as file.read, a family such as 'file.*', a host such as
    /// net.read:example.com, or a secret such as secret:github; repeatable. Added to those of the template [default: model
    /// and reply, or those of the template]
    #[arg(long = "grant", value_name = "GRANT")]
    pub grants: Vec<String>,
    /// Allow at most this many model calls in one run
    #[arg(long, value_name = "N")]
    pub model_calls_max: Option<u32>,
    /// Let it work in this directory of the server's machine, with :ro behind it for reading only; workspaces.roots in
    /// dromia.yaml says which are allowed
    #[arg(long, value_name = "DIR[:ro]")]
    pub workspace: Option<WorkspaceReference>,
    /// What a message does while a turn of its session runs, where the message does not say
    #[arg(long, value_name = "POLICY")]
    pub when_busy: Option<BusyPolicyChoice>,
    /// How it divides its work between its runs
    #[arg(long, value_name = "MIND")]
    pub mind: Option<MindChoice>,
    /// Show people this name
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// Add a label; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
}

/// A task to give.
#[derive(Debug, Clone, Args)]
pub struct SpawnAgent {
    /// The agent's handle or id
    pub name: String,
    /// What the agent should do; `-` reads it from stdin
    #[arg(long, value_name = "TEXT")]
    pub task: String,
    /// Wait until the task ends and print the answer
    #[arg(long)]
    pub wait: bool,
    /// Allow only this one of the agent's rights, such as file:write:out; repeatable
    #[arg(long = "may", value_name = "RIGHT")]
    pub rights: Vec<String>,
    /// Keep the task within this capability; --may narrows it further
    #[arg(long, value_name = "CAPABILITY")]
    pub under: Option<IdReference<CapabilityId>>,
    /// A repeated command with the same key makes one task
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Args)]
pub struct ListTasks {
    /// The agent's handle or id
    pub name: String,
    /// Only tasks in this state
    #[arg(long, value_name = "STATE", value_parser = task_state)]
    pub state: Option<TaskState>,
    /// Which page
    #[command(flatten)]
    pub page: PageArguments,
}

/// What of an agent to end.
#[derive(Debug, Clone, Args)]
pub struct KillAgent {
    /// The agent's handle or id
    pub name: String,
    /// End only this run
    #[arg(long, value_name = "ID", conflicts_with = "session")]
    pub run: Option<IdReference<RunId>>,
    /// End only what this session does, or what its task waits for
    #[arg(long, value_name = "ID")]
    pub session: Option<IdReference<SessionId>>,
}

/// An agent, by name.
#[derive(Debug, Clone, Args)]
pub struct AgentName {
    /// Its handle or id
    pub name: String,
}

/// How an agent divides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MindChoice {
    /// A turn does everything itself
    Solo,
    /// A turn answers soon, and branches and workers do the rest
    Branching,
}

impl From<MindChoice> for AgentMind {
    fn from(choice: MindChoice) -> Self {
        match choice {
            MindChoice::Solo => Self::Solo,
            MindChoice::Branching => Self::Branching,
        }
    }
}
