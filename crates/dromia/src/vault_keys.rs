//! The keys of providers and channels that are in the vault: whose they are is found at the start, and what cannot be
//! used is reported then.
//!
//! A provider's is a secret of the tenant `default`, bound to its server; the egress client opens it for each request.
//! A channel's is one of the channel's tenant, bound to the server of its address, and signs; it is opened for each
//! message that leaves, once a second at most for those that come in, and never sent. A secret that is set later counts
//! at once, so a start does not fail without it: a server must run for it to be set.

use std::sync::Arc;
use std::time::Duration;

use dromia_api::TENANT_DEFAULT;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::store::Store;
use dromia_contracts::vault::{KeyError, SecretUse};
use dromia_contracts::{Actor, BoxFuture, Scope};
use dromia_gateway::signature::WebhookSigningKey;
use dromia_gateway::{ChannelKey, ChannelKeys, ChannelSet};
use dromia_guard::StoreVault;
use dromia_guard::vault::{is_locked, tenant_context};
use dromia_models::{ModelProvider, ModelsConfig};
use dromia_store::{OpenError, StoreConfig, StoreInspector};

use crate::home::Home;
use crate::home_services::HomeServices;
use crate::keyfile::KeyFile;

/// The most tenants whose keys are tried at the start, as `doctor` does.
const TENANTS_MAX: u32 = 256;

/// How long the store may take to tell which keys it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to do where secrets do not open.
const LOOK: &str =
    "`dromia doctor --only vault` says whether vault.key is the right one, and which secrets do not open";

/// Says once, at the start, that secrets of the home do not open: the first answer that is refused would come too late.
pub(crate) async fn tell_locked(home: &Home, services: &HomeServices) {
    let look = StoreInspector::new(StoreConfig::new(home.store_dir()), PATIENCE);
    let file = KeyFile::new(home.vault_key(), Arc::clone(&services.runtime.ids));
    let looked = tokio::task::spawn_blocking(move || {
        let sealed = look.vault_keys(TENANTS_MAX)?;
        let shut =
            sealed.iter().filter_map(|(tenant, key)| file.open_sealed(&tenant_context(*tenant), key).err());
        Ok::<Vec<KeyError>, OpenError>(shut.collect())
    });
    match looked.await {
        Ok(Ok(shut)) => {
            if let Some(error) = shut.first() {
                tracing::error!(
                    %error,
                    tenants = shut.len(),
                    next = LOOK,
                    "vault.key does not open secrets that were sealed with it: their tenants cannot use \
                     secrets, and tenants with secrets cannot send answers"
                );
            }
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to check whether the secrets of this home open");
        }
        // The looking itself broke, which its own panic tells.
        Err(_) => {}
    }
}

/// Says whose the keys of providers are, and warns of those that cannot be used.
pub(crate) async fn find_provider_scopes(
    services: &HomeServices,
    models: &ModelsConfig,
) -> anyhow::Result<()> {
    let keyed = models.models.iter().filter_map(|(alias, provider)| match provider {
        ModelProvider::Http(http) => http.vault_key.as_ref().map(|key| (alias, http, key)),
        ModelProvider::Scripted | ModelProvider::Unusable(_) => None,
    });
    let keyed: Vec<_> = keyed.collect();
    if keyed.is_empty() {
        return Ok(());
    }
    let Some(scope) = tenant_scope(services, &TENANT_DEFAULT.parse()?, "provider").await? else {
        tracing::warn!(
            "keys of providers are in the vault of the tenant {TENANT_DEFAULT}, but there is no such tenant"
        );
        return Ok(());
    };
    models.keys_of.set_scope(scope.clone());
    for (alias, http, key) in keyed {
        let used = SecretUse { scope: scope.clone(), name: key.name.clone(), slot: http.format.key_slot() };
        if let Err(reason) = services.vault.check_usable(&used, &http.base_url).await {
            let secret = &key.name;
            let next = next(&reason, "`dromia secret set` creates it for this server and this placement");
            tracing::warn!(%alias, %secret, %reason, next, "the key of a model is in the vault, but it \
                                                            cannot be used");
        }
    }
    Ok(())
}

/// Warns of secrets of channels that cannot be used.
pub(crate) async fn check_channel_keys(services: &HomeServices, channels: &ChannelSet) -> anyhow::Result<()> {
    for (name, channel) in channels.webhook_channels() {
        let ChannelKey::InVault(secret) = &channel.key else { continue };
        let set =
            "`dromia secret set --placement signature` creates it for the server of the channel's address";
        let wrong = match tenant_scope(services, &channel.tenant, "channel").await? {
            None => {
                Some((format!("there is no tenant {}", channel.tenant), "`dromia tenant create` creates it"))
            }
            Some(scope) => {
                let opened =
                    services.vault.signing_key::<WebhookSigningKey>(&scope, secret, &channel.url).await;
                opened.err().map(|reason| {
                    let next = next(&reason, set);
                    (reason, next)
                })
            }
        };
        if let Some((reason, next)) = wrong {
            tracing::warn!(%name, %secret, %reason, next, "the secret of a channel is in the vault, but it \
                                                           cannot be used");
        }
    }
    Ok(())
}

/// What to do about a secret that cannot be used. One that does not open is no better for being set: the vault refuses that
/// as well, or the others stay as they are.
fn next(reason: &str, set: &'static str) -> &'static str {
    if is_locked(reason) { LOOK } else { set }
}

/// The scope in which a tenant's secrets are opened, if the tenant is there.
async fn tenant_scope(
    services: &HomeServices,
    tenant: &HandleSlug,
    of: &str,
) -> anyhow::Result<Option<Scope>> {
    let store: Arc<dyn Store> = Arc::clone(&services.store) as _;
    let found = store.tenant_by_handle(&services.authority.issue_operator(), tenant).await?;
    Ok(found.map(|tenant| services.authority.issue_scope(tenant.id, Actor::new(of))))
}

/// Opens the keys of channels in the vault.
#[derive(Debug)]
pub(crate) struct VaultKeys(pub(crate) Arc<StoreVault>);

impl ChannelKeys for VaultKeys {
    fn open_key<'a>(
        &'a self,
        scope: &'a Scope,
        secret: &'a str,
        url: &'a str,
    ) -> BoxFuture<'a, Result<WebhookSigningKey, String>> {
        Box::pin(self.0.signing_key(scope, secret, url))
    }

    fn change_count(&self) -> u64 {
        self.0.change_count()
    }
}
