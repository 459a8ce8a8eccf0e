//! Finds the runs that a seal names and of which no entry is left, although neither their agent nor their session was erased.
//!
//! Without this a rebuild would take such a run for one that never was, and give its inputs to another run.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, params};

use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::id::{RunId, SessionId, TenantId};

use crate::column_codes;
use crate::seal::{ACT, JournalSpan, SPANS, SpanOwner};

/// Names the runs of every tenant whose journal is gone.
pub(super) fn lost_journals(db: &Connection) -> rusqlite::Result<Vec<(TenantId, RunId)>> {
    let mut owners: BTreeMap<(TenantId, RunId), Option<SpanOwner>> = BTreeMap::new();
    let mut seals = db.prepare("SELECT tenant, record FROM audit WHERE kind = ?1")?;
    let mut rows = seals.query([SPANS])?;
    let mut is_there = db.prepare("SELECT 1 FROM entries WHERE tenant = ?1 AND run = ?2 LIMIT 1")?;
    let mut there = HashSet::new();
    while let Some(row) = rows.next()? {
        let tenant = TenantId::from_bytes(column_codes::read_bytes(row, 0)?);
        let record: Vec<u8> = row.get(1)?;
        for span in JournalSpan::read_all(&record).unwrap_or_default() {
            let run = RunId::from_bytes(span.run);
            if there.contains(&(tenant, run)) {
                continue;
            }
            if is_there.exists(params![tenant.as_bytes(), run.as_bytes()])? {
                there.insert((tenant, run));
                continue;
            }
            let known = owners.entry((tenant, run)).or_default();
            *known = known.or(span.owner);
        }
    }
    let mut is_kept = db.prepare("SELECT 1 FROM agents WHERE tenant = ?1 AND agent = ?2 AND state <> 3")?;
    let erased = erased_sessions(db)?;
    let mut lost = Vec::new();
    for ((tenant, run), owner) in owners {
        let Some(SpanOwner { agent, session }) = owner else { continue };
        let is_erased = erased.contains(&(tenant, SessionId::from_bytes(session)));
        if !is_erased && is_kept.exists(params![tenant.as_bytes(), agent])? {
            lost.push((tenant, run));
        }
    }
    Ok(lost)
}

/// Lists the sessions of every tenant that a record says were erased.
fn erased_sessions(db: &Connection) -> rusqlite::Result<HashSet<(TenantId, SessionId)>> {
    let mut acts = db.prepare("SELECT tenant, record FROM audit WHERE kind = ?1")?;
    let mut rows = acts.query([ACT])?;
    let mut erased = HashSet::new();
    while let Some(row) = rows.next()? {
        let (tenant, record): (_, Vec<u8>) = (column_codes::read_bytes(row, 0)?, row.get(1)?);
        let act = serde_json::from_slice::<AuditAct>(&record);
        if let Ok(AuditAct { change: AuditChange::SessionErased { session, .. }, .. }) = act {
            erased.insert((TenantId::from_bytes(tenant), session));
        }
    }
    Ok(erased)
}
