//! `dromia doctor --fix`: rebuilds the rows that journals and inboxes determine, in a store that no server has open.
//!
//! It invents nothing: a row that nothing else determines stays as it is, and a run whose journal cannot be read is named.

use dromia_cli::{CommandExit, Error, Outcome};
use dromia_contracts::entry::Entry;
use dromia_contracts::store::StoredEntry;
use dromia_engine::RunState;
use dromia_store::{OpenError, RebuildError, RebuildReport, StoreConfig, rebuild_projections};

use crate::home::{Home, StorePresence};

/// How many runs that stay as they are get a line of their own.
const LINES_MAX: usize = 20;

/// What a fix changed and what it could not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FixReport {
    /// One line for each kind of change.
    pub(super) fixed: Vec<String>,
    /// One line for each run that stays as it is.
    pub(super) left: Vec<String>,
}

/// Rebuilds the projections of a home's store.
pub(super) fn fix_store(home: &Home) -> Outcome<FixReport> {
    if !matches!(home.store_presence(), StorePresence::Store) {
        return Ok(FixReport::default());
    }
    let fold = |journal: &[StoredEntry]| {
        let entries: Result<Vec<Entry>, _> = journal.iter().map(StoredEntry::decode).collect();
        entries.map(|entries| RunState::fold(&entries).run_head()).map_err(|error| error.to_string())
    };
    let rebuilt = rebuild_projections(&StoreConfig::new(home.store_dir()), &fold).map_err(failed_fix)?;
    Ok(fix_report(&rebuilt))
}

fn fix_report(rebuilt: &RebuildReport) -> FixReport {
    let RebuildReport { runs, sessions, items, counts, unread } = rebuilt;
    let mut fixed = vec![format!("rebuilt the rows of runs ({runs}) and heads of sessions ({sessions})")];
    if *items > 0 {
        fixed.push(format!("set which run took an input or a signal, from the journals ({items})"));
    }
    if *counts > 0 {
        fixed.push(format!("set damaged counts of budgets to the limit until their period ends ({counts})"));
    }
    let mut left: Vec<_> = unread
        .iter()
        .take(LINES_MAX)
        .map(|(run, problem)| format!("{run} is unchanged, because its journal cannot be read: {problem}"))
        .collect();
    if unread.len() > LINES_MAX {
        left.push(format!("{} more runs are unchanged", unread.len() - LINES_MAX));
    }
    FixReport { fixed, left }
}

fn failed_fix(error: RebuildError) -> Error {
    match error {
        RebuildError::Open(OpenError::HomeLocked { .. }) => Error::Local {
            exit: CommandExit::Conflict,
            message: "a server has the store open; stop the server, then run `dromia doctor --fix` again"
                .to_owned(),
        },
        error => Error::Local {
            exit: CommandExit::Failed,
            message: format!("the store is unchanged: {}", super::store::error_chain(&error)),
        },
    }
}
