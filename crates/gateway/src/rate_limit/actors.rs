//! How often one actor may submit an input to a tenant's agents: a bucket for each actor of each tenant.
//!
//! Bound: [`ACTORS_MAX`] buckets. An actor with a full bucket is as good as one that was never seen, so full buckets
//! are forgotten first, and after them those with the most left: a caller who makes up names by the thousand pushes out
//! his own new names, and not the one that is held back. A restart forgets them all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use dromia_contracts::{Actor, TenantId};
use jiff::Timestamp;

use super::bucket::{RefillRate, TokenBucket};
use crate::config::GatewayConfig;

/// The most actors whose buckets are remembered.
const ACTORS_MAX: usize = 10_000;

/// The part of the remembered actors that goes when the table is full: one pass over all of them frees so many entries.
const FORGOTTEN: usize = ACTORS_MAX / 4;

type Buckets = HashMap<(TenantId, Actor), TokenBucket>;

/// How often actors may submit an input.
#[derive(Debug)]
pub(crate) struct ActorRateLimiter {
    /// The rate, if there is one.
    pace: RwLock<Option<RefillRate>>,
    buckets: Mutex<Buckets>,
}

impl ActorRateLimiter {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self { pace: RwLock::new(configured_pace(config)), buckets: Mutex::default() }
    }

    /// Lets another rate count from the next input on.
    pub(crate) fn replace_pace(&self, config: &GatewayConfig) {
        *self.pace.write().unwrap_or_else(PoisonError::into_inner) = configured_pace(config);
    }

    fn pace(&self) -> Option<RefillRate> {
        *self.pace.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an input out of an actor's bucket, or says in how many milliseconds there will be one.
    pub(crate) fn take_input(&self, tenant: TenantId, actor: &Actor, now: Timestamp) -> Result<(), u64> {
        let Some(pace) = self.pace() else { return Ok(()) };
        let (mut buckets, now_ms) = (self.lock(), now.as_millisecond());
        let key = (tenant, actor.clone());
        if buckets.len() >= ACTORS_MAX && !buckets.contains_key(&key) {
            make_room(&mut buckets, pace, now_ms);
        }
        buckets.entry(key).or_insert(TokenBucket::new_full(pace, now_ms)).take_one(pace, now_ms)
    }

    /// Puts an input back that turned out to be none.
    pub(crate) fn give_back(&self, tenant: TenantId, actor: &Actor) {
        let Some(pace) = self.pace() else { return };
        if let Some(bucket) = self.lock().get_mut(&(tenant, actor.clone())) {
            bucket.give_back(pace);
        }
    }

    // A bucket is two numbers that are written under the lock, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn configured_pace(config: &GatewayConfig) -> Option<RefillRate> {
    let (rate, burst) = (config.callers.actor_inputs_per_minute_max, config.callers.actor_inputs_burst_max);
    (rate > 0).then(|| RefillRate::per_minute(rate.into(), burst.into()))
}

/// Forgets full buckets and, where that is not enough, those with the most left, until [`FORGOTTEN`] are gone.
fn make_room(buckets: &mut Buckets, pace: RefillRate, now_ms: i64) {
    buckets.retain(|_, bucket| {
        bucket.refill(pace, now_ms);
        bucket.level < pace.bucket_capacity()
    });
    let kept = ACTORS_MAX - FORGOTTEN;
    if buckets.len() <= kept {
        return;
    }
    let mut levels: Vec<u64> = buckets.values().map(|bucket| bucket.level).collect();
    let surplus = buckets.len() - kept;
    // The level that the last one to be forgotten has; of those that have it too, as many go as are to go.
    let (_, least, _) = levels.select_nth_unstable(kept);
    let least = *least;
    let mut tied = surplus - buckets.values().filter(|bucket| bucket.level > least).count();
    buckets.retain(|_, bucket| {
        let is_tied = bucket.level == least && tied > 0;
        tied -= usize::from(is_tied);
        !is_tied && bucket.level <= least
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actors(rate: u32, burst: u32) -> ActorRateLimiter {
        let (actor_inputs_per_minute_max, actor_inputs_burst_max) = (rate, burst);
        let bounds = GatewayConfig {
            callers: crate::config::CallerLimits {
                actor_inputs_per_minute_max,
                actor_inputs_burst_max,
                ..GatewayConfig::default().callers
            },
            ..GatewayConfig::default()
        };
        ActorRateLimiter::new(&bounds)
    }

    fn tenant(number: u8) -> TenantId {
        TenantId::from_bytes([number; 16])
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).expect("a time")
    }

    #[test]
    fn each_actor_of_each_tenant_has_its_own_rate() {
        let (actors, ada, bob) = (actors(2, 1), Actor::new("webhook:in/ada"), Actor::new("webhook:in/bob"));
        assert_eq!(actors.take_input(tenant(1), &ada, at(0)), Ok(()));
        assert_eq!(actors.take_input(tenant(1), &ada, at(0)), Err(30_000));
        assert_eq!(actors.take_input(tenant(1), &bob, at(0)), Ok(()));
        assert_eq!(actors.take_input(tenant(2), &ada, at(0)), Ok(()));
        assert_eq!(actors.take_input(tenant(1), &ada, at(29_999)), Err(1));
        assert_eq!(actors.take_input(tenant(1), &ada, at(30_000)), Ok(()));
        actors.give_back(tenant(1), &ada);
        assert_eq!(actors.take_input(tenant(1), &ada, at(30_000)), Ok(()));
        assert_eq!(actors.take_input(tenant(1), &ada, at(30_000)), Err(30_000));
    }

    #[test]
    fn without_a_rate_no_actor_is_limited_or_remembered() {
        let (actors, ada) = (actors(0, 1), Actor::new("token:ci"));
        for _ in 0..100 {
            assert_eq!(actors.take_input(tenant(1), &ada, at(0)), Ok(()));
        }
        actors.give_back(tenant(1), &ada);
        assert!(actors.lock().is_empty());
    }

    #[test]
    fn the_actor_table_is_bounded_and_keeps_limited_actors() {
        let (actors, spender) = (actors(1, 3), Actor::new("webhook:in/spender"));
        let name = |number: u32| Actor::new(&format!("webhook:in/{number}"));
        for _ in 0..3 {
            assert_eq!(actors.take_input(tenant(1), &spender, at(0)), Ok(()));
        }
        for number in 0..35_000 {
            assert_eq!(actors.take_input(tenant(1), &name(number), at(1)), Ok(()));
            assert!(actors.lock().len() <= ACTORS_MAX);
        }
        assert!(actors.lock().len() > ACTORS_MAX - FORGOTTEN, "more are forgotten than there is need for");
        assert_eq!(actors.take_input(tenant(1), &spender, at(2)), Err(59_998));
        // Of those that are equal some go, and who was never seen finds a full bucket.
        assert_eq!(actors.take_input(tenant(1), &name(40_000), at(2)), Ok(()));
    }

    #[test]
    fn eviction_takes_full_buckets_first_and_then_the_fullest() {
        let pace = RefillRate::per_minute(1, 3);
        let mut buckets = Buckets::new();
        let name = |number: usize| (tenant(1), Actor::new(&number.to_string()));
        for number in 0..ACTORS_MAX {
            // One in a hundred is full; the others have what their number says.
            let level = if number % 100 == 0 { pace.bucket_capacity() } else { number as u64 };
            buckets.insert(name(number), TokenBucket { level, at_ms: 0 });
        }
        make_room(&mut buckets, pace, 0);
        assert_eq!(buckets.len(), ACTORS_MAX - FORGOTTEN);
        assert!((1..100).all(|number| buckets.contains_key(&name(number))), "one in debt was forgotten");
        assert!((0..ACTORS_MAX).step_by(100).all(|number| !buckets.contains_key(&name(number))));
        let fullest = buckets.values().map(|bucket| bucket.level).max();
        assert!(fullest < Some(7_600), "{fullest:?}");
        for bucket in buckets.values_mut() {
            bucket.level = pace.bucket_capacity();
        }
        make_room(&mut buckets, pace, 0);
        assert!(buckets.is_empty());
    }
}
