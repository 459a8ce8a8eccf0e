//! Tenants.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::store::{CommitRefusal, Mutation, TenantCreate, WriteBatch};

use super::{BatchDraft, BodyKeys, Checked};
use crate::column_codes;

/// A tenant that the batch registers.
#[derive(Debug)]
pub(super) struct TenantDraft<'b> {
    pub(super) create: &'b TenantCreate,
}

/// Finds the tenant of a batch, or plays its registration. Returns what is to be written and the body key.
pub(super) fn enter_tenant<'b>(
    db: &Connection,
    keys: &mut BodyKeys,
    batch: &'b WriteBatch,
) -> Checked<(Option<TenantDraft<'b>>, [u8; 32])> {
    let mut creates = batch.mutations.iter().filter_map(|mutation| match mutation {
        Mutation::TenantCreate(create) => Some(create),
        _ => None,
    });
    let Some(create) = creates.next() else {
        let key =
            keys.get(db, batch.tenant)?.ok_or_else(|| CommitRefusal::NotFound(batch.tenant.to_string()))?;
        return Ok((None, key));
    };
    if creates.next().is_some() {
        return Err(CommitRefusal::Malformed("the tenant is registered twice".into()).into());
    }
    let found = db
        .prepare_cached("SELECT handle, at, body_key FROM tenants WHERE tenant = ?1")?
        .query_row([batch.tenant.as_bytes()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                column_codes::read_time(row, 1)?,
                column_codes::read_bytes(row, 2)?,
            ))
        })
        .optional()?;
    if let Some((handle, at, body_key)) = found {
        let same = handle == create.handle.as_str()
            && at.as_millisecond() == create.at.as_millisecond()
            && body_key == create.body_key;
        if same {
            return Ok((None, body_key));
        }
        return Err(CommitRefusal::Malformed(format!("{} is another tenant", batch.tenant)).into());
    }
    let holder: Option<[u8; 16]> = db
        .prepare_cached("SELECT tenant FROM tenants WHERE handle = ?1")?
        .query_row([create.handle.as_str()], |row| row.get(0))
        .optional()?;
    match holder {
        Some(_) => Err(CommitRefusal::HandleTaken(create.handle.clone()).into()),
        None => Ok((Some(TenantDraft { create }), create.body_key)),
    }
}

impl BatchDraft<'_> {
    pub(super) fn write_tenant(&self, db: &Connection) -> rusqlite::Result<u64> {
        let Some(TenantDraft { create }) = &self.new_tenant else { return Ok(0) };
        db.prepare_cached("INSERT INTO tenants (tenant, handle, at, body_key) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                self.tenant.as_bytes(),
                create.handle.as_str(),
                create.at.as_millisecond(),
                create.body_key,
            ])?;
        Ok(1)
    }
}
