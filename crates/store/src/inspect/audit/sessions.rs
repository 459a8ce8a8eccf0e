//! Sessions that were erased one by one, each with the seal that stays of it, and holds.
//!
//! A seal must say what the seals of the session's runs say: those stay, and name every journal that it had. A session that was on
//! hold may not have been erased, and a hold has the row that the newest act about it says.

use std::collections::{BTreeMap, HashMap};

use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::id::SessionId;

use super::AuditProblem;
use super::seals::ChainWalk;
use crate::column_codes;
use crate::open_error::OpenError;
use crate::seal::JournalSpan;
use crate::session_tree::HeadsHasher;

/// Returns whether a record says that a session was erased.
pub(super) fn is_session_erased(walk: &mut ChainWalk<'_>, session: &[u8; 16]) -> rusqlite::Result<bool> {
    if !walk.erased_sessions.contains_key(session) {
        // It may have been erased since we began.
        walk.learn_erased()?;
    }
    Ok(walk.erased_sessions.contains_key(session))
}

/// Compares the seals of erased sessions with the seals of their runs: those name every journal that a session had.
pub(super) fn check_session_seals(walk: &mut ChainWalk<'_>) {
    let mut heads: HashMap<[u8; 16], Vec<JournalSpan>> = HashMap::new();
    for covered in walk.covered.values() {
        if let (Some(owner), Some(last)) = (covered.owner, covered.last)
            && walk.erased_sessions.contains_key(&owner.session)
        {
            heads.entry(owner.session).or_default().push(last);
        }
    }
    let mut differing = Vec::new();
    for (session, (number, seal)) in &walk.erased_sessions {
        // One that was sealed after the last seal that was read may have runs that were not.
        if *number > walk.number {
            continue;
        }
        let mut runs = heads.remove(session).unwrap_or_default();
        runs.sort_unstable_by_key(|span| span.run);
        let mut hasher = HeadsHasher::default();
        for span in &runs {
            hasher.add_run(span);
        }
        let entries: u64 = runs.iter().map(|span| span.to).sum();
        if (runs.len() as u64, entries, hasher.digest()) != (seal.runs, seal.entries, seal.heads) {
            let detail = format!("its journals had {} runs with {entries} entries", runs.len());
            differing.push((*number, *session, detail));
        }
    }
    differing.sort_unstable();
    for (number, session, detail) in differing {
        let row = format!("seal of the erased {}", SessionId::from_bytes(session));
        walk.found_row(AuditProblem::RowChanged, row, Some(number), Some(detail));
    }
}

/// Compares the holds of sessions with the acts that set and ended them.
pub(super) fn check_holds(walk: &mut ChainWalk<'_>) -> Result<(), OpenError> {
    let db = walk.db;
    let snapshot = db.unchecked_transaction()?;
    walk.learn_erased()?;
    let mut held: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let mut erased = Vec::new();
    let mut select = db.prepare_cached(
        "SELECT number, record FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1 ORDER BY number",
    )?;
    let mut acts = select.query([walk.tenant.as_bytes()])?;
    while let Some(row) = acts.next()? {
        let (number, record): (u64, Vec<u8>) = (column_codes::read_counter(row, 0)?, row.get(1)?);
        match serde_json::from_slice::<AuditAct>(&record).map(|act| act.change) {
            Ok(AuditChange::SessionHoldSet { session, held: true, .. }) => {
                held.insert(*session.as_bytes(), number);
            }
            Ok(AuditChange::SessionHoldSet { session, .. }) => drop(held.remove(session.as_bytes())),
            Ok(AuditChange::SessionErased { session, .. }) => {
                erased.extend(held.remove(session.as_bytes()).map(|since| (session, since, number)));
            }
            Ok(_) | Err(_) => {}
        }
    }
    drop(acts);
    for (session, since, number) in erased {
        let detail = Some(format!("it was erased, though it was on hold since act:{since}"));
        walk.found_row(AuditProblem::RowRemoved, session.to_string(), Some(number), detail);
    }
    let mut select =
        db.prepare_cached("SELECT session FROM session_holds WHERE tenant = ?1 ORDER BY session")?;
    let rows = select.query_map([walk.tenant.as_bytes()], |row| column_codes::read_bytes(row, 0))?;
    for session in rows {
        let session: [u8; 16] = session?;
        walk.checked.rows += 1;
        if held.remove(&session).is_none() {
            let row = format!("hold of {}", SessionId::from_bytes(session));
            walk.found_row(AuditProblem::RowUnrecorded, row, None, None);
        }
    }
    for (session, number) in held {
        let row = format!("hold of {}", SessionId::from_bytes(session));
        walk.found_row(AuditProblem::RowRemoved, row, Some(number), None);
    }
    Ok(snapshot.finish()?)
}
