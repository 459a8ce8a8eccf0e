//! Secrets: each version takes the place of the one before it, and an erased one leaves nothing.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::audit::AuditChange;
use dromia_contracts::store::{CommitRefusal, SecretErase, VaultKeyPut};
use dromia_contracts::vault::{SealedSecret, SecretSummary};

use super::audit::ActList;
use super::{Checked, TableDraft, TenantDb};
use crate::read;

/// What becomes of a secret.
#[derive(Debug)]
enum SecretDraft<'b> {
    /// It is written.
    Put(&'b SealedSecret),
    /// It goes.
    Erase(&'b SecretErase),
    /// The row is already as the batch wants it.
    Same(&'b str),
}

impl SecretDraft<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Put(sealed) => &sealed.secret.name,
            Self::Erase(erase) => &erase.name,
            Self::Same(name) => name,
        }
    }
}

/// What the batch does to the tenant's secrets.
#[derive(Debug, Default)]
pub(super) struct VaultDrafts<'b> {
    /// The tenant's key of secrets, where it had none.
    key: Option<&'b VaultKeyPut>,
    secrets: Vec<SecretDraft<'b>>,
}

impl<'b> VaultDrafts<'b> {
    pub(super) fn put_key(&mut self, db: TenantDb<'_>, put: &'b VaultKeyPut) -> Checked {
        let known: Option<Vec<u8>> = match self.key {
            Some(drafted) => Some(drafted.key.to_vec()),
            None => db
                .prepare_cached("SELECT key FROM vault_keys WHERE tenant = ?1")?
                .query_row([db.tenant.as_bytes()], |row| row.get(0))
                .optional()?,
        };
        match (known, &put.replaces) {
            (None, None) => self.key = Some(put),
            (Some(_), None) => {}
            // The batch comes again.
            (Some(known), Some(_)) if known[..] == put.key[..] => {}
            (Some(known), Some(old)) if known[..] == old[..] => self.key = Some(put),
            (_, Some(_)) => {
                return Err(
                    CommitRefusal::Malformed("the tenant's key of secrets is another one".into()).into()
                );
            }
        }
        Ok(())
    }

    pub(super) fn put_secret(&mut self, db: TenantDb<'_>, sealed: &'b SealedSecret) -> Checked {
        let secret = &sealed.secret;
        self.refuse_second_change(&secret.name)?;
        let known = find_secret(db, &secret.name)?;
        if known.as_ref() == Some(sealed) {
            self.secrets.push(SecretDraft::Same(&secret.name));
            return Ok(());
        }
        let found = known.map_or(0, |known| known.secret.version);
        if secret.version.checked_sub(1) != Some(found) {
            return Err(CommitRefusal::SecretVersion { found }.into());
        }
        self.secrets.push(SecretDraft::Put(sealed));
        Ok(())
    }

    pub(super) fn erase_secret(&mut self, db: TenantDb<'_>, erase: &'b SecretErase) -> Checked {
        self.refuse_second_change(&erase.name)?;
        match find_secret(db, &erase.name)? {
            None => self.secrets.push(SecretDraft::Same(&erase.name)),
            Some(known) if known.secret.version == erase.version => {
                self.secrets.push(SecretDraft::Erase(erase));
            }
            Some(known) => return Err(CommitRefusal::SecretVersion { found: known.secret.version }.into()),
        }
        Ok(())
    }

    /// A secret that a batch changed twice would not be found as the first change left it when the batch comes again.
    fn refuse_second_change(&self, name: &str) -> Checked {
        if self.secrets.iter().any(|draft| draft.name() == name) {
            return Err(CommitRefusal::Malformed("a batch changes a secret once".into()).into());
        }
        Ok(())
    }
}

impl TableDraft for VaultDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        if let Some(put) = self.key {
            db.prepare_cached("INSERT OR REPLACE INTO vault_keys (tenant, key) VALUES (?1, ?2)")?
                .execute(params![db.tenant.as_bytes(), &put.key[..]])?;
        }
        for draft in &self.secrets {
            match draft {
                SecretDraft::Same(_) => {}
                SecretDraft::Put(SealedSecret { secret, key, value }) => {
                    db.prepare_cached(
                        "INSERT OR REPLACE INTO secrets \
                         (tenant, name, version, host, placement, created_at, changed_at, key, value) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    )?
                    .execute(params![
                        db.tenant.as_bytes(),
                        secret.name,
                        secret.version,
                        secret.host,
                        secret.placement.to_string(),
                        secret.created_at.as_millisecond(),
                        secret.changed_at.as_millisecond(),
                        &key[..],
                        &value[..],
                    ])?;
                }
                SecretDraft::Erase(erase) => {
                    db.prepare_cached("DELETE FROM secrets WHERE tenant = ?1 AND name = ?2")?
                        .execute(params![db.tenant.as_bytes(), erase.name])?;
                }
            }
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for draft in &self.secrets {
            match draft {
                SecretDraft::Put(SealedSecret { secret, .. }) => {
                    let SecretSummary { name, version, host, changed_at, .. } = secret;
                    let (name, version, host) = (name.clone(), *version, host.clone());
                    acts.note_change(*changed_at, AuditChange::SecretSet { name, version, host });
                }
                SecretDraft::Erase(erase) => {
                    acts.note_wanted(AuditChange::SecretErased { name: erase.name.clone() });
                }
                SecretDraft::Same(_) => {}
            }
        }
        if self.key.is_some_and(|put| put.replaces.is_some()) {
            acts.note_wanted(AuditChange::VaultKeyReplaced);
        }
    }
}

fn find_secret(db: TenantDb<'_>, name: &str) -> rusqlite::Result<Option<SealedSecret>> {
    db.prepare_cached(
        "SELECT name, version, host, placement, created_at, changed_at, key, value FROM secrets \
         WHERE tenant = ?1 AND name = ?2",
    )?
    .query_row(params![db.tenant.as_bytes(), name], read::vault::read_secret)
    .optional()
}
