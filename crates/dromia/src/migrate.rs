//! `dromia migrate state`: says what opening the store would change, or changes it now.

use std::process::ExitCode;

use dromia_cli::output::pairs;
use dromia_cli::{Context, Global, Output};
use dromia_store::{SqliteStore, StoreConfig};
use schemars::JsonSchema;
use serde::Serialize;

use crate::home::{Home, Kept};
use crate::up;

#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Bring the store to this program's schema; a backup is written first.
    #[command(after_help = "Examples:\n  dromia migrate state --dry-run\n  dromia migrate state --json")]
    State {
        /// Only say what would happen.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What happens to the store, or has happened.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Plan {
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
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let mut output = Output::of_local(context, global);
    output.check()?;
    let What::State { dry_run } = arguments.what;
    if let Kept::Remains { .. } = home.kept() {
        // A schema for a store that is lost would be an empty store in its place.
        home.check_store()?;
    }
    let config = StoreConfig::new(home.store());
    let plan = SqliteStore::plan(&config).map_err(|error| up::opened(home, error))?;
    let mut plan = Plan {
        found: plan.found,
        known: plan.known,
        steps: plan.steps,
        backup: plan.backup.map(|backup| backup.display().to_string()),
        done: false,
    };
    if !dry_run && !plan.steps.is_empty() {
        drop(SqliteStore::open(config).map_err(|error| up::opened(home, error))?);
        plan.done = true;
    }
    output.show(&plan, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(plan: &Plan) -> String {
    let mut text = format!("schema {} found, {} known", plan.found, plan.known);
    if plan.steps.is_empty() {
        return text + "\nnothing to do";
    }
    let more = pairs(&[
        ("steps", plan.steps.join(", ")),
        ("backup first", plan.backup.clone().unwrap_or_default()),
        ("done", if plan.done { "yes".to_owned() } else { String::new() }),
    ]);
    text.extend(["\n", &more]);
    text
}
