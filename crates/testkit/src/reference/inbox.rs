//! Inboxes of the reference store, and the keys that name their items.

use std::collections::BTreeMap;

use dromia_contracts::session::{InboxItem, InboxOwner};
use dromia_contracts::store::{InboxPut, ItemKey, KeyedItem};
use dromia_contracts::{ItemId, Scope};
use jiff::Timestamp;

/// What was put, so that the same put is recognised.
#[derive(Debug, Clone)]
pub(super) struct ItemRow {
    pub(super) position: u64,
    pub(super) put: InboxPut,
}

/// Which item a caller's key names.
#[derive(Debug, Clone)]
pub(super) struct KeyRow {
    pub(super) item: ItemId,
    pub(super) owner: InboxOwner,
    pub(super) position: u64,
    pub(super) key: ItemKey,
    /// When the key is free again, if ever.
    pub(super) expires_at: Option<Timestamp>,
}

/// The tenant's inboxes.
#[derive(Debug, Clone, Default)]
pub(super) struct InboxRows {
    /// Items in the order of their positions, which count from 1 without gap.
    pub(super) queues: BTreeMap<InboxOwner, Vec<InboxItem>>,
    pub(super) items: BTreeMap<ItemId, ItemRow>,
    pub(super) keys: BTreeMap<String, KeyRow>,
}

impl InboxRows {
    /// Returns the items of an inbox in order.
    pub(in crate::reference) fn list_items(&self, owner: InboxOwner) -> &[InboxItem] {
        self.queues.get(&owner).map_or(&[], Vec::as_slice)
    }

    pub(in crate::reference) fn find_keyed(
        &self,
        scope: &Scope,
        key: &str,
        at: Timestamp,
    ) -> Option<KeyedItem> {
        let row = self.keys.get(key).filter(|_| scope.agent().is_none())?;
        row.expires_at.is_none_or(|end| at < end).then_some(KeyedItem {
            item: row.item,
            owner: row.owner,
            position: row.position,
            request: row.key.request,
        })
    }
}
