//! Keys of channels that were opened for what comes in, kept for a second.
//!
//! A client that reaches the server may send any number of unsigned messages, and each must be checked with the key. So
//! that a stranger cannot have the vault opened for each of them, a channel's key is opened once a second at most, and
//! requests that come meanwhile wait for that one. The cached result, which may be the reason why there is no key, is
//! not used after a change of the vault ([`ChannelKeys::change_count`]) that came after the opening began, and never
//! longer than a second after it ended: that bounds the effect of a change that was not counted because its caller hung
//! up. The second begins after the opening: with a vault that takes longer than a second, the waiting requests would
//! otherwise open the key one after another.
//!
//! There is an entry for each channel of the configuration and none for another name. The cache serves incoming
//! messages only: for an outgoing one the key is opened each time.

use std::collections::BTreeMap;

use dromia_contracts::runtime::Clock;
use dromia_contracts::{Scope, TenantId};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::{ChannelKeys, ChannelSet, WebhookChannel};
use crate::signature::WebhookSigningKey;

/// How long a key is used.
const USED: SignedDuration = SignedDuration::from_secs(1);

/// What was opened last for each channel, by its name.
#[derive(Debug)]
pub(crate) struct KeptKeys(BTreeMap<String, Mutex<Option<CachedChannelKey>>>);

#[derive(Debug)]
struct CachedChannelKey {
    found: Result<WebhookSigningKey, String>,
    tenant: TenantId,
    /// The count of changes before it was opened.
    changes: u64,
    /// When it had been opened.
    at: Timestamp,
}

impl KeptKeys {
    /// Makes a place for each channel; nothing is opened.
    pub(crate) fn for_channels(channels: &ChannelSet) -> Self {
        Self(channels.webhook_channels().map(|(name, _)| (name.to_owned(), Mutex::default())).collect())
    }

    /// Finds the key of a channel in a scope of its tenant, or says why not.
    pub(crate) async fn find_key(
        &self,
        (name, channel): (&str, &WebhookChannel),
        keys: &dyn ChannelKeys,
        scope: &Scope,
        clock: &dyn Clock,
    ) -> Result<WebhookSigningKey, String> {
        let Some(place) = self.0.get(name) else { return Err(format!("there is no channel {name}")) };
        let mut place = place.lock().await;
        // Under the lock: a request that waited for it finds the key that was opened meanwhile.
        let (changes, now) = (keys.change_count(), clock.now());
        let is_used = |kept: &&CachedChannelKey| {
            kept.tenant == scope.tenant()
                && kept.changes == changes
                && now.duration_since(kept.at).abs() < USED
        };
        if let Some(kept) = place.as_ref().filter(is_used) {
            return kept.found.clone();
        }
        let found = channel.signing_key(keys, scope).await;
        *place =
            Some(CachedChannelKey { found: found.clone(), tenant: scope.tenant(), changes, at: clock.now() });
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    use dromia_contracts::{Actor, BoxFuture, ScopeAuthority};
    use dromia_testkit::runtime::ManualClock;

    use super::super::ChannelKey;
    use super::*;

    const SECRET: &str = "whsec_dmF1bHRlZC12YXVsdGVkLXZhdWx0ZWQtdmF1bHRlZA==";

    /// A vault that takes three seconds, during which others come.
    #[derive(Debug, Default)]
    struct Slow {
        clock: ManualClock,
        opened: AtomicUsize,
        changes: AtomicU64,
        /// How many changes there are while it is opened.
        changing: AtomicU64,
    }

    impl ChannelKeys for Slow {
        fn open_key<'a>(
            &'a self,
            _: &'a Scope,
            _: &'a str,
            _: &'a str,
        ) -> BoxFuture<'a, Result<WebhookSigningKey, String>> {
            Box::pin(async move {
                self.opened.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                self.clock.advance(Duration::from_secs(3));
                self.changes.fetch_add(self.changing.swap(0, Ordering::SeqCst), Ordering::SeqCst);
                Ok(SECRET.parse().unwrap())
            })
        }

        fn change_count(&self) -> u64 {
            self.changes.load(Ordering::SeqCst)
        }
    }

    fn channel() -> WebhookChannel {
        WebhookChannel {
            tenant: "default".parse().unwrap(),
            agent: "ops".parse().unwrap(),
            when_busy: None,
            url: "http://receiver.example/hook".to_owned(),
            key: ChannelKey::InVault("signing".to_owned()),
            idempotent: true,
            tolerance: Duration::from_mins(5),
            attempts_max: 3,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_mins(1),
            age_max: Duration::from_hours(24),
            recovery_max: 1_000,
            timeout: Duration::from_secs(15),
        }
    }

    #[tokio::test]
    async fn concurrent_key_lookups_open_a_slow_vault_once() {
        let (channel, slow) = (channel(), Slow::default());
        let kept = KeptKeys::for_channels(&ChannelSet::from_iter([("orders".to_owned(), channel.clone())]));
        let scope =
            ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("channel:orders"));
        let ask = || kept.find_key(("orders", &channel), &slow, &scope, &slow.clock);
        let opened = || slow.opened.load(Ordering::SeqCst);
        let (first, second, third) = tokio::join!(ask(), ask(), ask());
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert_eq!(opened(), 1, "those who waited meet the same key");
        slow.clock.advance(Duration::from_millis(999));
        assert!(ask().await.is_ok());
        assert_eq!(opened(), 1, "its second began when it was there");
        slow.clock.advance(Duration::from_millis(1));
        assert!(ask().await.is_ok());
        assert_eq!(opened(), 2, "and is over");
        // What changed while it was opened may not be in it.
        slow.clock.advance(Duration::from_secs(1));
        slow.changing.store(1, Ordering::SeqCst);
        let (first, second, third) = tokio::join!(ask(), ask(), ask());
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert_eq!(opened(), 4, "once before the change, and once behind it");
    }
}
