//! `dromia migrate state`: says what opening the store would change, or changes it now.

use std::process::ExitCode;

use dromia_cli::output::draw_pairs;
use dromia_cli::{CommandContext, CommandOutput, GlobalOptions};
use dromia_store::{SqliteStore, StoreConfig};
use schemars::JsonSchema;
use serde::Serialize;

use crate::home::{Home, StorePresence};
use crate::home_services;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dromia migrate state --dry-run")]
pub(crate) struct MigrateArguments {
    #[command(subcommand)]
    what: MigrateTarget,
}

#[derive(Debug, clap::Subcommand)]
enum MigrateTarget {
    /// Migrate the store to this program's schema, after a backup.
    #[command(after_help = "Examples:\n  dromia migrate state --dry-run\n  dromia migrate state --json")]
    State {
        /// Only print what would happen.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What happens to the store, or has happened.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StateMigrationPlan {
    /// The schema that was found; 0 where there is no store yet.
    found: u32,
    /// The schema that this program writes.
    known: u32,
    /// The steps from one to the other.
    steps: Vec<&'static str>,
    /// The copy that is written first, if there is data and a step.
    backup: Option<String>,
    /// Whether the steps were done.
    done: bool,
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    arguments: &MigrateArguments,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let MigrateTarget::State { dry_run } = arguments.what;
    if let StorePresence::Remains { .. } = home.store_presence() {
        // A schema for a store that is lost would be an empty store in its place.
        home.check_store()?;
    }
    let config = StoreConfig::new(home.store_dir());
    let plan =
        SqliteStore::plan_migration(&config).map_err(|error| home_services::open_error(home, error))?;
    let mut plan = StateMigrationPlan {
        found: plan.found,
        known: plan.known,
        steps: plan.steps,
        backup: plan.backup.map(|backup| backup.display().to_string()),
        done: false,
    };
    if !dry_run && !plan.steps.is_empty() {
        drop(SqliteStore::open(config).map_err(|error| home_services::open_error(home, error))?);
        plan.done = true;
    }
    output.print_result(&plan, plan_text)?;
    Ok(ExitCode::SUCCESS)
}

fn plan_text(plan: &StateMigrationPlan) -> String {
    let mut text = format!("schema {} found, this program needs {}", plan.found, plan.known);
    if plan.steps.is_empty() {
        return text + "\nnothing to do";
    }
    let more = draw_pairs(&[
        ("steps", plan.steps.join(", ")),
        ("backup first", plan.backup.clone().unwrap_or_default()),
        ("done", if plan.done { "yes".to_owned() } else { String::new() }),
    ]);
    text.extend(["\n", &more]);
    text
}
