//! `dromia backup`: one file with everything of a home, taken while its server runs or not; its check; a home made of it.
//!
//! What holds of a backup: its database is of one moment (`T`), with every commit that was acknowledged before `T`; every
//! body that a row of it names is in it; the checkpoints are those that the database knows. Configuration, keys and
//! workspaces are copied after `T`, each as it is found. An agent whose erasure ended, or began, before the copy looked at
//! the store for the last time is not in it: the copy then starts again. What is erased or revoked later comes back with
//! a restore. A backup opens every secret of the home, so it is written readable by its owner only.
//!
//! No command here changes a home that is there: `restore` makes a new one, and moves the other aside if asked to.

mod archive;
mod check;
mod create;
mod extract;
mod paced_file;
mod place;
mod progress;
mod restore;
mod sources;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use dromia_cli::{CommandContext, CommandExit, CommandOutput, GlobalOptions};

use self::progress::{CopyWatch, run_stoppable};
use crate::home::Home;

pub(crate) use self::check::BackupReport;
pub(crate) use self::create::BackupResult;
pub(crate) use self::restore::RestoreResult;

/// What to do with backups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BackupCommand {
    /// Write everything of the home to one file, also while a server runs
    #[command(
        after_help = "The file contains the store, the configuration, the keys, the secrets and the agents' files. It is as secret as the home, and only its owner can read it.\n\nExamples:\n  dromia backup create /backups\n  dromia backup create before-upgrade.tar\n  dromia backup create /backups --without-workspaces"
    )]
    Create(CreateBackup),
    /// Check a backup: every digest, the store in it, and its audit log
    #[command(
        after_help = "Unpacks the store beside the file, or in the directory for temporary files, and removes it again. Exits with 1 if something is missing or damaged.\n\nExamples:\n  dromia backup verify /backups/dromia-20260314T090000Z.tar\n  dromia backup verify before-upgrade.tar --json=ok,findings"
    )]
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Make a home from a backup
    #[command(
        after_help = "Name the new home with --home. The command checks the backup as `dromia backup verify` does, and creates the home only if all of it is sound.\n\nExamples:\n  dromia backup restore before-upgrade.tar --home ~/.dromia\n  dromia backup restore before-upgrade.tar --home ~/.dromia --replace"
    )]
    Restore(RestoreBackup),
}

/// Where to, and what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CreateBackup {
    /// The file to write, or the directory for a file named by the time [default: this directory]
    #[arg(value_name = "FILE|DIR")]
    to: Option<PathBuf>,
    /// Leave out the files of agents
    #[arg(long)]
    without_workspaces: bool,
}

/// From where, and what may be in the way.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RestoreBackup {
    /// The backup
    file: PathBuf,
    /// Move a home that is there aside, and keep it
    #[arg(long)]
    replace: bool,
    /// Replace the home also if the backup is of another one
    #[arg(long, requires = "replace")]
    other_home: bool,
    /// Restore also a store that the check finds damaged
    #[arg(long)]
    damaged: bool,
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &BackupCommand,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let watch = CopyWatch::new(context.err_is_terminal);
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let home = home.clone();
    match command {
        BackupCommand::Create(asked) => {
            let asked = (asked.to.clone(), !asked.without_workspaces);
            let made = run_stoppable(watch, move |watch| {
                create::create_backup(&home, asked.0.as_deref(), asked.1, watch)
            })?;
            let Some(made) = made else { return report_stop("no file was written", &mut output) };
            let text = output.add_global_flags(&made.result_text()).into_owned();
            output.print_result(&made, |_| text)?;
        }
        BackupCommand::Verify { file } => {
            let file = file.clone();
            let checked = run_stoppable(watch, move |watch| check::verify_backup(&file, watch))?;
            let Some(checked) = checked else { return report_stop("nothing was changed", &mut output) };
            output.print_result(&checked, BackupReport::report_text)?;
            if !checked.is_sound() {
                return Ok(CommandExit::Failed.into());
            }
        }
        BackupCommand::Restore(asked) => {
            let asked = asked.clone();
            let made = run_stoppable(watch, move |watch| restore::restore_backup(&home, &asked, watch))?;
            let Some(made) = made else { return report_stop("no home was made", &mut output) };
            output.print_result(&made, RestoreResult::result_text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that a signal ended the command, and what is left of it.
fn report_stop(left: &str, output: &mut CommandOutput<'_>) -> anyhow::Result<ExitCode> {
    output.print_notice(&format!("stopped: {left}"))?;
    Ok(CommandExit::Interrupted.into())
}
