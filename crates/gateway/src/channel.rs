//! The channels of `dromia.yaml`: who may speak to which agent, and where its answers are sent.
//!
//! A channel is its settings ([`ChannelConfig`]) and an adapter behind the port [`Channel`]: `webhook` and `file`. Another
//! platform is a module here, a variant of [`ChannelConfig`] and its line in [`CHANNEL_PLATFORMS`].
//!
//! [`CHANNEL_PLATFORMS`]: dromia_contracts::channel::CHANNEL_PLATFORMS

mod file;
mod follower;
mod key_cache;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::channel::{Channel, ChannelTarget, DeliveryClass, FILE, WEBHOOK};
use dromia_contracts::runtime::IdSource;
use dromia_contracts::{BoxFuture, Scope};

pub use self::file::{FileAdapter, FileChannel};
pub(crate) use self::follower::{follow_channels, submit_message};
pub(crate) use self::key_cache::KeptKeys;
pub use self::webhook::{WebhookAdapter, WebhookChannel};
use crate::outbox::WebhookSender;
use crate::signature::WebhookSigningKey;

/// How long a message is tried, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryTerms {
    /// What a repeat does at the receiver.
    pub class: DeliveryClass,
    /// The most attempts at one message.
    pub attempts_max: u32,
    /// The pause after the first failed attempt; it doubles with each.
    pub backoff: Duration,
    /// The longest pause that we choose; a receiver may ask for a longer one.
    pub backoff_max: Duration,
    /// The oldest message that is sent.
    pub age_max: Duration,
    /// The most messages that a start sends of those which an earlier life left.
    pub recovery_max: u64,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
}

/// A channel as the configuration describes it.
#[derive(Debug, Clone)]
pub enum ChannelConfig {
    /// Signed HTTP requests in both directions.
    Webhook(WebhookChannel),
    /// A file that is followed and one that is appended to.
    File(FileChannel),
}

impl ChannelConfig {
    /// Returns the platform of its sessions.
    pub fn platform(&self) -> &'static str {
        match self {
            Self::Webhook(_) => WEBHOOK,
            Self::File(_) => FILE,
        }
    }

    /// Returns the tenant and the agent that answers.
    pub fn owner(&self) -> (&HandleSlug, &HandleSlug) {
        match self {
            Self::Webhook(channel) => (&channel.tenant, &channel.agent),
            Self::File(channel) => (&channel.tenant, &channel.agent),
        }
    }

    /// Returns what its messages do while a turn runs, if that is not left to the agent.
    pub fn when_busy(&self) -> Option<BusyPolicy> {
        match self {
            Self::Webhook(channel) => channel.when_busy,
            Self::File(channel) => channel.when_busy,
        }
    }

    /// Returns how its messages are tried.
    pub fn delivery_terms(&self) -> DeliveryTerms {
        match self {
            Self::Webhook(channel) => channel.delivery_terms(),
            Self::File(channel) => channel.delivery_terms(),
        }
    }

    /// Returns the webhook that it is, if it is one.
    pub fn as_webhook(&self) -> Option<&WebhookChannel> {
        match self {
            Self::Webhook(channel) => Some(channel),
            Self::File(_) => None,
        }
    }
}

impl From<WebhookChannel> for ChannelConfig {
    fn from(channel: WebhookChannel) -> Self {
        Self::Webhook(channel)
    }
}

impl From<FileChannel> for ChannelConfig {
    fn from(channel: FileChannel) -> Self {
        Self::File(channel)
    }
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

/// What the adapters of channels reach the world through.
#[derive(Debug, Clone)]
pub struct AdapterPorts {
    /// The way out of webhooks.
    pub post: Arc<dyn WebhookSender>,
    /// The keys of channels that are in a vault.
    pub keys: Arc<dyn ChannelKeys>,
}

/// A channel that counts: its settings and its adapter.
#[derive(Debug)]
pub(crate) struct ServedChannel {
    pub(crate) config: ChannelConfig,
    pub(crate) terms: DeliveryTerms,
    pub(crate) port: Arc<dyn Channel>,
}

/// The channels that count, and their keys that were opened for what comes in.
#[derive(Debug)]
pub(crate) struct ServedChannels {
    channels: BTreeMap<String, Arc<ServedChannel>>,
    pub(crate) kept: KeptKeys,
}

impl ServedChannels {
    /// Builds the adapter of each channel.
    pub(crate) fn build(set: ChannelSet, ports: &AdapterPorts, ids: &Arc<dyn IdSource>) -> Self {
        let kept = KeptKeys::for_channels(&set);
        let served = |config: ChannelConfig| {
            let port: Arc<dyn Channel> = match &config {
                ChannelConfig::Webhook(channel) => {
                    Arc::new(WebhookAdapter::new(channel.clone(), ports.clone()))
                }
                ChannelConfig::File(channel) => Arc::new(FileAdapter::new(channel.clone(), Arc::clone(ids))),
            };
            Arc::new(ServedChannel { terms: config.delivery_terms(), config, port })
        };
        Self { channels: set.0.into_iter().map(|(name, config)| (name, served(config))).collect(), kept }
    }

    /// Finds a channel by its name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<ServedChannel>> {
        self.channels.get(name)
    }

    /// Finds the channel of a target. One of another platform is none: its receiver is another.
    pub(crate) fn of_target(&self, target: &str) -> Option<&Arc<ServedChannel>> {
        let ChannelTarget { platform, account, .. } = ChannelTarget::parse(target)?;
        self.get(account).filter(|channel| channel.config.platform() == platform)
    }

    /// Lists the channels with their names.
    pub(crate) fn named_channels(&self) -> impl Iterator<Item = (&str, &Arc<ServedChannel>)> {
        self.channels.iter().map(|(name, channel)| (name.as_str(), channel))
    }
}

/// All channels of a configuration, by name. Everything is checked before it gets here.
#[derive(Debug, Clone, Default)]
pub struct ChannelSet(BTreeMap<String, ChannelConfig>);

impl ChannelSet {
    /// Lists the channels with their names.
    pub fn named_channels(&self) -> impl Iterator<Item = (&str, &ChannelConfig)> {
        self.0.iter().map(|(name, channel)| (name.as_str(), channel))
    }

    /// Puts the directories of file channels that are written as relative below a directory.
    #[must_use]
    pub fn relative_to(mut self, root: &Path) -> Self {
        for channel in self.0.values_mut() {
            if let ChannelConfig::File(file) = channel {
                file.directory = root.join(&file.directory);
            }
        }
        self
    }

    /// Lists the webhook channels with their names.
    pub fn webhook_channels(&self) -> impl Iterator<Item = (&str, &WebhookChannel)> {
        self.named_channels().filter_map(|(name, channel)| Some((name, channel.as_webhook()?)))
    }
}

impl<C: Into<ChannelConfig>> FromIterator<(String, C)> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = (String, C)>>(channels: I) -> Self {
        Self(channels.into_iter().map(|(name, channel)| (name, channel.into())).collect())
    }
}
