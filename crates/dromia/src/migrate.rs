//! `dromia migrate state`: says what opening the store would change, or changes it now.

use std::process::ExitCode;

use dromia_store::{SqliteStore, StoreConfig};

use crate::home::Home;
use crate::up;

#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Bring the store to this program's schema; a backup is written first.
    #[command(after_help = "Example:\n  dromia migrate state --dry-run")]
    State {
        /// Only say what would happen.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub(crate) fn run(home: &Home, arguments: &MigrateArguments) -> anyhow::Result<ExitCode> {
    let What::State { dry_run } = arguments.what;
    let config = StoreConfig::new(home.store());
    let plan = SqliteStore::plan(&config).map_err(|error| up::opened(home, error))?;
    anstream::println!("schema {} found, {} known", plan.found, plan.known);
    if plan.steps.is_empty() {
        anstream::println!("nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    for step in &plan.steps {
        anstream::println!("step: {step}");
    }
    if let Some(backup) = &plan.backup {
        anstream::println!("backup first: {}", backup.display());
    }
    if !dry_run {
        drop(SqliteStore::open(config).map_err(|error| up::opened(home, error))?);
        anstream::println!("done");
    }
    Ok(ExitCode::SUCCESS)
}
