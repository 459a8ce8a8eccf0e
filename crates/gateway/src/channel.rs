//! The channels of `dromia.yaml`: who may speak to which agent by a signature, and where its answers are sent.

mod key_cache;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::delivery::WEBHOOK;
use dromia_contracts::{BoxFuture, Scope};

pub(crate) use self::key_cache::KeptKeys;
use crate::signature::WebhookSigningKey;

/// One webhook channel. Everything is checked before it gets here.
#[derive(Debug, Clone)]
pub struct WebhookChannel {
    /// The tenant.
    pub tenant: HandleSlug,
    /// The agent that answers.
    pub agent: HandleSlug,
    /// Where answers are sent.
    pub url: String,
    /// What signs in both directions.
    pub key: ChannelKey,
    /// Whether the receiver takes our id, so that a repeat is counted once.
    pub idempotent: bool,
    /// How far the time of an event may be from now.
    pub tolerance: Duration,
    /// The most attempts at one message.
    pub attempts_max: u32,
    /// The pause after the first failed attempt; it doubles with each.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// The oldest message that is sent.
    pub age_max: Duration,
    /// The most messages that a start sends of those which an earlier life left.
    pub recovery_max: u64,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
}

/// Where the key of a channel is.
#[derive(Debug, Clone)]
pub enum ChannelKey {
    /// Here, from the environment of the server.
    Held(WebhookSigningKey),
    /// In the vault of its tenant, under this name, for the server of the channel's address.
    InVault(String),
    /// Nowhere, for this reason: nothing is signed until an operator changes that.
    Missing(String),
}

/// The port to the keys that are in a vault. A key is opened for one message that leaves, and kept a second for those that come
/// in, as long as nothing changes; so one that was renewed counts at once.
pub trait ChannelKeys: Send + Sync + fmt::Debug {
    /// Opens the secret of a name for signing what is exchanged with the server of an address. The error says why not, for
    /// the operator, and holds nothing of the secret.
    fn open_key<'a>(
        &'a self,
        scope: &'a Scope,
        secret: &'a str,
        url: &'a str,
    ) -> BoxFuture<'a, Result<WebhookSigningKey, String>>;

    /// Counts changes of the vault. A successful change is counted before its caller gets the answer, so a key that was
    /// opened earlier is not used after it.
    fn change_count(&self) -> u64;
}

impl WebhookChannel {
    /// Finds the key in a scope of the channel's tenant, or says why not.
    pub(crate) async fn signing_key(
        &self,
        keys: &dyn ChannelKeys,
        scope: &Scope,
    ) -> Result<WebhookSigningKey, String> {
        match &self.key {
            ChannelKey::Held(key) => Ok(key.clone()),
            ChannelKey::InVault(secret) => keys.open_key(scope, secret, &self.url).await,
            ChannelKey::Missing(reason) => Err(reason.clone()),
        }
    }
}

/// The channels that count, and their keys that were opened for what comes in.
#[derive(Debug)]
pub(crate) struct ServedChannels {
    pub(crate) channels: WebhookChannels,
    pub(crate) kept: KeptKeys,
}

impl From<WebhookChannels> for ServedChannels {
    fn from(channels: WebhookChannels) -> Self {
        Self { kept: KeptKeys::for_channels(&channels), channels }
    }
}

/// All channels, by name.
#[derive(Debug, Clone, Default)]
pub struct WebhookChannels(BTreeMap<String, Arc<WebhookChannel>>);

impl WebhookChannels {
    /// Finds a channel by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<WebhookChannel>> {
        self.0.get(name)
    }

    /// Finds the channel of a target.
    pub fn of_target(&self, target: &str) -> Option<&Arc<WebhookChannel>> {
        self.get(target.strip_prefix(WEBHOOK)?.strip_prefix(':')?)
    }

    /// Lists the channels with their names.
    pub fn named_channels(&self) -> impl Iterator<Item = (&str, &WebhookChannel)> {
        self.0.iter().map(|(name, channel)| (name.as_str(), &**channel))
    }

    /// Lists the tenants that have channels.
    pub fn channel_tenants(&self) -> impl Iterator<Item = &HandleSlug> {
        self.0.values().map(|channel| &channel.tenant)
    }
}

impl FromIterator<(String, WebhookChannel)> for WebhookChannels {
    fn from_iter<I: IntoIterator<Item = (String, WebhookChannel)>>(channels: I) -> Self {
        Self(channels.into_iter().map(|(name, channel)| (name, Arc::new(channel))).collect())
    }
}
