//! What sessions said lately, as it was read and checked: items and journals of runs that have ended.
//!
//! A run that has ended never changes, so what was read of it stays true until it is erased. All readers share one
//! such memory. It is bounded by bytes; when it is full it forgets everything and begins again, which costs a
//! reread each and needs no bookkeeping per use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::id::{RunId, SessionId, TenantId};
use dromia_contracts::session::InboxItem;
use dromia_contracts::store::StoredEntry;

use crate::config::RECENT_BYTES_MAX;

/// The items that one run took, and its journal.
#[derive(Debug, Clone)]
pub(crate) struct TailGroup {
    pub(crate) run: RunId,
    pub(crate) items: Vec<InboxItem>,
    pub(crate) entries: Arc<[StoredEntry]>,
    /// The bytes of all bodies.
    pub(crate) bytes: usize,
}

/// About what a row takes in memory beside its fields and its body.
const ROW_BYTES: usize = 256;

impl TailGroup {
    fn byte_weight(&self) -> usize {
        let fields: usize = self.entries.iter().map(|entry| entry.fields.len()).sum();
        self.bytes + fields + (self.items.len() + self.entries.len()) * ROW_BYTES
    }
}

/// Where a group ends: a position in a session's inbox.
type Place = (TenantId, SessionId, u64);

#[derive(Debug, Default)]
pub(crate) struct TailCache {
    state: Mutex<TailCacheState>,
}

#[derive(Debug, Default)]
struct TailCacheState {
    groups: HashMap<Place, Arc<TailGroup>>,
    weight: usize,
    erasures: u64,
}

impl TailCache {
    pub(crate) fn get(&self, place: &Place) -> Option<Arc<TailGroup>> {
        self.lock().groups.get(place).cloned()
    }

    /// Returns how often something was erased so far. To be called before the rows of a group are read.
    pub(crate) fn erasure_count(&self) -> u64 {
        self.lock().erasures
    }

    /// Keeps a group, unless something was erased since its rows were read: it may have been this.
    pub(crate) fn put_group(&self, place: Place, group: &Arc<TailGroup>, erasures: u64) {
        let weight = group.byte_weight();
        let mut state = self.lock();
        if state.erasures != erasures || weight > RECENT_BYTES_MAX {
            return;
        }
        if state.weight + weight > RECENT_BYTES_MAX {
            state.groups.clear();
            state.weight = 0;
        }
        if state.groups.insert(place, Arc::clone(group)).is_none() {
            state.weight += weight;
        }
    }

    /// Forgets everything, because rows are being erased.
    pub(crate) fn forget_groups(&self) {
        let mut state = self.lock();
        *state = TailCacheState { erasures: state.erasures + 1, ..TailCacheState::default() };
    }

    fn lock(&self) -> MutexGuard<'_, TailCacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(position: u64) -> Place {
        (TenantId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]), position)
    }

    fn group(bytes: usize) -> Arc<TailGroup> {
        Arc::new(TailGroup {
            run: RunId::from_bytes([3; 16]),
            items: Vec::new(),
            entries: Arc::default(),
            bytes,
        })
    }

    #[test]
    fn the_tail_cache_never_exceeds_its_bound() {
        let recent = TailCache::default();
        let third = group(RECENT_BYTES_MAX / 3);
        for position in 0..3 {
            recent.put_group(place(position), &third, 0);
        }
        assert!((0..3).all(|position| recent.get(&place(position)).is_some()));
        recent.put_group(place(3), &group(RECENT_BYTES_MAX / 2), 0);
        assert_eq!((0..4).filter(|position| recent.get(&place(*position)).is_some()).count(), 1);
        recent.put_group(place(4), &group(RECENT_BYTES_MAX + 1), 0);
        assert!(recent.get(&place(4)).is_none());
    }

    #[test]
    fn a_tail_read_before_an_erasure_is_not_cached() {
        let recent = TailCache::default();
        let before = recent.erasure_count();
        recent.put_group(place(1), &group(1), before);
        recent.forget_groups();
        assert!(recent.get(&place(1)).is_none());
        recent.put_group(place(1), &group(1), before);
        assert!(recent.get(&place(1)).is_none());
    }
}
