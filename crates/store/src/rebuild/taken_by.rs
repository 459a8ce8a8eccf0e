//! Sets `taken_by` of each item of an inbox to the run that took it: a run's first entry says which items of its session it took,
//! and later entries which other ones, and which signals. Items that a run without a readable journal took, or that lie in its inbox, stay as they are.

use rusqlite::{Connection, params};

use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::store::StoredEntry;

use crate::column_codes::stored_counter;

/// An item that a run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenItem {
    owner: [u8; 16],
    position: u64,
}

impl TakenItem {
    /// The items that a run says it took.
    pub(super) fn of_run(run: RunId, started: &RunStarted, entries: &[StoredEntry]) -> Vec<Self> {
        let owner = *started.session.as_bytes();
        let last = started.after.saturating_add(started.items.len() as u64);
        let inputs = (started.after.saturating_add(1)..=last).map(|position| Self { owner, position });
        let later = entries.iter().flat_map(|stored| match stored.decode() {
            Ok(Entry::SignalTaken(taken)) => {
                vec![Self { owner: *run.as_bytes(), position: taken.position }]
            }
            Ok(Entry::InputsTaken(taken)) => {
                let last = taken.after.saturating_add(taken.items.len() as u64);
                (taken.after.saturating_add(1)..=last).map(|position| Self { owner, position }).collect()
            }
            _ => Vec::new(),
        });
        inputs.chain(later).collect()
    }
}

/// Returns the position of the last signal that entries say they took.
pub(super) fn last_signal(entries: &[StoredEntry]) -> u64 {
    let taken = entries.iter().filter_map(|stored| match stored.decode() {
        Ok(Entry::SignalTaken(taken)) => Some(taken.position),
        _ => None,
    });
    taken.max().unwrap_or(0)
}

/// Makes the two tables that the journals fill.
pub(super) fn create_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "CREATE TEMP TABLE taken (tenant BLOB, owner BLOB, position INTEGER, run BLOB, \
         PRIMARY KEY (tenant, owner, position)) WITHOUT ROWID; \
         CREATE TEMP TABLE unread (tenant BLOB, run BLOB, PRIMARY KEY (tenant, run)) WITHOUT ROWID;",
    )
}

/// Notes what a run took.
pub(super) fn add_items(
    db: &Connection,
    tenant: TenantId,
    run: RunId,
    items: &[TakenItem],
) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO temp.taken VALUES (?1, ?2, ?3, ?4)")?;
    for TakenItem { owner, position } in items {
        put.execute(params![tenant.as_bytes(), owner, stored_counter(*position), run.as_bytes()])?;
    }
    Ok(())
}

/// Leaves the items of a run as they are.
pub(super) fn skip_run(db: &Connection, tenant: TenantId, run: RunId) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO temp.unread VALUES (?1, ?2)")?;
    put.execute(params![tenant.as_bytes(), run.as_bytes()]).map(drop)
}

/// Sets the taker of every item that names another one, and returns how many did.
pub(super) fn repair_takers(db: &Connection) -> rusqlite::Result<u64> {
    let taker = "(SELECT t.run FROM temp.taken t WHERE t.tenant = inbox.tenant AND t.owner = inbox.owner \
                 AND t.position = inbox.position)";
    let repaired = db.execute(
        &format!(
            "UPDATE inbox SET taken_by = {taker} WHERE taken_by IS NOT {taker} AND NOT EXISTS \
             (SELECT 1 FROM temp.unread u WHERE u.tenant = inbox.tenant AND u.run IN (inbox.taken_by, inbox.owner))"
        ),
        [],
    )?;
    db.execute_batch("DROP TABLE temp.taken; DROP TABLE temp.unread;")?;
    Ok(repaired as u64)
}
