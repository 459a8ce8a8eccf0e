//! Keys of inbox items. They belong to the tenant, so a view of one agent finds none.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{ItemId, RunId, SessionId, TenantId};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::KeyedItem;

use super::{Found, ScopeView};
use crate::check_value;
use crate::column_codes;

/// Finds what a key refers to at a time. A key is a caller's text, or an item's own id as a blob.
pub(crate) fn find_key(
    db: &Connection,
    tenant: TenantId,
    key: &dyn ToSql,
    at: Timestamp,
) -> rusqlite::Result<Option<KeyedItem>> {
    // Whether it has expired is judged after the row is known to be sound: a damaged time would forget it.
    let sql = format!("{} WHERE tenant = ?1 AND key = ?2", check_value::KEYS.select_sql());
    let found = db
        .prepare_cached(&sql)?
        .query_row(params![tenant.as_bytes(), key], |row| {
            check_value::KEYS.check_row(row)?;
            let owner = column_codes::read_bytes(row, 3)?;
            let found = KeyedItem {
                item: ItemId::from_bytes(column_codes::read_bytes(row, 2)?),
                owner: if row.get(4)? {
                    InboxOwner::Run(RunId::from_bytes(owner))
                } else {
                    InboxOwner::Session(SessionId::from_bytes(owner))
                },
                position: column_codes::read_counter(row, 5)?,
                request: column_codes::bytes_opt(row, 6)?.map_or_else(Digest::default, Digest::from_bytes),
            };
            let expires_at = column_codes::time_opt(row, 7)?;
            Ok(expires_at.is_none_or(|end| end > at).then_some(found))
        })
        .optional()?;
    Ok(found.flatten())
}

pub(crate) fn find_visible_key(
    db: &Connection,
    view: ScopeView,
    key: &str,
    at: Timestamp,
) -> Found<Option<KeyedItem>> {
    if view.only.is_some() {
        return Ok(None);
    }
    Ok(find_key(db, view.tenant, &key, at)?)
}
