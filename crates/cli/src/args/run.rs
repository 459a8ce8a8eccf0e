//! `dromia run` and `dromia cost`: runs, their states and what they cost.

use clap::{Args, Subcommand};
use dromia_api::cost::CostBy;
use dromia_api::{RunId, RunStatus, SessionId};

use super::value::{parse_cost_grouping, parse_run_status};
use super::{IdReference, PageArguments};

/// What to do with runs.
#[derive(Debug, Clone, Subcommand)]
pub enum RunCommand {
    /// List runs, newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia run list --status running\n  dromia runs ls --agent ops --limit 10"
    )]
    List(ListRuns),
    /// Show a run and its steps, or the request that a model got
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia run show\n  dromia run show 3f9a1c72\n  dromia run show @last~1 --step 1 --request > request.json"
    )]
    Show(ShowRun),
    /// Follow a run until it ends, and print its answer
    #[command(
        after_help = "Examples:\n  dromia run watch\n  dromia run watch 3f9a1c72 --exit-status && echo answered"
    )]
    Watch(WatchRun),
    /// Explain why a run is in its state and what continues it
    #[command(after_help = "Examples:\n  dromia run why\n  dromia run why 3f9a1c72")]
    Why(NewestRunName),
    /// Show the tasks that a run spawned, as a tree with costs
    #[command(after_help = "Examples:\n  dromia run tree\n  dromia run tree 3f9a1c72 -o json")]
    Tree(RunTreeName),
    /// Continue a yielded run, or release a held one
    #[command(after_help = "Examples:\n  dromia run resume 3f9a1c72")]
    Resume(RunName),
    /// End a run after its current tool call
    #[command(after_help = "Examples:\n  dromia run cancel 3f9a1c72\n  dromia run cancel 3f9a1c72 --tree")]
    Cancel(EndRun),
    /// End a run now and stop its current tool call
    #[command(
        visible_alias = "kill",
        after_help = "Examples:\n  dromia run terminate 3f9a1c72\n  dromia run terminate 3f9a1c72 --yes"
    )]
    Terminate(EndRun),
    /// Print a run's journal as JSON
    #[command(after_help = "Examples:\n  dromia run export 3f9a1c72 --jsonl > run.jsonl")]
    Export(ExportRun),
}

/// Which runs to list.
#[derive(Debug, Clone, Args)]
pub struct ListRuns {
    /// Only runs of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<IdReference<SessionId>>,
    /// Only runs with this status
    #[arg(long, value_name = "STATUS", value_parser = parse_run_status)]
    pub status: Option<RunStatus>,
    /// Which page
    #[command(flatten)]
    pub page: PageArguments,
}

/// A run, by id.
#[derive(Debug, Clone, Args)]
pub struct RunName {
    /// Its id, the first or last digits of it, or @last
    #[arg(value_name = "ID")]
    pub id: IdReference<RunId>,
}

/// A run to end.
#[derive(Debug, Clone, Args)]
pub struct EndRun {
    /// Its id, the first or last digits of it, or @last
    #[arg(value_name = "ID")]
    pub id: IdReference<RunId>,
    /// Also end the tasks below it, which go on otherwise
    #[arg(long)]
    pub tree: bool,
}

/// A run, by id, or the newest.
#[derive(Debug, Clone, Args)]
pub struct NewestRunName {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<RunId>>,
}

/// A run of a tree, by id, or the newest tree.
#[derive(Debug, Clone, Args)]
pub struct RunTreeName {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest with tasks]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<RunId>>,
}

/// A run to show.
#[derive(Debug, Clone, Args)]
pub struct ShowRun {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<RunId>>,
    /// Print the request of this model step
    #[arg(long, value_name = "N", requires = "request", value_parser = clap::value_parser!(u32).range(1..))]
    pub step: Option<u32>,
    /// Print only the step's request, exactly as the model got it
    #[arg(long, requires = "step", conflicts_with_all = ["json", "jsonl", "output"])]
    pub request: bool,
    /// Print this attempt at the step [default: the last]
    #[arg(long, value_name = "N", requires = "request", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

/// A run to follow.
#[derive(Debug, Clone, Args)]
pub struct WatchRun {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<RunId>>,
    /// Begin after this entry
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: u64,
    /// Print each entry as one line of JSON when it arrives
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,
    /// Exit with 7 unless the run completes
    #[arg(long)]
    pub exit_status: bool,
}

/// A run to print.
#[derive(Debug, Clone, Args)]
pub struct ExportRun {
    /// Its id, the first or last digits of it, or @last~1 [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<IdReference<RunId>>,
    /// Print one entry per line instead of one document
    #[arg(long)]
    pub jsonl: bool,
}

/// What to ask about cost.
#[derive(Debug, Clone, Subcommand)]
pub enum CostCommand {
    /// Add up what runs cost
    #[command(
        after_help = "Examples:\n  dromia cost summary --since 24h\n  dromia cost summary --by model --agent ops\n  dromia cost summary --by actor --since 7d\n  dromia cost summary --by day --since 2026-01-01T00:00:00Z --json"
    )]
    Summary(CostSummary),
    /// Show what one run cost, attempt by attempt
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia cost show 3f9a1c72")]
    Show(RunName),
}

/// Which runs to sum up.
#[derive(Debug, Clone, Args)]
pub struct CostSummary {
    /// Only runs that began in the last 90m, 24h or 7d, or since a time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Group by agent, model, day, actor (whose input began the run) or tenant (all of them, for the operator)
    #[arg(long, value_name = "WHAT", default_value = "agent", value_parser = parse_cost_grouping)]
    pub by: CostBy,
}
