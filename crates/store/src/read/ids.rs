//! Ids by a part of them.
//!
//! What an id begins with is a range of its index. What it ends with is in no order, so the narrowest index that holds every
//! id of the tenant is walked once; no other row is read but those of ids that fit.

use rusqlite::{Connection, ToSql, params};

use dromia_contracts::id::{AgentId, RunId, SessionId};
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::store::PageRequest;

use super::{Found, ScopeView};
use crate::column_codes;

/// Where the ids of a noun lie: the table with its index for a walk, the index for a range, and the column.
struct IdPlace {
    walked: &'static str,
    ranged: &'static str,
    column: &'static str,
}

fn place_of(kind: IdKind) -> IdPlace {
    let (walked, ranged, column) = match kind {
        IdKind::Run => ("runs INDEXED BY runs_agent", "runs", "run"),
        IdKind::Session => ("session_heads", "session_heads", "session"),
        IdKind::Approval => ("approvals INDEXED BY approvals_agent", "approvals", "approval"),
        IdKind::Delivery => ("deliveries INDEXED BY deliveries_id", "deliveries", "delivery"),
        IdKind::Capability => ("capabilities INDEXED BY capabilities_holder", "capabilities", "capability"),
        IdKind::Token => ("tokens INDEXED BY tokens_id", "tokens", "token"),
    };
    IdPlace { walked, ranged, column }
}

/// Finds ids that begin or end with some digits and that the view sees, the newest first.
pub(crate) fn find_ids(
    db: &Connection,
    view: ScopeView,
    kind: IdKind,
    fragment: IdFragment,
    limit: usize,
) -> Found<Vec<[u8; 16]>> {
    if view.only.is_some() && kind == IdKind::Token {
        return Ok(Vec::new());
    }
    let limit = limit.min(PageRequest::<()>::LIMIT_MAX);
    let IdPlace { walked, ranged, column } = place_of(kind);
    let (first, last) = fragment.prefix_range();
    let tenant = view.tenant.as_bytes();
    let ranged = format!(
        "SELECT {column} FROM {ranged} WHERE tenant = ?1 AND {column} BETWEEN ?2 AND ?3 ORDER BY {column} DESC"
    );
    let mut found = take_visible(db, view, kind, &ranged, params![tenant, first, last], limit, |_| true)?;
    // Whole bytes are compared where the rows are; the half of one that may be left, here.
    let end = fragment.last_bytes();
    let walked = format!(
        "SELECT {column} FROM {walked} WHERE tenant = ?1 AND substr({column}, ?2) = ?3 ORDER BY {column} DESC"
    );
    let from = 17 - i64::try_from(end.len()).unwrap_or(16);
    let ends = |id: &[u8; 16]| fragment.ends_id(id);
    found.extend(take_visible(db, view, kind, &walked, params![tenant, from, end], limit, ends)?);
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    found.truncate(limit);
    Ok(found)
}

/// Takes the first ids of a select that fit and that the view sees.
fn take_visible(
    db: &Connection,
    view: ScopeView,
    kind: IdKind,
    select: &str,
    values: &[&dyn ToSql],
    limit: usize,
    fits: impl Fn(&[u8; 16]) -> bool,
) -> Found<Vec<[u8; 16]>> {
    let mut select = db.prepare_cached(select)?;
    let mut rows = select.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id = column_codes::read_bytes(row, 0)?;
        if found.len() >= limit {
            break;
        }
        if fits(&id) && is_visible(db, view, kind, id)? {
            found.push(id);
        }
    }
    Ok(found)
}

/// Returns whether a view finds what has an id, by the rule of its noun.
fn is_visible(db: &Connection, view: ScopeView, kind: IdKind, id: [u8; 16]) -> Found<bool> {
    Ok(match kind {
        IdKind::Run => super::run::by_id(db, view, RunId::from_bytes(id))?.is_some(),
        IdKind::Session => super::session::by_id(db, view, SessionId::from_bytes(id))?.is_some(),
        IdKind::Approval => {
            finds_owner(db, view, "SELECT agent FROM approvals WHERE tenant = ?1 AND approval = ?2", id)?
        }
        IdKind::Delivery => {
            finds_owner(db, view, "SELECT agent FROM deliveries WHERE tenant = ?1 AND delivery = ?2", id)?
        }
        IdKind::Capability => finds_owner(
            db,
            view,
            "SELECT holder FROM capabilities WHERE tenant = ?1 AND capability = ?2",
            id,
        )?,
        IdKind::Token => true,
    })
}

/// Returns whether a view finds the agent that a row belongs to.
fn finds_owner(db: &Connection, view: ScopeView, select: &str, id: [u8; 16]) -> Found<bool> {
    let owner = db
        .prepare_cached(select)?
        .query_row(params![view.tenant.as_bytes(), id], |row| column_codes::read_bytes(row, 0))?;
    view.finds_agent(db, AgentId::from_bytes(owner))
}
