//! Checkpoints of runs, each compared with its digest and with the journal that it is folded from.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::store::{FoldedState, RunCheckpoint};

use super::journal::chain_at;
use super::run::{find_stored_run, read_run_row};
use super::{Found, ScopeView};
use crate::chain;
use crate::column_codes;
use crate::reader::ReadFailure;
use crate::row::StoredRun;

/// Finds the checkpoint of a run that the caller sees.
pub(crate) fn of_run(db: &Connection, view: ScopeView, run: RunId) -> Found<Option<RunCheckpoint>> {
    match find_stored_run(db, view, run)? {
        Some(row) => read_checkpoint(db, view.tenant, &row),
        None => Ok(None),
    }
}

/// Reads the checkpoint of a run, and says that it is damaged if its digest, or its place in the journal, is another.
fn read_checkpoint(db: &Connection, tenant: TenantId, row: &StoredRun) -> Found<Option<RunCheckpoint>> {
    let run = row.run.id;
    let found = db
        .prepare_cached(
            "SELECT seq, version, state, digest FROM run_checkpoints WHERE tenant = ?1 AND run = ?2",
        )?
        .query_row(params![tenant.as_bytes(), run.as_bytes()], |row| {
            let folded = FoldedState { version: row.get(1)?, bytes: row.get::<_, Vec<u8>>(2)?.into() };
            let checkpoint = RunCheckpoint { seq: column_codes::read_counter(row, 0)?, folded };
            Ok((checkpoint, column_codes::read_bytes::<32>(row, 3)?))
        })
        .optional()?;
    let Some((checkpoint, digest)) = found else { return Ok(None) };
    let damaged =
        |problem: String| Err(ReadFailure::damaged_row(format!("the checkpoint of {run}"), problem));
    let RunCheckpoint { seq, folded } = &checkpoint;
    if *seq > row.run.last_seq {
        return damaged(format!("it is behind entry {seq}, and the journal ends at {}", row.run.last_seq));
    }
    let Some(chain) = chain_at(db, tenant, run, *seq)? else {
        return damaged(format!("it is behind entry {seq}, which is missing"));
    };
    if chain::checkpoint_digest(&chain, folded.version, &folded.bytes) != digest {
        return damaged("it does not match its digest".to_owned());
    }
    Ok(Some(checkpoint))
}

/// Reads the checkpoint of a run whose owner may be at work, and says what is wrong with it.
pub(crate) fn recheck_checkpoint(db: &Connection, tenant: TenantId, run: RunId) -> Found<()> {
    let check = || match read_run_row(db, tenant, run)? {
        Some(row) => read_checkpoint(db, tenant, &row).map(drop),
        None => Ok(()),
    };
    // The run may go on between two reads: a second look finds them together.
    check().or_else(|_| check())
}
