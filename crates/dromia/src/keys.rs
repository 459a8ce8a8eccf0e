//! The keys of providers that are in the vault: whose they are is found at the start, and what cannot be used is told then.
//!
//! They are secrets of the tenant `default`, each bound to its provider's server; the way out opens one for each request. A
//! secret that is set later counts at once, so a start does not fail without it: a server must run for it to be set.

use std::sync::Arc;

use dromia_api::TENANT_DEFAULT;
use dromia_contracts::Actor;
use dromia_contracts::agent::Handle;
use dromia_contracts::store::Store;
use dromia_contracts::vault::SecretUse;
use dromia_models::{ModelsConfig, Provider};

use crate::up::House;

/// Says whose the keys are, and warns of those that cannot be used.
pub(crate) async fn find(house: &House, models: &ModelsConfig) -> anyhow::Result<()> {
    let keyed = models.models.iter().filter_map(|(alias, provider)| match provider {
        Provider::Http(http) => http.vault_key.as_ref().map(|key| (alias, http, key)),
        Provider::Scripted => None,
    });
    let keyed: Vec<_> = keyed.collect();
    if keyed.is_empty() {
        return Ok(());
    }
    let store: Arc<dyn Store> = Arc::clone(&house.store) as _;
    let operator = house.authority.operator();
    let handle: Handle = TENANT_DEFAULT.parse()?;
    let default = store.tenant_by_handle(&operator, &handle).await?;
    let Some(tenant) = default else {
        tracing::warn!(
            "keys of providers are in the vault of the tenant {TENANT_DEFAULT}, which is not there"
        );
        return Ok(());
    };
    let scope = house.authority.scope(tenant.id, Actor::new("provider"));
    models.keys_of.tell(scope.clone());
    for (alias, http, key) in keyed {
        let used = SecretUse { scope: scope.clone(), name: key.name.clone(), slot: http.format.key_slot() };
        if let Err(reason) = house.vault.usable(&used, &http.base_url).await {
            let (secret, next) = (&key.name, "`dromia secret set` makes it, for this server and this place");
            tracing::warn!(%alias, %secret, %reason, next, "the key of a model is in the vault and cannot be used");
        }
    }
    Ok(())
}
