//! A map that never grows past its bound. When it is full it forgets everything and begins again, which costs
//! a reread each and needs no bookkeeping per use.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// A cache of at most `max` values.
#[derive(Debug)]
pub(crate) struct BoundedCache<K, V> {
    max: usize,
    map: Mutex<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Clone> BoundedCache<K, V> {
    /// Makes an empty cache.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, map: Mutex::new(HashMap::new()) }
    }

    /// Returns a copy of a value.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps a value.
    pub(crate) fn insert(&self, key: K, value: V) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= self.max && !map.contains_key(&key) {
            map.clear();
        }
        map.insert(key, value);
    }

    /// Forgets every value that is not wanted any more.
    pub(crate) fn retain(&self, wanted: impl Fn(&K, &V) -> bool) {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, value| wanted(key, value));
    }
}
