//! Tenants.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::agent::{HandleSlug, TenantCounts, TenantRecord};
use dromia_contracts::id::TenantId;
use dromia_contracts::store::PageRequest;

use super::agent::read_handle;
use super::{FIRST, Found, ScopeView, page_limit};
use crate::column_codes;

const COLUMNS: &str = "tenant, handle, at, suspended_at";

/// Reads `COLUMNS`, beginning at the first.
pub(super) fn read_tenant(row: &Row<'_>) -> rusqlite::Result<TenantRecord> {
    Ok(TenantRecord {
        id: TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
        handle: read_handle(row, 1)?,
        created_at: column_codes::read_time(row, 2)?,
        suspended_at: column_codes::time_opt(row, 3)?,
    })
}

pub(crate) fn list_tenants(db: &Connection, page: PageRequest<TenantId>) -> Found<Vec<TenantRecord>> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM tenants WHERE tenant > ?1 AND erased_at IS NULL ORDER BY tenant LIMIT ?2"
    ))?;
    let tenants =
        select.query_map(params![after, page_limit(&page)], read_tenant)?.collect::<Result<_, _>>()?;
    Ok(tenants)
}

pub(crate) fn list_deleting(db: &Connection) -> Found<Vec<TenantId>> {
    let mut select = db.prepare_cached(
        "SELECT tenant FROM tenants INDEXED BY tenants_erased WHERE erased_at IS NOT NULL ORDER BY tenant",
    )?;
    let tenants = select
        .query_map([], |row| column_codes::read_bytes(row, 0).map(TenantId::from_bytes))?
        .collect::<Result<_, _>>()?;
    Ok(tenants)
}

pub(crate) fn by_handle(db: &Connection, handle: &HandleSlug) -> Found<Option<TenantRecord>> {
    let mut select =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM tenants WHERE handle = ?1 AND erased_at IS NULL"))?;
    Ok(select.query_row([handle.as_str()], read_tenant).optional()?)
}

pub(crate) fn of_scope(db: &Connection, view: ScopeView) -> Found<Option<TenantRecord>> {
    let mut select =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM tenants WHERE tenant = ?1 AND erased_at IS NULL"))?;
    Ok(select.query_row([view.tenant.as_bytes()], read_tenant).optional()?)
}

pub(crate) fn count_rows(db: &Connection, view: ScopeView) -> Found<TenantCounts> {
    let mut select = db.prepare_cached(
        "SELECT (SELECT count(*) FROM agents WHERE tenant = ?1), (SELECT count(*) FROM sessions WHERE tenant = ?1), \
         (SELECT count(*) FROM runs INDEXED BY runs_open WHERE tenant = ?1 AND status <= 2)",
    )?;
    let count = |row: &Row<'_>, column| column_codes::read_counter(row, column);
    Ok(select.query_row([view.tenant.as_bytes()], |row| {
        Ok(TenantCounts { agents: count(row, 0)?, sessions: count(row, 1)?, open_runs: count(row, 2)? })
    })?)
}
