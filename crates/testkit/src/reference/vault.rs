//! Secrets of the reference store.

use std::collections::BTreeMap;

use bytes::Bytes;
use dromia_contracts::store::{CommitRefusal, SecretErase, VaultKeyPut};
use dromia_contracts::vault::SealedSecret;

/// The tenant's secrets.
#[derive(Debug, Clone, Default)]
pub(super) struct VaultRows {
    /// The key of secrets, as it was sealed.
    pub(super) key: Option<Bytes>,
    pub(super) secrets: BTreeMap<String, SealedSecret>,
}

impl VaultRows {
    pub(in crate::reference) fn put_key(&mut self, put: &VaultKeyPut) -> Result<(), CommitRefusal> {
        match (&self.key, &put.replaces) {
            (None, None) => self.key = Some(put.key.clone()),
            (Some(_), None) => {}
            (Some(known), Some(_)) if *known == put.key => {}
            (Some(known), Some(old)) if known == old => self.key = Some(put.key.clone()),
            (_, Some(_)) => {
                return Err(CommitRefusal::Malformed("the tenant's key of secrets is another one".into()));
            }
        }
        Ok(())
    }

    pub(in crate::reference) fn put_secret(&mut self, sealed: &SealedSecret) -> Result<(), CommitRefusal> {
        let known = self.secrets.get(&sealed.secret.name);
        if known == Some(sealed) {
            return Ok(());
        }
        let found = known.map_or(0, |known| known.secret.version);
        if sealed.secret.version.checked_sub(1) != Some(found) {
            return Err(CommitRefusal::SecretVersion { found });
        }
        self.secrets.insert(sealed.secret.name.clone(), sealed.clone());
        Ok(())
    }

    pub(in crate::reference) fn erase_secret(&mut self, erase: &SecretErase) -> Result<(), CommitRefusal> {
        match self.secrets.get(&erase.name).map(|known| known.secret.version) {
            Some(found) if found != erase.version => Err(CommitRefusal::SecretVersion { found }),
            Some(_) | None => {
                self.secrets.remove(&erase.name);
                Ok(())
            }
        }
    }
}
