//! Tenants.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::agent::{HandleSlug, TenantRecord};
use dromia_contracts::id::TenantId;
use dromia_contracts::store::PageRequest;

use super::agent::read_handle;
use super::{FIRST, Found, page_limit};
use crate::column_codes;

const COLUMNS: &str = "tenant, handle, at";

/// Reads `COLUMNS`, beginning at the first.
pub(super) fn read_tenant(row: &Row<'_>) -> rusqlite::Result<TenantRecord> {
    Ok(TenantRecord {
        id: TenantId::from_bytes(column_codes::read_bytes(row, 0)?),
        handle: read_handle(row, 1)?,
        created_at: column_codes::read_time(row, 2)?,
    })
}

pub(crate) fn list_tenants(db: &Connection, page: PageRequest<TenantId>) -> Found<Vec<TenantRecord>> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM tenants WHERE tenant > ?1 ORDER BY tenant LIMIT ?2"
    ))?;
    let tenants =
        select.query_map(params![after, page_limit(&page)], read_tenant)?.collect::<Result<_, _>>()?;
    Ok(tenants)
}

pub(crate) fn by_handle(db: &Connection, handle: &HandleSlug) -> Found<Option<TenantRecord>> {
    let mut select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM tenants WHERE handle = ?1"))?;
    Ok(select.query_row([handle.as_str()], read_tenant).optional()?)
}
