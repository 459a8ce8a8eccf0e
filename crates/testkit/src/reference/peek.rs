//! What the random sequences need to know of the oracle, without a scope and without waiting.

use dromia_contracts::delivery::DeliverySummary;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner};
use dromia_contracts::{DeliveryId, ItemId, SessionId, TenantId};

use super::ReferenceStore;

impl ReferenceStore {
    /// Returns how far a session's inbox is taken, and the items that wait.
    pub(crate) fn waiting_items(&self, tenant: TenantId, session: SessionId) -> (u64, Vec<ItemId>) {
        let state = self.lock_state();
        let Some(rows) = state.tenants.get(&tenant) else { return (0, Vec::new()) };
        let taken = rows.sessions.rows.get(&session).map_or(0, |session| session.head.taken);
        let inbox = rows.inbox.list_items(InboxOwner::Session(session)).iter();
        (taken, inbox.filter(|item| item.position > taken).map(|item| item.id).collect())
    }

    /// Returns a run of a session, counted back from its newest.
    pub(crate) fn run_back(&self, tenant: TenantId, session: SessionId, back: usize) -> Option<RunRecord> {
        let state = self.lock_state();
        let runs = state.tenants.get(&tenant)?.runs.rows.values().rev();
        runs.filter(|run| run.session == session).nth(back).cloned()
    }

    /// Returns the last item of an inbox.
    pub(crate) fn last_item(&self, tenant: TenantId, owner: InboxOwner) -> Option<InboxItem> {
        self.lock_state().tenants.get(&tenant)?.inbox.list_items(owner).last().cloned()
    }

    /// Returns a delivery, counted back from the newest.
    pub(crate) fn delivery_back(&self, tenant: TenantId, back: usize) -> Option<DeliverySummary> {
        let state = self.lock_state();
        let found = state.tenants.get(&tenant)?.outbox.rows.values().rev().nth(back)?;
        Some(found.delivery.clone())
    }

    /// Returns the last number of the feed, and the deliveries without one.
    pub(crate) fn feed_end(&self, tenant: TenantId) -> (u64, Vec<DeliveryId>) {
        let state = self.lock_state();
        let Some(rows) = state.tenants.get(&tenant) else { return (0, Vec::new()) };
        let waiting = rows.outbox.rows.values().filter(|row| row.delivery.feed.is_none());
        (rows.outbox.feed_last, waiting.map(|row| row.delivery.id).collect())
    }

    /// Returns the version of a state entry, 0 for none.
    pub(crate) fn state_version(&self, tenant: TenantId, session: SessionId, name: &str) -> u64 {
        let state = self.lock_state();
        let row =
            state.tenants.get(&tenant).and_then(|rows| rows.sessions.states.get(&(session, name.to_owned())));
        row.map_or(0, |row| row.version)
    }
}
