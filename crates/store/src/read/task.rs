//! The children in a run tree, by its root, and those that conclude in a session.

use rusqlite::{Connection, params};

use dromia_contracts::id::{AgentId, RunId, SessionId};
use dromia_contracts::store::PageRequest;
use dromia_contracts::task::ChildSession;

use super::session::read_origin;
use super::{FIRST, Found, ScopeView, page_limit};
use crate::column_codes;

/// Lists the children below a root that the scope sees, each with its run.
pub(crate) fn list_below_root(
    db: &Connection,
    view: ScopeView,
    root: RunId,
    page: PageRequest<SessionId>,
) -> Found<Vec<ChildSession>> {
    list_children(db, view, "sessions_root WHERE s.tenant = ?1 AND s.root = ?2", root.as_bytes(), &page)
}

/// Lists the children that conclude in a session, as far as the scope sees them, each with its run.
pub(crate) fn list_of_session(
    db: &Connection,
    view: ScopeView,
    session: SessionId,
    open: bool,
    page: PageRequest<SessionId>,
) -> Found<Vec<ChildSession>> {
    let of_session = if open {
        "sessions_open_parent WHERE s.tenant = ?1 AND s.parent_session = ?2 AND s.open = 1"
    } else {
        "sessions_parent WHERE s.tenant = ?1 AND s.parent_session = ?2"
    };
    list_children(db, view, of_session, session.as_bytes(), &page)
}

fn list_children(
    db: &Connection,
    view: ScopeView,
    of_parent: &str,
    parent: &[u8; 16],
    page: &PageRequest<SessionId>,
) -> Found<Vec<ChildSession>> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let (index, parents) = of_parent.split_once(' ').unwrap_or_default();
    let mut select = db.prepare_cached(&format!(
        "SELECT s.session, s.agent, s.origin, s.child_run FROM sessions s INDEXED BY {index} \
         JOIN agents a ON a.tenant = s.tenant AND a.agent = s.agent AND a.state <> 3 \
         {parents} AND s.session > ?3 AND (?5 IS NULL OR s.agent = ?5) ORDER BY s.session LIMIT ?4"
    ))?;
    let values = params![
        view.tenant.as_bytes(),
        parent,
        after,
        page_limit(page),
        view.only.as_ref().map(AgentId::as_bytes),
    ];
    let mut rows = select.query(values)?;
    let mut children = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(origin) = read_origin(row, 2)? else { continue };
        let run = match column_codes::bytes_opt(row, 3)?.map(RunId::from_bytes) {
            Some(run) => super::run::by_id(db, view, run)?,
            None => None,
        };
        children.push(ChildSession {
            session: SessionId::from_bytes(column_codes::read_bytes(row, 0)?),
            agent: AgentId::from_bytes(column_codes::read_bytes(row, 1)?),
            origin: *origin,
            run,
        });
    }
    Ok(children)
}
