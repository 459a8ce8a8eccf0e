//! Capabilities: put once, taken back for good, let go of.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::id::{AgentId, CapabilityId};
use dromia_contracts::store::{BatchRequester, CapabilityDrop, CapabilityRevoke, CommitRefusal};
use dromia_contracts::token::TokenState;

use super::audit::ActList;
use super::{Checked, TableDraft, TenantDb};
use crate::column_codes::StoredEnum as _;
use crate::read;

/// What becomes of a capability.
#[derive(Debug)]
enum CapabilityDraft<'b> {
    /// It is written.
    Put(&'b CapabilityRecord),
    /// It is taken back from its holder.
    Revoke { revoke: &'b CapabilityRevoke, holder: AgentId },
    /// It goes; it is taken from its holder, if it counted until now.
    Drop { id: CapabilityId, taken_from: Option<AgentId> },
    /// The row is already as the batch wants it.
    Same(CapabilityId),
}

impl CapabilityDraft<'_> {
    fn id(&self) -> CapabilityId {
        match self {
            Self::Put(put) => put.id,
            Self::Revoke { revoke, .. } => revoke.capability,
            Self::Drop { id, .. } | Self::Same(id) => *id,
        }
    }
}

/// What the batch does to capabilities.
#[derive(Debug, Default)]
pub(super) struct CapabilityDrafts<'b> {
    rows: Vec<CapabilityDraft<'b>>,
}

impl<'b> CapabilityDrafts<'b> {
    pub(super) fn put_capability(&mut self, db: TenantDb<'_>, put: &'b CapabilityRecord) -> Checked {
        self.refuse_second_change(put.id)?;
        if let Some(known) = find_capability(db, put.id)? {
            // It may have been taken back since; everything else never changes.
            if known == (CapabilityRecord { revoked_at: known.revoked_at, ..put.clone() }) {
                self.rows.push(CapabilityDraft::Same(put.id));
                return Ok(());
            }
            return Err(CommitRefusal::Malformed(format!("{} exists already", put.id)).into());
        }
        let state: Option<i64> = db
            .prepare_cached("SELECT state FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .query_row(params![db.tenant.as_bytes(), put.holder.as_bytes()], |row| row.get(0))
            .optional()?;
        if state.is_none_or(|state| state == AgentState::Deleting.stored_code()) {
            return Err(CommitRefusal::NotFound(put.holder.to_string()).into());
        }
        self.rows.push(CapabilityDraft::Put(put));
        Ok(())
    }

    pub(super) fn revoke_capability(&mut self, db: TenantDb<'_>, revoke: &'b CapabilityRevoke) -> Checked {
        self.refuse_second_change(revoke.capability)?;
        let draft = match find_capability(db, revoke.capability)? {
            None => return Err(CommitRefusal::NotFound(revoke.capability.to_string()).into()),
            Some(known) if known.revoked_at.is_some() => CapabilityDraft::Same(revoke.capability),
            Some(known) => CapabilityDraft::Revoke { revoke, holder: known.holder },
        };
        self.rows.push(draft);
        Ok(())
    }

    pub(super) fn drop_capability(
        &mut self,
        db: TenantDb<'_>,
        drop: &'b CapabilityDrop,
        wanted: Option<&BatchRequester>,
    ) -> Checked {
        let id = drop.capability;
        self.refuse_second_change(id)?;
        let now = wanted.map(|wanted| wanted.at);
        let counts = |known: &CapabilityRecord| match now {
            Some(now) => known.state_at(now) == TokenState::Active,
            None => known.revoked_at.is_none(),
        };
        let taken_from = find_capability(db, id)?.filter(counts).map(|known| known.holder);
        self.rows.push(CapabilityDraft::Drop { id, taken_from });
        Ok(())
    }

    /// One that a batch changed twice would not be found as the first change left it when the batch comes again.
    fn refuse_second_change(&self, id: CapabilityId) -> Checked {
        if self.rows.iter().any(|draft| draft.id() == id) {
            return Err(CommitRefusal::Malformed("a batch changes a capability once".into()).into());
        }
        Ok(())
    }
}

impl TableDraft for CapabilityDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for draft in &self.rows {
            match draft {
                CapabilityDraft::Same(_) => {}
                CapabilityDraft::Put(put) => {
                    db.prepare_cached(
                        "INSERT INTO capabilities (tenant, capability, holder, parent, used_as, rights, until, \
                         wall_ms, token, author, at, revoked_at) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                    )?
                    .execute(params![
                        db.tenant.as_bytes(),
                        put.id.as_bytes(),
                        put.holder.as_bytes(),
                        put.parent.as_ref().map(CapabilityId::as_bytes),
                        put.usage.stored_code(),
                        put.rights.join("\n"),
                        put.until.map(jiff::Timestamp::as_millisecond),
                        put.wall_ms_max,
                        &put.token[..],
                        put.by.as_str(),
                        put.created_at.as_millisecond(),
                        put.revoked_at.map(jiff::Timestamp::as_millisecond),
                    ])?;
                }
                CapabilityDraft::Revoke { revoke, .. } => {
                    db.prepare_cached(
                        "UPDATE capabilities SET revoked_at = ?3 WHERE tenant = ?1 AND capability = ?2",
                    )?
                    .execute(params![
                        db.tenant.as_bytes(),
                        revoke.capability.as_bytes(),
                        revoke.at.as_millisecond(),
                    ])?;
                }
                CapabilityDraft::Drop { id, .. } => {
                    db.prepare_cached("DELETE FROM capabilities WHERE tenant = ?1 AND capability = ?2")?
                        .execute(params![db.tenant.as_bytes(), id.as_bytes()])?;
                }
            }
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for draft in &self.rows {
            match draft {
                CapabilityDraft::Put(put) => {
                    let (capability, holder, rights) = (put.id, put.holder, put.rights.clone());
                    let change = match put.parent {
                        None => AuditChange::CapabilityGranted { capability, holder, rights },
                        Some(from) => AuditChange::CapabilityDelegated { capability, from, holder, rights },
                    };
                    acts.note_change(put.created_at, change);
                }
                CapabilityDraft::Revoke { revoke, holder } => {
                    let (capability, holder) = (revoke.capability, *holder);
                    acts.note_change(revoke.at, AuditChange::CapabilityRevoked { capability, holder });
                }
                CapabilityDraft::Drop { id, taken_from: Some(holder) } => {
                    let (capability, holder) = (*id, *holder);
                    acts.note_wanted(AuditChange::CapabilityRevoked { capability, holder });
                }
                // One that had ended takes no right away by going.
                CapabilityDraft::Drop { taken_from: None, .. } | CapabilityDraft::Same(_) => {}
            }
        }
    }
}

fn find_capability(db: TenantDb<'_>, id: CapabilityId) -> rusqlite::Result<Option<CapabilityRecord>> {
    db.prepare_cached(read::capability::BY_ID)?
        .query_row(params![db.tenant.as_bytes(), id.as_bytes()], read::capability::read_capability)
        .optional()
}
