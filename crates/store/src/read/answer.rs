//! Answers to changes that clients sent under a key. A view of one agent finds none.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;
use dromia_contracts::store::AnswerPut;

use super::{Found, ScopeView};
use crate::column_codes;

pub(crate) fn find_answer(
    db: &Connection,
    tenant: TenantId,
    key: Digest,
) -> rusqlite::Result<Option<AnswerPut>> {
    db.prepare_cached("SELECT request, claim, at, answer FROM answers WHERE tenant = ?1 AND key = ?2")?
        .query_row(params![tenant.as_bytes(), key.as_bytes()], |row| {
            Ok(AnswerPut {
                key,
                request: column_codes::read_digest(row, 0)?,
                claim: u128::from_be_bytes(column_codes::read_bytes(row, 1)?),
                at: column_codes::read_time(row, 2)?,
                answer: row.get::<_, Option<Vec<u8>>>(3)?.map(Into::into),
            })
        })
        .optional()
}

pub(crate) fn by_key(db: &Connection, view: ScopeView, key: Digest) -> Found<Option<AnswerPut>> {
    if view.only.is_some() {
        return Ok(None);
    }
    Ok(find_answer(db, view.tenant, key)?)
}
