//! A small map whose entries are trusted for a moment: tokens, tenants and agents that were looked up, and tokens that
//! were looked for in vain.
//!
//! Bound: at most `entries_max` entries. When it is full, expired entries go; if none has expired, all go, which
//! costs one lookup each and keeps the cost of an insert flat. What was not found is kept apart from what was, so a flood
//! of wrong tokens evicts no good one; it is forgotten when a token is made, so that works at once. What is forgotten stays so: a lookup that began before, and
//! may have read the row as it was, is not kept ([`Cache::put_since`]).

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: Mutex<CacheEntries<K, V>>,
    entries_max: usize,
    trusted_for: Duration,
}

#[derive(Debug)]
struct CacheEntries<K, V> {
    map: HashMap<K, (V, Instant)>,
    /// How often something was forgotten.
    forgotten: u64,
}

/// A moment in the life of a cache, taken before a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheGeneration(u64);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(entries_max: usize, trusted_for: Duration) -> Self {
        let entries = Mutex::new(CacheEntries { map: HashMap::new(), forgotten: 0 });
        Self { entries, entries_max, trusted_for }
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entries = self.lock();
        let (value, until) = entries.map.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V) {
        self.insert(&mut self.lock(), key, value);
    }

    /// Takes the moment before a lookup.
    pub(crate) fn current_generation(&self) -> CacheGeneration {
        CacheGeneration(self.lock().forgotten)
    }

    /// Keeps what a lookup found, unless something was forgotten since it began.
    pub(crate) fn put_since(&self, mark: CacheGeneration, key: K, value: V) {
        let mut entries = self.lock();
        if entries.forgotten == mark.0 {
            self.insert(&mut entries, key, value);
        }
    }

    fn insert(&self, entries: &mut CacheEntries<K, V>, key: K, value: V) {
        let now = Instant::now();
        let map = &mut entries.map;
        if map.len() >= self.entries_max && !map.contains_key(&key) {
            map.retain(|_, (_, until)| now < *until);
            if map.len() >= self.entries_max {
                map.clear();
            }
        }
        map.insert(key, (value, now + self.trusted_for));
    }

    /// Forgets the values that are meant.
    pub(crate) fn forget_matching(&self, is_meant: impl Fn(&V) -> bool) {
        let mut entries = self.lock();
        entries.forgotten += 1;
        entries.map.retain(|_, (value, _)| !is_meant(value));
    }

    pub(crate) fn forget_all(&self) {
        self.forget_matching(|_| true);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().map.len()
    }

    // A panic under the lock cannot leave the map half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, CacheEntries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_trusted_for_its_time_and_no_longer() {
        let cache = Cache::new(4, Duration::from_secs(1));
        cache.put("key", 7);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(cache.get("key"), Some(7));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(cache.get("key"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_drops_a_value_read_before_it_was_forgotten() {
        let cache = Cache::new(4, Duration::from_secs(1));
        cache.put("kept", 1);
        let before = cache.current_generation();
        cache.forget_matching(|value| *value == 7);
        cache.put_since(before, "late", 7);
        assert_eq!((cache.get("late"), cache.get("kept")), (None, Some(1)));
        cache.put_since(cache.current_generation(), "late", 7);
        assert_eq!(cache.get("late"), Some(7));
        cache.forget_all();
        assert_eq!(cache.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_stays_within_its_bound_and_keeps_the_newest() {
        let cache = Cache::new(8, Duration::from_secs(1));
        for key in 0..1_000 {
            cache.put(key, key);
            assert!(cache.len() <= 8);
            assert_eq!(cache.get(&key), Some(key));
        }
    }
}
