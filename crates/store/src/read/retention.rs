//! Sessions that may be erased, those that were, and holds.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::id::{SessionId, TenantId};
use dromia_contracts::retention::{IdlePage, IdleSession, SessionHold};
use dromia_contracts::scope::Actor;
use dromia_contracts::store::PageRequest;

use super::{FIRST, Found, LAST, ScopeView, page_limit};
use crate::column_codes;
use crate::session_tree;

/// Lists sessions that a commit erased and whose rows are not all gone.
pub(crate) fn list_erasing(db: &Connection) -> Found<Vec<(TenantId, SessionId)>> {
    let mut select = db.prepare_cached(
        "SELECT tenant, session FROM hidden_sessions INDEXED BY hidden_erased WHERE erased_agent IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.tenant = hidden_sessions.tenant \
         AND a.agent = hidden_sessions.erased_agent AND a.state = 3) ORDER BY tenant, session LIMIT ?1",
    )?;
    let limit = page_limit(&PageRequest::<()>::first_page(PageRequest::<()>::LIMIT_MAX));
    let rows = select.query_map([limit], |row| {
        let tenant = TenantId::from_bytes(column_codes::read_bytes(row, 0)?);
        Ok((tenant, SessionId::from_bytes(column_codes::read_bytes(row, 1)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Finds the hold of a session.
pub(crate) fn find_hold(db: &Connection, view: ScopeView, session: SessionId) -> Found<Option<SessionHold>> {
    if super::session::by_id(db, view, session)?.is_none() {
        return Ok(None);
    }
    let mut select =
        db.prepare_cached("SELECT author, at FROM session_holds WHERE tenant = ?1 AND session = ?2")?;
    let found = select.query_row(params![view.tenant.as_bytes(), session.as_bytes()], |row| {
        Ok(SessionHold { by: Actor::new(row.get_ref(0)?.as_str()?), since: column_codes::read_time(row, 1)? })
    });
    Ok(found.optional()?)
}

/// Lists the sessions on hold.
pub(crate) fn list_held(
    db: &Connection,
    view: ScopeView,
    page: PageRequest<SessionId>,
) -> Found<Vec<(SessionId, SessionHold)>> {
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(
        "SELECT session, author, at FROM session_holds WHERE tenant = ?1 AND session < ?2 \
         AND (?4 IS NULL OR agent = ?4) ORDER BY session DESC LIMIT ?3",
    )?;
    let only = view.only.as_ref().map(dromia_contracts::id::AgentId::as_bytes);
    let rows = select.query_map(params![view.tenant.as_bytes(), before, page_limit(&page), only], |row| {
        let since = column_codes::read_time(row, 2)?;
        let hold = SessionHold { by: Actor::new(row.get_ref(1)?.as_str()?), since };
        Ok((SessionId::from_bytes(column_codes::read_bytes(row, 0)?), hold))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Looks at the next sessions for those that may be erased. Children are looked at with their parent. Ids begin with the time, so
/// what was opened since is not looked at: where old sessions are erased, few are.
pub(crate) fn list_idle(
    db: &Connection,
    view: ScopeView,
    before: Timestamp,
    page: PageRequest<SessionId>,
) -> Found<IdlePage> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let (limit, end) = (page_limit(&page), SessionId::earliest_at(before));
    let looked: Vec<SessionId> = db
        .prepare_cached(
            "SELECT session FROM session_heads WHERE tenant = ?1 AND session > ?2 AND session < ?4 \
             ORDER BY session LIMIT ?3",
        )?
        .query_map(params![view.tenant.as_bytes(), after, limit, end.as_bytes()], |row| {
            column_codes::read_bytes(row, 0).map(SessionId::from_bytes)
        })?
        .collect::<Result<_, _>>()?;
    let next = looked.last().copied().filter(|_| i64::try_from(looked.len()).is_ok_and(|seen| seen == limit));
    let mut due = Vec::new();
    for session in looked {
        if super::session::by_id(db, view, session)?.is_some() {
            due.extend(idle_session(db, view.tenant, session, before)?);
        }
    }
    Ok(IdlePage { due, next })
}

/// Sums up a session with its children, unless something keeps one of them.
fn idle_session(
    db: &Connection,
    tenant: TenantId,
    session: SessionId,
    before: Timestamp,
) -> Found<Option<IdleSession>> {
    // The first is looked at alone before its children are listed: most sessions are kept by themselves.
    let mut idle: Option<IdleSession> = None;
    let tree = session_tree::list_tree(db, tenant, session)?;
    for one in &tree {
        let state = session_tree::find_state(db, tenant, one, Some(before))?;
        if state.obstacle.is_some() {
            return Ok(None);
        }
        let (runs, bytes) = session_tree::measure_session(db, tenant, one.session)?;
        let sum = idle.get_or_insert(IdleSession {
            session: one.session,
            agent: one.agent,
            children: (tree.len() - 1) as u64,
            runs: 0,
            bytes: 0,
            last_at: state.last_at,
        });
        sum.runs += runs;
        sum.bytes += bytes;
        sum.last_at = sum.last_at.max(state.last_at);
    }
    Ok(idle)
}
