//! What several parts read of a run: its whole journal, and its last rest.

use dromia_contracts::entry::{Entry, ParkReason, RunParked, RunStarted};
use dromia_contracts::run::RunRecord;
use dromia_contracts::store::{PageRequest, ReadError, Store, StoredEntry};
use dromia_contracts::{Fault, RunId, Scope};
use jiff::Timestamp;

use crate::agents::read_fault;
use crate::refusal::run_not_found;

/// Finds a run that the scope sees.
pub(crate) async fn find_run(store: &dyn Store, scope: &Scope, run: RunId) -> Result<RunRecord, Fault> {
    let found = store.run(scope, run).await.map_err(read_fault)?;
    found.ok_or_else(|| run_not_found(run))
}

/// Reads a whole journal, page by page.
pub(crate) async fn read_journal(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
) -> Result<Vec<StoredEntry>, ReadError> {
    read_entries(store, scope, run, (0, u64::MAX)).await
}

/// Reads the entries of a journal after one, up to the last one that is wanted, page by page.
pub(crate) async fn read_entries(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
    (mut after, last): (u64, u64),
) -> Result<Vec<StoredEntry>, ReadError> {
    let mut all = Vec::new();
    while after < last {
        let limit = usize::try_from(last - after).unwrap_or(usize::MAX).min(PageRequest::<RunId>::LIMIT_MAX);
        let page = store.journal_entries(scope, run, after, limit).await?;
        let full = page.len() == limit;
        after = page.last().map_or(last, |end| end.seq);
        all.extend(page);
        if !full {
            break;
        }
    }
    Ok(all)
}

/// Reads how a run began; `None` where its journal cannot be read.
pub(crate) async fn read_run_start(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
) -> Result<Option<RunStarted>, ReadError> {
    let first = store.journal_entries(scope, run, 0, 1).await?;
    Ok(match first.first().map(StoredEntry::decode) {
        Some(Ok(Entry::RunStarted(started))) => Some(started),
        _ => None,
    })
}

/// Reads when and for what a run rests, if resting is the last thing it did.
pub(crate) async fn parked_at(
    store: &dyn Store,
    scope: &Scope,
    run: &RunRecord,
) -> Result<Option<(Timestamp, ParkReason)>, ReadError> {
    let last = store.journal_entries(scope, run.id, run.last_seq.saturating_sub(1), 1).await?;
    Ok(last.first().and_then(|entry| match entry.decode() {
        Ok(Entry::RunParked(RunParked { park })) => Some((entry.at, park)),
        _ => None,
    }))
}

/// Returns the position of the last input that a run took, as far as these entries of its journal say.
pub(crate) fn inputs_end(started: &RunStarted, journal: &[StoredEntry]) -> u64 {
    let joined = journal.iter().rev().filter(|stored| stored.kind == "inputs_taken");
    let joined = joined.filter_map(|stored| stored.decode().ok()).find_map(|entry| match entry {
        Entry::InputsTaken(taken) => Some(taken.after + taken.items.len() as u64),
        _ => None,
    });
    joined.unwrap_or(started.after + started.items.len() as u64)
}
