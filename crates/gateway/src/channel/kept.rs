//! Keys of channels that were opened for what comes in, kept for a second.
//!
//! Whoever reaches the server may send messages that nobody signed, and each must meet the key. So that a stranger cannot have
//! the vault opened for each of them, a channel's is opened once a second at most, and those who come meanwhile wait for that
//! one. What is kept, why there is no key included, is not used behind a change of the vault ([`ChannelKeys::changes`]), nor in
//! any case for longer: a change that nobody counted, because whoever made it went away, counts a second later.
//!
//! There is a place for each channel of the configuration and none for another name. Nothing leaves with what is kept: for what
//! goes out a key is opened anew.

use std::collections::BTreeMap;

use dromia_contracts::{Scope, TenantId};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::{Channel, ChannelKeys, Channels};
use crate::signature::Key;

/// How long a key is used.
const USED: SignedDuration = SignedDuration::from_secs(1);

/// What was opened last for each channel, by its name.
#[derive(Debug)]
pub(crate) struct KeptKeys(BTreeMap<String, Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    found: Result<Key, String>,
    tenant: TenantId,
    /// The count of changes before it was opened.
    changes: u64,
    at: Timestamp,
}

impl KeptKeys {
    /// Makes a place for each channel; nothing is opened.
    pub(crate) fn of(channels: &Channels) -> Self {
        Self(channels.named().map(|(name, _)| (name.to_owned(), Mutex::default())).collect())
    }

    /// Finds the key of a channel in a scope of its tenant, or says why not.
    pub(crate) async fn key(
        &self,
        (name, channel): (&str, &Channel),
        keys: &dyn ChannelKeys,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<Key, String> {
        let Some(place) = self.0.get(name) else { return Err(format!("there is no channel {name}")) };
        let mut place = place.lock().await;
        let changes = keys.changes();
        let is_used = |kept: &&Kept| {
            kept.tenant == scope.tenant()
                && kept.changes == changes
                && now.duration_since(kept.at).abs() < USED
        };
        if let Some(kept) = place.as_ref().filter(is_used) {
            return kept.found.clone();
        }
        let found = channel.key(keys, scope).await;
        *place = Some(Kept { found: found.clone(), tenant: scope.tenant(), changes, at: now });
        found
    }
}
