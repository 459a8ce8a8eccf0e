//! Tenants.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::agent::{Handle, Tenant};
use dromia_contracts::id::TenantId;
use dromia_contracts::store::Page;

use super::agent::handle;
use super::{FIRST, Found, limit};
use crate::code;

const COLUMNS: &str = "tenant, handle, at";

/// Reads `COLUMNS`, beginning at the first.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    Ok(Tenant {
        id: TenantId::from_bytes(code::bytes(row, 0)?),
        handle: handle(row, 1)?,
        created_at: code::time(row, 2)?,
    })
}

pub(crate) fn list(db: &Connection, page: Page<TenantId>) -> Found<Vec<Tenant>> {
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM tenants WHERE tenant > ?1 ORDER BY tenant LIMIT ?2"
    ))?;
    let tenants = select.query_map(params![after, limit(&page)], read)?.collect::<Result<_, _>>()?;
    Ok(tenants)
}

pub(crate) fn by_handle(db: &Connection, handle: &Handle) -> Found<Option<Tenant>> {
    let mut select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM tenants WHERE handle = ?1"))?;
    Ok(select.query_row([handle.as_str()], read).optional()?)
}
