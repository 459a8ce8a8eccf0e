//! Runs.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::run::Run;
use dromia_contracts::store::{OpenRun, Page, RunFilter};

use super::{FIRST, Found, LAST, View, limit};
use crate::code::{self, Code as _};
use crate::row::{StoredRun, run_columns};

pub(super) fn stored(db: &Connection, view: View, run: RunId) -> Found<Option<StoredRun>> {
    let mut select =
        db.prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = ?1 AND run = ?2"))?;
    let found = select
        .query_row(params![view.tenant.as_bytes(), run.as_bytes()], |row| StoredRun::read(row, 0))
        .optional()?;
    match found {
        Some(found) if view.finds(db, found.run.agent)? => Ok(Some(found)),
        _ => Ok(None),
    }
}

pub(crate) fn by_id(db: &Connection, view: View, run: RunId) -> Found<Option<Run>> {
    Ok(stored(db, view, run)?.map(|found| found.run))
}

pub(crate) fn list(db: &Connection, view: View, filter: RunFilter, page: Page<RunId>) -> Found<Vec<Run>> {
    let Some(mut agent) = view.agent(filter.agent) else { return Ok(Vec::new()) };
    if let Some(session) = filter.session {
        // A session's runs are among those of its agent, which an index holds in order.
        let Some(session) = super::session::by_id(db, view, session)? else { return Ok(Vec::new()) };
        if agent.is_some_and(|agent| agent != session.agent) {
            return Ok(Vec::new());
        }
        agent = Some(session.agent);
    }
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let mut values = vec![
        Value::Blob(view.tenant.as_bytes().to_vec()),
        Value::Blob(before.to_vec()),
        Value::Integer(limit(&page)),
    ];
    let mut conditions = String::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push_str(&format!(" AND {condition} = ?{}", values.len()));
    };
    if let Some(agent) = agent {
        if !view.finds(db, agent)? {
            return Ok(Vec::new());
        }
        add("agent", Value::Blob(agent.as_bytes().to_vec()));
    }
    if let Some(session) = filter.session {
        add("session", Value::Blob(session.as_bytes().to_vec()));
    }
    if let Some(status) = filter.status {
        add("status", Value::Integer(status.code()));
        if !status.is_terminal() {
            // Said again in the words of the partial index, so that it is used.
            conditions.push_str(" AND status <= 2");
        }
    }
    let mut select = db.prepare_cached(&format!(
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE tenant = ?1 AND run < ?2{} AND EXISTS (SELECT 1 FROM agents a \
              WHERE a.tenant = ?1 AND a.agent = runs.agent AND a.state <> 3) ORDER BY run DESC LIMIT ?3"
        ),
        conditions
    ))?;
    let runs = select
        .query_map(params_from_iter(values), |row| StoredRun::read(row, 0).map(|found| found.run))?
        .collect::<Result<_, _>>()?;
    Ok(runs)
}

/// Lists runs that have not ended, of every tenant.
pub(crate) fn open(db: &Connection, page: Page<(TenantId, RunId)>) -> Found<Vec<OpenRun>> {
    let (tenant, run) = match &page.after {
        Some((tenant, run)) => (&tenant.as_bytes()[..], &run.as_bytes()[..]),
        None => (&FIRST[..], &FIRST[..]),
    };
    let mut select = db.prepare_cached(concat!(
        "SELECT tenant, ",
        run_columns!(),
        " FROM runs INDEXED BY runs_open WHERE status <= 2 AND (tenant, run) > (?1, ?2) \
         ORDER BY tenant, run LIMIT ?3"
    ))?;
    let runs = select
        .query_map(params![tenant, run, limit(&page)], |row| {
            Ok(OpenRun {
                tenant: TenantId::from_bytes(code::bytes(row, 0)?),
                run: StoredRun::read(row, 1)?.run,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(runs)
}
