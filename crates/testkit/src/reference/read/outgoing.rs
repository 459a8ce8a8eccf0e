//! Deliveries and the feed, as a scope sees them.

use std::collections::BTreeMap;

use dromia_contracts::delivery::{DeliveryRecord, DeliverySummary, FeedItem, FeedState};
use dromia_contracts::store::{DeliveryFilter, PageRequest};
use dromia_contracts::{DeliveryId, Scope};

use crate::reference::agent::AgentRows;
use crate::reference::deliver::{DeliveryRow, OutboxRows};
use crate::reference::page::page_rows;

impl OutboxRows {
    pub(super) fn find_delivery(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        delivery: DeliveryId,
    ) -> Option<DeliveryRecord> {
        let row = self.rows.get(&delivery).filter(|row| agents.is_seen(scope, row.delivery.source.agent))?;
        let surplus = row.attempts.len().saturating_sub(PageRequest::<DeliveryId>::LIMIT_MAX);
        let attempts = row.attempts.values().skip(surplus).map(|(_, attempt)| attempt.clone()).collect();
        Some(DeliveryRecord { delivery: row.delivery.clone(), body: row.body.clone(), attempts })
    }

    pub(super) fn list_deliveries(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        filter: &DeliveryFilter,
        wanted: PageRequest<DeliveryId>,
    ) -> Vec<DeliverySummary> {
        let found = self.seen_deliveries(scope, agents).map(|row| &row.delivery).rev().filter(|delivery| {
            filter.state.is_none_or(|state| delivery.state == state)
                && filter.target.as_ref().is_none_or(|target| delivery.target == *target)
        });
        page_rows(found.map(|delivery| (delivery.id, delivery.clone())), wanted, true)
    }

    pub(super) fn list_feed(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        after: u64,
        limit: usize,
    ) -> Vec<FeedItem> {
        let numbered = self.seen_deliveries(scope, agents).filter_map(|row| Some((row.delivery.feed?, row)));
        let numbered: BTreeMap<_, _> = numbered.filter(|(number, _)| *number > after).collect();
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (number, row) in numbered.into_iter().take(limit.min(PageRequest::<DeliveryId>::LIMIT_MAX)) {
            bytes += row.body.len();
            items.push(FeedItem { number, delivery: row.delivery.clone(), body: row.body.clone() });
            if bytes > 1 << 20 {
                break;
            }
        }
        items
    }

    pub(super) fn find_feed_state(&self, scope: &Scope) -> FeedState {
        let subscribers = self.subscribers.values().filter(|_| scope.agent().is_none());
        FeedState { last: self.feed_last, subscribers: subscribers.cloned().collect() }
    }

    /// Lists the deliveries that a scope sees.
    fn seen_deliveries<'a>(
        &'a self,
        scope: &'a Scope,
        agents: &'a AgentRows,
    ) -> impl DoubleEndedIterator<Item = &'a DeliveryRow> {
        self.rows.values().filter(move |row| agents.is_seen(scope, row.delivery.source.agent))
    }
}
