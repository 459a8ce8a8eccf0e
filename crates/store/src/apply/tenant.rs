//! Tenants.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::audit::AuditChange;
use dromia_contracts::store::{CommitRefusal, Mutation, TenantCreate, WriteBatch};

use super::audit::ActList;
use super::tenant_erasure;
use super::{BodyKeys, Checked, TableDraft, TenantDb};
use crate::column_codes;
use crate::session_tree::find_hold_refusal;

/// The tenant, if the batch registers, suspends, resumes or erases it.
#[derive(Debug, Default)]
pub(super) struct TenantDraft<'b> {
    create: Option<&'b TenantCreate>,
    suspension: Option<SuspensionChange>,
    erasure: Option<ErasureStep>,
}

/// What a batch does of the erasure of its tenant.
#[derive(Debug, Clone, Copy)]
enum ErasureStep {
    /// Marks the tenant since a time.
    Mark(Timestamp),
    /// Erases a page of a marked tenant.
    Page,
}

/// A new state of the suspension of a tenant: since when it is suspended, if it is.
#[derive(Debug, Clone, Copy)]
struct SuspensionChange(Option<Timestamp>);

impl TenantDraft<'_> {
    /// Tells whether the tenant is suspended, as the batch leaves it.
    pub(super) fn is_suspended(&self, db: TenantDb<'_>) -> Checked<bool> {
        if let Some(SuspensionChange(since)) = self.suspension {
            return Ok(since.is_some());
        }
        let mut select =
            db.prepare_cached("SELECT suspended_at IS NOT NULL FROM tenants WHERE tenant = ?1")?;
        Ok(select.query_row([db.tenant.as_bytes()], |row| row.get(0)).optional()?.unwrap_or(false))
    }

    /// Suspends the tenant, or has it go on; a repetition changes nothing.
    pub(super) fn set_suspension(&mut self, db: TenantDb<'_>, since: Option<Timestamp>) -> Checked {
        if self.is_suspended(db)? != since.is_some() {
            self.suspension = Some(SuspensionChange(since));
        }
        Ok(())
    }
}

/// Finds the tenant of a batch, or plays its registration. Returns what is to be written and the body key.
pub(super) fn enter_tenant<'b>(
    db: &Connection,
    keys: &mut BodyKeys,
    batch: &'b WriteBatch,
) -> Checked<(TenantDraft<'b>, [u8; 32])> {
    let erasure = batch.mutations.iter().find_map(|mutation| match mutation {
        Mutation::TenantErase(at) => Some(*at),
        _ => None,
    });
    if let Some(at) = erasure {
        return enter_erasure(db, batch, at);
    }
    let mut creates = batch.mutations.iter().filter_map(|mutation| match mutation {
        Mutation::TenantCreate(create) => Some(create),
        _ => None,
    });
    let Some(create) = creates.next() else {
        let key =
            keys.get(db, batch.tenant)?.ok_or_else(|| CommitRefusal::NotFound(batch.tenant.to_string()))?;
        return Ok((TenantDraft::default(), key));
    };
    if creates.next().is_some() {
        return Err(CommitRefusal::Malformed("the tenant is registered twice".into()).into());
    }
    let found = db
        .prepare_cached("SELECT handle, at, body_key, erased_at IS NOT NULL FROM tenants WHERE tenant = ?1")?
        .query_row([batch.tenant.as_bytes()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                column_codes::read_time(row, 1)?,
                column_codes::read_bytes(row, 2)?,
                row.get::<_, bool>(3)?,
            ))
        })
        .optional()?;
    if let Some((handle, at, body_key, is_erased)) = found {
        if is_erased {
            return Err(CommitRefusal::NotFound(batch.tenant.to_string()).into());
        }
        let same = handle == create.handle.as_str()
            && at.as_millisecond() == create.at.as_millisecond()
            && body_key == create.body_key;
        if same {
            return Ok((TenantDraft::default(), body_key));
        }
        return Err(CommitRefusal::Malformed(format!("{} is another tenant", batch.tenant)).into());
    }
    let holder: Option<[u8; 16]> = db
        .prepare_cached("SELECT tenant FROM tenants WHERE handle = ?1")?
        .query_row([create.handle.as_str()], |row| row.get(0))
        .optional()?;
    match holder {
        Some(_) => Err(CommitRefusal::HandleTaken(create.handle.clone()).into()),
        None => Ok((TenantDraft { create: Some(create), ..TenantDraft::default() }, create.body_key)),
    }
}

/// Finds the tenant that a batch erases, and which step of its erasure is next.
fn enter_erasure<'b>(
    db: &Connection,
    batch: &WriteBatch,
    at: Timestamp,
) -> Checked<(TenantDraft<'b>, [u8; 32])> {
    if batch.mutations.len() > 1 || batch.claim.is_some() {
        let text = "a batch that erases its tenant does nothing else";
        return Err(CommitRefusal::Malformed(text.into()).into());
    }
    let found = db
        .prepare_cached(
            "SELECT body_key, suspended_at IS NOT NULL, erased_at IS NOT NULL FROM tenants WHERE tenant = ?1",
        )?
        .query_row([batch.tenant.as_bytes()], |row| {
            Ok((column_codes::read_bytes(row, 0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?))
        })
        .optional()?;
    let (body_key, is_suspended, is_marked) =
        found.ok_or_else(|| CommitRefusal::NotFound(batch.tenant.to_string()))?;
    if !is_suspended {
        return Err(CommitRefusal::TenantActive.into());
    }
    if !is_marked && let Some(refusal) = find_hold_refusal(db, batch.tenant.as_bytes(), None)? {
        return Err(refusal.into());
    }
    let step = if is_marked { ErasureStep::Page } else { ErasureStep::Mark(at) };
    Ok((TenantDraft { erasure: Some(step), ..TenantDraft::default() }, body_key))
}

impl TableDraft for TenantDraft<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        if let Some(create) = self.create {
            db.prepare_cached("INSERT INTO tenants (tenant, handle, at, body_key) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![
                    db.tenant.as_bytes(),
                    create.handle.as_str(),
                    create.at.as_millisecond(),
                    create.body_key,
                ])?;
        }
        if let Some(SuspensionChange(since)) = self.suspension {
            db.prepare_cached("UPDATE tenants SET suspended_at = ?2 WHERE tenant = ?1")?
                .execute(params![db.tenant.as_bytes(), since.map(Timestamp::as_millisecond)])?;
        }
        match self.erasure {
            Some(ErasureStep::Mark(at)) => tenant_erasure::mark_tenant(db, at),
            Some(ErasureStep::Page) => tenant_erasure::erase_page(db),
            None => Ok(()),
        }
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        if let Some(create) = self.create {
            acts.note_change(create.at, AuditChange::TenantCreated { handle: create.handle.clone() });
        }
        if let Some(SuspensionChange(since)) = self.suspension {
            acts.note_wanted(AuditChange::TenantSuspensionSet { suspended: since.is_some() });
        }
        if let Some(ErasureStep::Mark(at)) = self.erasure {
            acts.note_change(at, AuditChange::TenantDeleted);
        }
    }
}
