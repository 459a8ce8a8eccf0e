//! Keys of inbox items. They belong to the tenant, so a view of one agent finds none.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{ItemId, RunId, SessionId, TenantId};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::KeyedItem;

use super::{Found, View};
use crate::code;

/// Finds what a key stands for at a time. A key is a caller's text, or an item's own id as a blob.
pub(crate) fn find(
    db: &Connection,
    tenant: TenantId,
    key: &dyn ToSql,
    at: Timestamp,
) -> rusqlite::Result<Option<KeyedItem>> {
    db.prepare_cached(
        "SELECT item, owner, run, position, request FROM keys \
         WHERE tenant = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)",
    )?
    .query_row(params![tenant.as_bytes(), key, at.as_millisecond()], |row| {
        let owner = code::bytes(row, 1)?;
        Ok(KeyedItem {
            item: ItemId::from_bytes(code::bytes(row, 0)?),
            owner: if row.get(2)? {
                InboxOwner::Run(RunId::from_bytes(owner))
            } else {
                InboxOwner::Session(SessionId::from_bytes(owner))
            },
            position: code::number(row, 3)?,
            request: code::bytes_opt(row, 4)?.map_or_else(Digest::default, Digest::from_bytes),
        })
    })
    .optional()
}

pub(crate) fn seen(db: &Connection, view: View, key: &str, at: Timestamp) -> Found<Option<KeyedItem>> {
    if view.only.is_some() {
        return Ok(None);
    }
    Ok(find(db, view.tenant, &key, at)?)
}
