//! The newest part of a session.
//!
//! It is read backwards from the last taken item, a run at a time, and ends at the first run that does not fit.
//! What it costs depends on the limits, not on how long the session is; runs that ended are kept in memory, so a
//! turn of a lively session reads its last run only.

use std::sync::Arc;

use rusqlite::{Connection, params};

use dromia_contracts::id::SessionId;
use dromia_contracts::session::{InboxItem, InboxOwner, SessionRecord};
use dromia_contracts::store::{PageRequest, SessionTail, TailLimits};

use super::inbox::{ITEM_COLUMNS, complete_item, read_item};
use super::journal::{BodyReader, CheckedJournal};
use super::recent::TailGroup;
use super::session::by_id;
use super::{Found, ScopeView, row_limit};
use crate::column_codes::stored_counter;
use crate::reader::{ReadContext, ReadFailure};

pub(crate) fn read_tail(
    reading: &mut ReadContext,
    view: ScopeView,
    session: SessionId,
    limits: TailLimits,
) -> Found<Option<SessionTail>> {
    let ReadContext { db, keys, files, recent } = reading;
    // Before the first row is read: an erasure that the snapshot does not see is seen here afterwards.
    let erasures = recent.erasure_count();
    let Some(session) = by_id(db, view, session)? else { return Ok(None) };
    let Some(key) = keys.get(db, view.tenant)? else { return Ok(None) };
    let bodies = BodyReader { db, files, tenant: view.tenant, key: &key };

    let mut left = limits;
    let mut groups = Vec::new();
    let mut upto = limits.until.map_or(session.head.taken, |until| until.min(session.head.taken));
    while upto > limits.after {
        let place = (view.tenant, session.id, upto);
        let group = if let Some(group) = recent.get(&place) {
            group
        } else {
            let Some((group, ended)) = read_group(&bodies, &session, upto, left)? else { break };
            let group = Arc::new(group);
            if ended {
                recent.put_group(place, &group, erasures);
            }
            group
        };
        if group.items.len() > left.items || group.bytes > left.bytes {
            break;
        }
        left.items -= group.items.len();
        left.bytes -= group.bytes;
        upto -= group.items.len() as u64;
        groups.push(group);
    }
    let (mut items, mut runs) = (Vec::new(), Vec::new());
    for group in groups.into_iter().rev() {
        runs.push((group.run, Arc::clone(&group.entries)));
        items.extend(group.items.iter().cloned());
    }
    if limits.until.is_none() {
        items.extend(waiting_items(db, &bodies, &session)?);
    }
    Ok(Some(SessionTail { session, items, runs }))
}

/// Reads the items up to a position that one run took, and its journal, and returns whether that run has ended.
/// `None` if they do not fit.
fn read_group(
    bodies: &BodyReader<'_>,
    session: &SessionRecord,
    upto: u64,
    left: TailLimits,
) -> Found<Option<(TailGroup, bool)>> {
    let owner = InboxOwner::Session(session.id);
    let mut select = bodies.db.prepare_cached(&format!(
        "SELECT {ITEM_COLUMNS} FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position <= ?3 \
         ORDER BY position DESC"
    ))?;
    let mut found =
        select.query(params![bodies.tenant.as_bytes(), session.id.as_bytes(), stored_counter(upto)])?;
    let mut items: Vec<InboxItem> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.next()? {
        let row = read_item(row)?;
        if items.last().is_some_and(|item| item.taken_by != row.item.taken_by) {
            break;
        }
        let item = complete_item(bodies, owner, row)?;
        let expected = upto - items.len() as u64;
        if item.position != expected {
            return Err(ReadFailure::damaged_row(
                session.id,
                format!("item {expected} of its inbox is missing"),
            ));
        }
        bytes += item.body.as_ref().map_or(0, bytes::Bytes::len);
        items.push(item);
        if items.len() > left.items || bytes > left.bytes {
            return Ok(None);
        }
    }
    drop(found);
    items.reverse();
    let Some(first) = items.first() else {
        return Err(ReadFailure::damaged_row(session.id, format!("item {upto} of its inbox is missing")));
    };
    let Some(run) = first.taken_by else {
        return Err(ReadFailure::damaged_row(
            session.id,
            format!("item {upto} of its inbox was taken by no run"),
        ));
    };
    let Some(row) = super::run::read_run_row(bodies.db, bodies.tenant, run)? else {
        return Err(ReadFailure::damaged_row(session.id, format!("{run}, which took its items, is missing")));
    };
    let entries = CheckedJournal::starting_after(*bodies, &row, 0)?.read_entries(i64::MAX, |entry| {
        bytes += entry.body.as_ref().map_or(0, bytes::Bytes::len);
        bytes <= left.bytes
    })?;
    if bytes > left.bytes {
        return Ok(None);
    }
    Ok(Some((TailGroup { run, items, entries: entries.into(), bytes }, row.run.head.status.is_terminal())))
}

fn waiting_items(db: &Connection, bodies: &BodyReader<'_>, session: &SessionRecord) -> Found<Vec<InboxItem>> {
    if session.head.last == session.head.taken {
        return Ok(Vec::new());
    }
    let mut select = db.prepare_cached(&format!(
        "SELECT {ITEM_COLUMNS} FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position > ?3 \
         ORDER BY position LIMIT ?4"
    ))?;
    let limit = row_limit(PageRequest::<()>::LIMIT_MAX);
    let found = select.query_map(
        params![bodies.tenant.as_bytes(), session.id.as_bytes(), stored_counter(session.head.taken), limit],
        read_item,
    )?;
    let mut items = Vec::new();
    for row in found {
        items.push(complete_item(bodies, InboxOwner::Session(session.id), row?)?);
    }
    Ok(items)
}
