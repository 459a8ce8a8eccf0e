//! A small map whose entries are trusted for a moment: tokens, tenants and agents that were looked up.
//!
//! Bound: at most `entries_max` entries. When it is full, expired entries go; if none has expired, all go, which
//! costs one lookup each and keeps the cost of an insert flat. Only what was found is kept, so a new token works
//! at once and a flood of wrong ones evicts nothing.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
    entries_max: usize,
    trusted_for: Duration,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(entries_max: usize, trusted_for: Duration) -> Self {
        Self { entries: Mutex::default(), entries_max, trusted_for }
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entries = self.lock();
        let (value, until) = entries.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let now = Instant::now();
        let mut entries = self.lock();
        if entries.len() >= self.entries_max && !entries.contains_key(&key) {
            entries.retain(|_, (_, until)| now < *until);
            if entries.len() >= self.entries_max {
                entries.clear();
            }
        }
        entries.insert(key, (value, now + self.trusted_for));
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    // A panic under the lock cannot leave the map half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, (V, Instant)>> {
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
    async fn the_cache_never_grows_beyond_its_bound_and_keeps_the_newest() {
        let cache = Cache::new(8, Duration::from_secs(1));
        for key in 0..1_000 {
            cache.put(key, key);
            assert!(cache.len() <= 8);
            assert_eq!(cache.get(&key), Some(key));
        }
    }
}
