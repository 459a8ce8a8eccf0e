//! Secrets, sealed as they are. They belong to the tenant, whichever of its agents asks.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::store::PageRequest;
use dromia_contracts::vault::{SealedSecret, SecretSummary};

use super::{Found, ScopeView, page_limit};
use crate::column_codes;

pub(crate) const COLUMNS: &str = "name, version, host, placement, created_at, changed_at, key, value";

/// Reads `COLUMNS`, beginning at the first.
pub(crate) fn read_secret(row: &Row<'_>) -> rusqlite::Result<SealedSecret> {
    let placement: String = row.get(3)?;
    let placement = placement.parse().map_err(|_| {
        column_codes::unreadable_column(3, Type::Text, format!("{placement:?} is no placement"))
    })?;
    let secret = SecretSummary {
        name: row.get(0)?,
        version: row.get(1)?,
        host: row.get(2)?,
        placement,
        created_at: column_codes::read_time(row, 4)?,
        changed_at: column_codes::read_time(row, 5)?,
    };
    let (key, value): (Vec<u8>, Vec<u8>) = (row.get(6)?, row.get(7)?);
    Ok(SealedSecret { secret, key: key.into(), value: value.into() })
}

pub(crate) fn find_vault_key(db: &Connection, view: ScopeView) -> Found<Option<Bytes>> {
    let mut select = db.prepare_cached("SELECT key FROM vault_keys WHERE tenant = ?1")?;
    let key: Option<Vec<u8>> = select.query_row([view.tenant.as_bytes()], |row| row.get(0)).optional()?;
    Ok(key.map(Bytes::from))
}

pub(crate) fn by_name(db: &Connection, view: ScopeView, name: &str) -> Found<Option<SealedSecret>> {
    let mut select =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM secrets WHERE tenant = ?1 AND name = ?2"))?;
    Ok(select.query_row(params![view.tenant.as_bytes(), name], read_secret).optional()?)
}

pub(crate) fn list_secrets(
    db: &Connection,
    view: ScopeView,
    page: PageRequest<&str>,
) -> Found<Vec<SealedSecret>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM secrets WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3"
    ))?;
    let after = page.after.unwrap_or_default();
    let rows = select.query_map(params![view.tenant.as_bytes(), after, page_limit(&page)], read_secret)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
