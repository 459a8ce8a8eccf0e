//! The tasks of a run tree, by its root.

use rusqlite::{Connection, params};

use dromia_contracts::id::{AgentId, RunId, SessionId};
use dromia_contracts::store::PageRequest;
use dromia_contracts::task::ChildSession;

use super::session::read_origin;
use super::{FIRST, Found, ScopeView, page_limit};
use crate::column_codes;

/// Lists the tasks below a root that the scope sees, each with its run.
pub(crate) fn list_spawned(
    db: &Connection,
    view: ScopeView,
    root: RunId,
    page: PageRequest<SessionId>,
) -> Found<Vec<ChildSession>> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(
        "SELECT s.session, s.agent, s.origin, s.child_run FROM sessions s INDEXED BY sessions_root \
         JOIN agents a ON a.tenant = s.tenant AND a.agent = s.agent AND a.state <> 3 \
         WHERE s.tenant = ?1 AND s.root = ?2 AND s.session > ?3 AND (?5 IS NULL OR s.agent = ?5) \
         ORDER BY s.session LIMIT ?4",
    )?;
    let values = params![
        view.tenant.as_bytes(),
        root.as_bytes(),
        after,
        page_limit(&page),
        view.only.as_ref().map(AgentId::as_bytes),
    ];
    let mut rows = select.query(values)?;
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(origin) = read_origin(row, 2)? else { continue };
        let run = match column_codes::bytes_opt(row, 3)?.map(RunId::from_bytes) {
            Some(run) => super::run::by_id(db, view, run)?,
            None => None,
        };
        tasks.push(ChildSession {
            session: SessionId::from_bytes(column_codes::read_bytes(row, 0)?),
            agent: AgentId::from_bytes(column_codes::read_bytes(row, 1)?),
            origin: *origin,
            run,
        });
    }
    Ok(tasks)
}
