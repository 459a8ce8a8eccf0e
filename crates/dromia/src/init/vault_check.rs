//! Whether a store that is taken over comes with the key that sealed its secrets.
//!
//! A new key in the place of that one would hide that it is missing, so none is made: the owner of the home puts the
//! file back or says that the secrets stay locked. Nothing is given up here; `dromia secret reset` does that, tenant by
//! tenant.

use std::time::Duration;

use anyhow::Context as _;
use dromia_cli::output::count_noun;
use dromia_contracts::vault::KeyError;
use dromia_guard::vault::tenant_context;
use dromia_store::{StoreConfig, StoreInspector};

use crate::home::Home;
use crate::keyfile::KeyFile;
use crate::runtime;
use crate::system::ExitError;

/// The most tenants whose keys are tried, as `doctor` does.
const TENANTS_MAX: u32 = 256;

/// How long the store may take to tell which keys it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// That nothing in a store opens with the key of its home.
pub(super) struct KeyMismatch {
    error: KeyError,
    tenants: usize,
}

impl KeyMismatch {
    /// Tries the keys of tenants; nothing if one of them opens, or there is none. The store is open, so it has today's tables.
    pub(super) fn find_mismatch(home: &Home) -> anyhow::Result<Option<Self>> {
        let sealed =
            StoreInspector::new(StoreConfig::new(home.store_dir()), PATIENCE).vault_keys(TENANTS_MAX);
        let sealed = sealed.context("failed to check whether the store has secrets")?;
        let file = KeyFile::new(home.vault_key(), runtime::real_runtime().ids);
        let mut shut = None;
        for (tenant, key) in &sealed {
            match file.open_sealed(&tenant_context(*tenant), key) {
                Ok(_) => return Ok(None),
                Err(error) => shut = Some(error),
            }
        }
        Ok(shut.map(|error| Self { error, tenants: sealed.len() }))
    }

    /// Says what is missing and both ways out.
    pub(super) fn mismatch_error(&self) -> anyhow::Error {
        let Self { error, tenants } = self;
        ExitError::conflict_error(format!(
            "{error}: the store has secrets and capabilities of {} that only the original vault.key can open, \
             so init created no new key. Restore that vault.key in the home, readable by its owner only, and \
             run `dromia init` again. If it is lost, `dromia init --locked` creates the home without it; then \
             start `dromia up`, and run `dromia secret reset` for each tenant to discard what it sealed",
            count_noun(*tenants, "tenant")
        ))
    }
}
