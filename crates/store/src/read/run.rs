//! Runs.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::id::{AgentId, RunId, SessionId, TenantId};
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::store::{OpenRun, PageRequest, RunFilter, WORKING_LOOKS_MAX};

use super::session::{is_erased, is_hidden};
use super::{FIRST, Found, LAST, ScopeView, page_limit, row_limit};
use crate::column_codes::{self, StoredEnum as _};
use crate::row::{StoredRun, run_columns};

/// Holds for runs of sessions that are neither erased nor filled by an import.
macro_rules! there {
    () => {
        "NOT EXISTS (SELECT 1 FROM hidden_sessions i WHERE i.tenant = runs.tenant AND i.session = runs.session)"
    };
}

/// Reads a run's row, for a caller that has already found its agent.
pub(super) fn read_run_row(db: &Connection, tenant: TenantId, run: RunId) -> Found<Option<StoredRun>> {
    let mut select =
        db.prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = ?1 AND run = ?2"))?;
    let found = select
        .query_row(params![tenant.as_bytes(), run.as_bytes()], |row| StoredRun::from_row(row, 0))
        .optional()?;
    Ok(found)
}

/// Finds a run, also one that an import still writes: the audit covers every durable entry.
pub(super) fn find_durable_run(db: &Connection, view: ScopeView, run: RunId) -> Found<Option<StoredRun>> {
    match read_run_row(db, view.tenant, run)? {
        Some(found)
            if view.finds_agent(db, found.run.agent)? && !is_erased(db, view.tenant, found.run.session)? =>
        {
            Ok(Some(found))
        }
        _ => Ok(None),
    }
}

pub(super) fn find_stored_run(db: &Connection, view: ScopeView, run: RunId) -> Found<Option<StoredRun>> {
    match find_durable_run(db, view, run)? {
        Some(found) if !is_hidden(db, view.tenant, found.run.session)? => Ok(Some(found)),
        _ => Ok(None),
    }
}

pub(crate) fn by_id(db: &Connection, view: ScopeView, run: RunId) -> Found<Option<RunRecord>> {
    Ok(find_stored_run(db, view, run)?.map(|found| found.run))
}

pub(crate) fn list_runs(
    db: &Connection,
    view: ScopeView,
    filter: RunFilter,
    page: PageRequest<RunId>,
) -> Found<Vec<RunRecord>> {
    if view.excludes_agent(filter.agent) {
        return Ok(Vec::new());
    }
    let mut agent = view.join_agent(filter.agent);
    if let Some(session) = filter.session {
        // A session's runs are among those of its agent, which an index holds in order.
        let Some(session) = super::session::by_id(db, view, session)? else { return Ok(Vec::new()) };
        if agent.is_some_and(|agent| agent != session.agent) {
            return Ok(Vec::new());
        }
        agent = Some(session.agent);
    }
    let before = page.after.as_ref().map_or(&LAST[..], |id| &id.as_bytes()[..]);
    let mut conditions = String::new();
    if let Some(agent) = agent {
        if !view.finds_agent(db, agent)? {
            return Ok(Vec::new());
        }
        conditions.push_str(" AND agent = ?3");
    }
    if filter.session.is_some() {
        conditions.push_str(" AND session = ?4");
    }
    if let Some(status) = filter.status {
        // Said again in the words of the partial index, so that it is used.
        conditions.push_str(if status.is_terminal() {
            " AND status = ?5"
        } else {
            " AND status = ?5 AND status <= 2"
        });
    }
    let mut select = db.prepare_cached(&format!(
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE tenant = ?1 AND run < ?2{} AND EXISTS (SELECT 1 FROM agents a \
              WHERE a.tenant = ?1 AND a.agent = runs.agent AND a.state <> 3) AND ",
            there!(),
            " ORDER BY run DESC LIMIT ?6"
        ),
        conditions
    ))?;
    let values = params![
        view.tenant.as_bytes(),
        before,
        agent.as_ref().map(AgentId::as_bytes),
        filter.session.as_ref().map(SessionId::as_bytes),
        filter.status.map(RunStatus::stored_code),
        page_limit(&page),
    ];
    let runs = select
        .query_map(values, |row| StoredRun::from_row(row, 0).map(|found| found.run))?
        .collect::<Result<_, _>>()?;
    Ok(runs)
}

/// Lists runs that have not ended, of every tenant.
pub(crate) fn list_open_runs(db: &Connection, page: PageRequest<(TenantId, RunId)>) -> Found<Vec<OpenRun>> {
    let query = concat!(
        "SELECT tenant, ",
        run_columns!(),
        " FROM runs INDEXED BY runs_open WHERE status <= 2 AND (tenant, run) > (?1, ?2) AND ",
        there!(),
        " ORDER BY tenant, run LIMIT ?3"
    );
    list_page(db, query, &page)
}

/// Lists open runs with a signal that no entry took, of every tenant.
pub(crate) fn list_signalled_runs(
    db: &Connection,
    page: PageRequest<(TenantId, RunId)>,
) -> Found<Vec<OpenRun>> {
    let query = concat!(
        "SELECT tenant, ",
        run_columns!(),
        " FROM runs INDEXED BY runs_signalled WHERE status <= 2 AND signals_last > signals_taken \
         AND (tenant, run) > (?1, ?2) \
         AND EXISTS (SELECT 1 FROM agents a WHERE a.tenant = runs.tenant AND a.agent = runs.agent AND a.state <> 3) AND ",
        there!(),
        " ORDER BY tenant, run LIMIT ?3"
    );
    list_page(db, query, &page)
}

/// Reads one page of runs of every tenant: `?1` and `?2` are the last run of the page before, `?3` is the bound.
fn list_page(db: &Connection, query: &str, page: &PageRequest<(TenantId, RunId)>) -> Found<Vec<OpenRun>> {
    let (tenant, run) = match &page.after {
        Some((tenant, run)) => (&tenant.as_bytes()[..], &run.as_bytes()[..]),
        None => (&FIRST[..], &FIRST[..]),
    };
    let runs = db
        .prepare_cached(query)?
        .query_map(params![tenant, run, page_limit(page)], |row| {
            Ok(OpenRun {
                tenant: TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
                run: StoredRun::from_row(row, 1)?.run,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(runs)
}

/// Lists parked runs that are woken by time, of every tenant, the earliest first. The key of the table ends each row of
/// the index, so a page begins where the one before ended.
pub(crate) fn list_parked_runs(
    db: &Connection,
    page: PageRequest<(Timestamp, TenantId, RunId)>,
) -> Found<Vec<OpenRun>> {
    let (wake_at, tenant, run) = match &page.after {
        Some((at, tenant, run)) => (at.as_millisecond(), &tenant.as_bytes()[..], &run.as_bytes()[..]),
        None => (i64::MIN, &FIRST[..], &FIRST[..]),
    };
    let mut select = db.prepare_cached(concat!(
        "SELECT tenant, ",
        run_columns!(),
        " FROM runs INDEXED BY runs_parked WHERE wake_at IS NOT NULL AND (wake_at, tenant, run) > (?1, ?2, ?3) \
         AND EXISTS (SELECT 1 FROM agents a WHERE a.tenant = runs.tenant AND a.agent = runs.agent AND a.state <> 3) AND ",
        there!(),
        " ORDER BY wake_at, tenant, run LIMIT ?4"
    ))?;
    let runs = select
        .query_map(params![wake_at, tenant, run, page_limit(&page)], |row| {
            Ok(OpenRun {
                tenant: TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
                run: StoredRun::from_row(row, 1)?.run,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(runs)
}

/// Lists runs that have something to do, then those that rest, among the newest open ones.
pub(crate) fn list_working(db: &Connection, view: ScopeView, most: usize) -> Found<Vec<RunRecord>> {
    let mut select = db.prepare_cached(concat!(
        "SELECT ",
        run_columns!(),
        " FROM (SELECT * FROM runs INDEXED BY runs_open WHERE tenant = ?1 AND status <= 2 AND (?2 IS NULL OR agent = ?2) \
         AND EXISTS (SELECT 1 FROM agents a WHERE a.tenant = ?1 AND a.agent = runs.agent AND a.state <> 3) AND ",
        there!(),
        " ORDER BY run DESC LIMIT ?3) WHERE status < 2 ORDER BY status, run DESC LIMIT ?4"
    ))?;
    let looks = i64::try_from(WORKING_LOOKS_MAX).unwrap_or(i64::MAX);
    let values =
        params![view.tenant.as_bytes(), view.only.as_ref().map(AgentId::as_bytes), looks, row_limit(most)];
    let runs = select
        .query_map(values, |row| StoredRun::from_row(row, 0).map(|found| found.run))?
        .collect::<Result<_, _>>()?;
    Ok(runs)
}

/// Lists held runs, then those that yielded or failed lately. An index holds these three statuses only.
pub(crate) fn list_troubled(
    db: &Connection,
    view: ScopeView,
    since: Timestamp,
    most: usize,
) -> Found<Vec<RunRecord>> {
    let mut found = Vec::new();
    for (status, since) in [
        (RunStatus::Held, i64::MIN),
        (RunStatus::Yielded, since.as_millisecond()),
        (RunStatus::Failed, since.as_millisecond()),
    ] {
        let only = if view.only.is_some() { " AND agent = ?5" } else { " AND ?5 IS NULL" };
        let mut select = db.prepare_cached(&format!(
            concat!(
                "SELECT ",
                run_columns!(),
                " FROM runs INDEXED BY runs_troubled WHERE tenant = ?1 AND status = ?2 AND status IN (2, 4, 5) \
                  AND updated_at >= ?3{} AND EXISTS (SELECT 1 FROM agents a \
                  WHERE a.tenant = ?1 AND a.agent = runs.agent AND a.state <> 3) AND ",
                there!(),
                " ORDER BY updated_at DESC, run DESC LIMIT ?4"
            ),
            only
        ))?;
        let left = row_limit(most.saturating_sub(found.len()));
        let only = view.only.as_ref().map(AgentId::as_bytes);
        let values = params![view.tenant.as_bytes(), status.stored_code(), since, left, only];
        for run in select.query_map(values, |row| StoredRun::from_row(row, 0))? {
            found.push(run?.run);
        }
    }
    Ok(found)
}
