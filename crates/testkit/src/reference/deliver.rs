//! What the mutations of deliveries do, and when they are refused. They are played after the batch's claim.

use std::collections::BTreeMap;

use bytes::Bytes;
use dromia_contracts::channel::RECEIVER_ID_BYTES_MAX;
use dromia_contracts::delivery::{
    DETAIL_BYTES_MAX, DeliveryAttempt, DeliverySource, DeliveryState, DeliverySummary, FeedSubscriber,
    SUBSCRIBER_BYTES_MAX, SUBSCRIBERS_MAX, TARGET_BYTES_MAX,
};
use dromia_contracts::store::{
    CommitRefusal, CursorMove, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, DeliverySettle, DeliveryStart,
    FeedNumber, Mutation, WriteBatch,
};
use dromia_contracts::{DeliveryId, Digest};

use super::lease::LeaseRows;
use super::run::RunRows;

/// A delivery with its message and its attempts, each with who began it.
#[derive(Debug, Clone)]
pub(super) struct DeliveryRow {
    pub(super) delivery: DeliverySummary,
    pub(super) body: Bytes,
    pub(super) attempts: BTreeMap<u32, (Digest, DeliveryAttempt)>,
}

fn refuse_malformed(what: &str) -> Result<(), CommitRefusal> {
    Err(CommitRefusal::Malformed(what.to_owned()))
}

fn refuse_moved(found: &DeliverySummary) -> Result<(), CommitRefusal> {
    let DeliverySummary { state, attempts, redrives, .. } = *found;
    Err(CommitRefusal::DeliveryMoved { found: state, attempts, redrives })
}

/// The tenant's deliveries, and the feed that numbers them.
#[derive(Debug, Clone, Default)]
pub(super) struct OutboxRows {
    pub(super) rows: BTreeMap<DeliveryId, DeliveryRow>,
    /// The last number of the feed.
    pub(super) feed_last: u64,
    pub(super) subscribers: BTreeMap<String, FeedSubscriber>,
}

impl OutboxRows {
    pub(super) fn apply_deliveries(
        &mut self,
        batch: &WriteBatch,
        runs: &RunRows,
        leases: &LeaseRows,
    ) -> Result<(), CommitRefusal> {
        for mutation in &batch.mutations {
            match mutation {
                Mutation::DeliveryPrepare(prepare) => self.prepare_delivery(batch, prepare, runs)?,
                Mutation::DeliveryStart(start) => self.start_attempt(start)?,
                Mutation::DeliverySettle(settle) => self.settle_attempt(settle, leases)?,
                Mutation::DeliveryDrop(drop) => self.drop_delivery(drop)?,
                Mutation::DeliveryRedrive(redrive) => self.redrive_delivery(redrive)?,
                Mutation::FeedNumber(number) => self.number_deliveries(number)?,
                Mutation::CursorMove(to) => self.move_cursor(to)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn delivery_mut(&mut self, id: DeliveryId) -> Result<&mut DeliveryRow, CommitRefusal> {
        self.rows.get_mut(&id).ok_or_else(|| CommitRefusal::NotFound(id.to_string()))
    }

    fn prepare_delivery(
        &mut self,
        batch: &WriteBatch,
        prepare: &DeliveryPrepare,
        runs: &RunRows,
    ) -> Result<(), CommitRefusal> {
        let DeliveryPrepare { delivery: id, target, agent, session, run, seq, at, body } = prepare;
        if target.is_empty() || target.len() > TARGET_BYTES_MAX {
            return refuse_malformed("a target has 1 to 128 bytes");
        }
        if let Some(DeliveryRow { delivery, body: known, .. }) = self.rows.get(id) {
            let same =
                (&delivery.target, delivery.source.agent, delivery.source.session, delivery.source.run)
                    == (target, *agent, *session, *run)
                    && (delivery.source.seq, delivery.prepared_at, known) == (*seq, *at, body);
            return if same { Ok(()) } else { refuse_malformed("the delivery exists already") };
        }
        if !batch.writes_entry(*run, *seq) {
            return refuse_malformed("a message is prepared with the entry that made it");
        }
        let Some(row) = runs.rows.get(run) else {
            let claimed = batch.claim.as_ref().is_some_and(|claim| claim.run == *run);
            return if claimed { Ok(()) } else { Err(CommitRefusal::NotFound(run.to_string())) };
        };
        if (row.agent, row.session) != (*agent, *session) {
            return refuse_malformed("a message names the agent and the session of its run");
        }
        let before = self.rows.values().filter(|row| row.delivery.target == *target);
        let position = before.map(|row| row.delivery.position).max().unwrap_or(0) + 1;
        let delivery = DeliverySummary {
            id: *id,
            target: target.clone(),
            position,
            prepared_at: *at,
            state: DeliveryState::Prepared,
            reason: None,
            attempts: 0,
            redrives: 0,
            spent: 0,
            since: *at,
            due_at: *at,
            holder: None,
            updated_at: *at,
            feed: None,
            source: DeliverySource { agent: *agent, session: *session, run: *run, seq: *seq },
        };
        let row = DeliveryRow { delivery, body: body.clone(), attempts: BTreeMap::new() };
        self.rows.insert(*id, row);
        Ok(())
    }

    fn start_attempt(&mut self, start: &DeliveryStart) -> Result<(), CommitRefusal> {
        let DeliveryStart { delivery: id, attempt, holder, at } = start;
        let row = self.delivery_mut(*id)?;
        if row.attempts.get(attempt).is_some_and(|(by, known)| (by, known.began_at) == (holder, *at)) {
            return Ok(());
        }
        let found = row.delivery.clone();
        if !found.state.may_begin() || found.attempts.checked_add(1) != Some(*attempt) {
            return refuse_moved(&found);
        }
        let before = self.rows.values().map(|row| &row.delivery).filter(|other| {
            other.target == found.target && other.position < found.position && other.state.is_open()
        });
        if let Some(first) = before.min_by_key(|other| other.position) {
            return Err(CommitRefusal::DeliveryBlocked { by: first.id });
        }
        let row = self.delivery_mut(*id)?;
        row.delivery.state = DeliveryState::Sending;
        row.delivery.attempts = *attempt;
        row.delivery.holder = Some(*holder);
        row.delivery.updated_at = *at;
        let begun = DeliveryAttempt { number: *attempt, began_at: *at, ended: None };
        row.attempts.insert(*attempt, (*holder, begun));
        Ok(())
    }

    fn settle_attempt(&mut self, settle: &DeliverySettle, leases: &LeaseRows) -> Result<(), CommitRefusal> {
        let DeliverySettle { delivery: id, attempt, holder: by, end, state, reason, due_at } = settle;
        if matches!(state, DeliveryState::Prepared | DeliveryState::Sending) {
            return refuse_malformed("an attempt ends delivered, failed, dead or unknown");
        }
        if reason.is_some() != (*state == DeliveryState::Dead) {
            return refuse_malformed("a dead message has a reason, and no other has one");
        }
        if end.detail.len() > DETAIL_BYTES_MAX {
            return refuse_malformed("a detail has at most 512 bytes");
        }
        if end.receiver_id.as_ref().is_some_and(|id| id.len() > RECEIVER_ID_BYTES_MAX) {
            return refuse_malformed("a receiver's id has at most 128 bytes");
        }
        let DeliveryRow { delivery, attempts, .. } = self.delivery_mut(*id)?;
        let Some((holder, known)) = attempts.get_mut(attempt) else { return refuse_moved(delivery) };
        if known.ended.as_ref() == Some(end) {
            return Ok(());
        }
        if delivery.state != DeliveryState::Sending || delivery.attempts != *attempt {
            return refuse_moved(delivery);
        }
        leases.check_holder(Some(*holder), *by)?;
        known.ended = Some(end.clone());
        delivery.state = *state;
        delivery.reason = *reason;
        delivery.due_at = *due_at;
        delivery.updated_at = end.at;
        Ok(())
    }

    fn drop_delivery(&mut self, drop: &DeliveryDrop) -> Result<(), CommitRefusal> {
        let found = &mut self.delivery_mut(drop.delivery)?.delivery;
        let same = (found.attempts, found.redrives) == (drop.attempts, drop.redrives);
        let stands = found.state == DeliveryState::Dead
            && (found.reason, found.updated_at) == (Some(drop.reason), drop.at);
        if same && stands {
            return Ok(());
        }
        if !same || !found.state.may_begin() {
            return refuse_moved(found);
        }
        found.state = DeliveryState::Dead;
        found.reason = Some(drop.reason);
        found.updated_at = drop.at;
        Ok(())
    }

    fn redrive_delivery(&mut self, redrive: &DeliveryRedrive) -> Result<(), CommitRefusal> {
        let found = &mut self.delivery_mut(redrive.delivery)?.delivery;
        let next = redrive.redrives.saturating_add(1);
        if (found.redrives, found.since) == (next, redrive.at) {
            return Ok(());
        }
        if found.redrives != redrive.redrives || !found.state.may_be_redriven() {
            return refuse_moved(found);
        }
        found.state = DeliveryState::Prepared;
        found.reason = None;
        found.redrives = next;
        found.spent = found.attempts;
        found.since = redrive.at;
        found.due_at = redrive.at;
        found.updated_at = redrive.at;
        Ok(())
    }

    fn number_deliveries(&mut self, number: &FeedNumber) -> Result<(), CommitRefusal> {
        let FeedNumber { after, deliveries } = number;
        if deliveries.is_empty() {
            return refuse_malformed("somebody is numbered");
        }
        let mut numbers = Vec::new();
        for id in deliveries {
            numbers.push(self.delivery_mut(*id)?.delivery.feed);
        }
        if numbers.iter().copied().eq((after + 1..).map(Some).take(numbers.len())) {
            return Ok(());
        }
        if self.feed_last != *after {
            return Err(CommitRefusal::FeedMoved { found: self.feed_last });
        }
        for id in deliveries {
            let next = self.feed_last + 1;
            let found = &mut self.delivery_mut(*id)?.delivery;
            if found.feed.is_some() {
                return refuse_malformed("the delivery has a number");
            }
            found.feed = Some(next);
            self.feed_last = next;
        }
        Ok(())
    }

    fn move_cursor(&mut self, to: &CursorMove) -> Result<(), CommitRefusal> {
        let CursorMove { subscriber, to: cursor, at } = to;
        if subscriber.is_empty() || subscriber.len() > SUBSCRIBER_BYTES_MAX {
            return refuse_malformed("a subscriber's name has 1 to 128 bytes");
        }
        if *cursor > self.feed_last {
            return Err(CommitRefusal::FeedMoved { found: self.feed_last });
        }
        if let Some(known) = self.subscribers.get_mut(subscriber) {
            if known.cursor < *cursor {
                (known.cursor, known.at) = (*cursor, *at);
            }
            return Ok(());
        }
        if self.subscribers.len() >= SUBSCRIBERS_MAX {
            return refuse_malformed("a feed has at most 256 subscribers");
        }
        let row = FeedSubscriber { name: subscriber.clone(), cursor: *cursor, at: *at };
        self.subscribers.insert(subscriber.clone(), row);
        Ok(())
    }
}
