//! What the outbox does to the store and to a receiver: begin, send, settle, give up, number.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::delivery::{DeadReason, Delivery, DeliveryState};
use dromia_contracts::store::{
    Batch, Commit, DeliveryDrop, DeliverySettle, DeliveryStart, FeedNumber, Mutation, ReadError, Refusal,
};
use dromia_contracts::{DeliveryId, TenantId};
use jiff::Timestamp;

use super::flights::Flight;
use super::policy::{Settled, later, settle};
use super::post::{Letter, Posted};
use super::pump::{Pump, REST};
use crate::channel::Channel;
use crate::signature::{ID_HEADER, Key, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// How long a commit rests that nobody answered, before it is offered again.
const AGAIN: Duration = Duration::from_millis(200);
/// What a receiver gets beyond its time before it is taken for silent, whatever the client below says.
const GRACE: Duration = Duration::from_secs(1);
/// Messages that are numbered in one commit.
const NUMBERED_AT_ONCE: usize = 200;

impl Pump {
    /// Brings one message, gives the flight back and rings.
    pub(super) async fn bring(
        self: Arc<Self>,
        flight: Flight,
        tenant: TenantId,
        delivery: Delivery,
        channel: Arc<Channel>,
    ) {
        if !self.attempt(tenant, &delivery, &channel).await {
            // Whatever stood in the way would stand there still.
            self.rest(REST).await;
        }
        drop(flight);
        self.bell.notify_one();
    }

    /// Makes one attempt; tells whether the target is to be looked at again at once.
    async fn attempt(&self, tenant: TenantId, delivery: &Delivery, channel: &Channel) -> bool {
        let found = self.ports.store.delivery(&self.scope(tenant), delivery.id).await;
        let body = match found {
            Ok(Some(record)) if is_same(&record.delivery, delivery) => record.body,
            // An earlier flight moved it between the look and now: the next look knows better.
            Ok(Some(_)) => return true,
            // It is being erased with its agent.
            Ok(None) => return false,
            Err(ReadError::Damaged { place, problem }) => {
                tracing::error!(%place, %problem, "a message is damaged and is not sent");
                return self.give_up(tenant, delivery, DeadReason::Damaged).await;
            }
            Err(ReadError::Unavailable { cause }) => {
                tracing::warn!(%cause, "a message could not be read");
                return false;
            }
        };
        match self.ports.leaks.find(&self.scope(tenant), &body).await {
            Ok(leaks) if leaks.is_empty() => {}
            Ok(_) => return self.give_up(tenant, delivery, DeadReason::Leak).await,
            Err(fault) => {
                tracing::warn!(
                    code = fault.code.as_str(),
                    "nobody can look whether a message holds a secret"
                );
                return false;
            }
        }
        let attempt = delivery.attempts.saturating_add(1);
        let began_at = self.now();
        let start = DeliveryStart { delivery: delivery.id, attempt, holder: self.life.holder, at: began_at };
        // Durable before a byte leaves: a crash from here on finds an attempt without an outcome.
        if !self.insist(tenant, Mutation::DeliveryStart(start), Patience::UntilStopped).await {
            // It may be refused again, so the next look comes after a rest.
            return false;
        }
        let end = later(began_at, channel.timeout + GRACE);
        let posted = tokio::select! {
            biased;
            posted = self.posted(tenant, delivery.id, began_at, channel, body) => posted,
            () = self.ports.runtime.clock.sleep_until(end) => {
                Posted::Unanswered { cause: "the receiver did not answer in time".to_owned() }
            }
        };
        let chance = chance(self.ports.runtime.ids.secret());
        let settled = settle(self.now(), delivery, channel, &posted, chance);
        self.settled(tenant, delivery, attempt, settled, Patience::Endless).await
    }

    /// Signs a message and posts it. What nobody can sign is not sent: it is tried again, and then waits for a person.
    async fn posted(
        &self,
        tenant: TenantId,
        id: DeliveryId,
        at: Timestamp,
        channel: &Channel,
        body: bytes::Bytes,
    ) -> Posted {
        match channel.key(&*self.ports.keys, &self.scope(tenant)).await {
            Ok(key) => self.ports.post.post(letter(id, at, channel, &key, body)).await,
            Err(problem) => Posted::NotSent { cause: format!("the channel's secret cannot sign: {problem}") },
        }
    }

    /// Makes the outcome of an attempt durable.
    pub(super) async fn settled(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        attempt: u32,
        settled: Settled,
        patience: Patience,
    ) -> bool {
        let Settled { end, state, reason, due_at } = settled;
        let (to, outcome) = (delivery.target.as_str(), end.outcome.as_str());
        tracing::debug!(delivery = %delivery.id, to, attempt, outcome, state = state.as_str(), "an attempt ended");
        let settle = DeliverySettle { delivery: delivery.id, attempt, end, state, reason, due_at };
        let done = self.insist(tenant, Mutation::DeliverySettle(settle), patience).await;
        if done {
            self.counts.count(state);
            if matches!(state, DeliveryState::Dead | DeliveryState::UnknownAfterSend) {
                let id = delivery.id;
                tracing::warn!(delivery = %id, to, state = state.as_str(), "a message waits for a person");
            }
        }
        done
    }

    /// Gives a message up without an attempt; tells whether it was this call that did.
    pub(super) async fn give_up(&self, tenant: TenantId, delivery: &Delivery, reason: DeadReason) -> bool {
        let Delivery { id, attempts, redrives, .. } = *delivery;
        let drop = DeliveryDrop { delivery: id, attempts, redrives, reason, at: self.now() };
        let done = self.insist(tenant, Mutation::DeliveryDrop(drop), Patience::UntilStopped).await;
        if done {
            self.counts.count(DeliveryState::Dead);
            tracing::warn!(delivery = %id, to = delivery.target, reason = reason.as_str(), "a message is given up");
        }
        done
    }

    /// Gives numbers to the messages that have none, in the order of each target. A tenant whose messages take none is passed
    /// over: those after it do not wait for it.
    pub(super) async fn number(&self) -> Result<(), ReadError> {
        let mut passed = None;
        loop {
            let waiting = self.ports.store.unnumbered(&self.operator, passed, NUMBERED_AT_ONCE).await?;
            let Some((tenant, _)) = waiting.first().copied() else { return Ok(()) };
            let of_tenant = waiting.into_iter().take_while(|(of, _)| *of == tenant);
            let deliveries: Vec<DeliveryId> = of_tenant.map(|(_, delivery)| delivery).collect();
            let after = match self.ports.store.feed_state(&self.scope(tenant)).await {
                Ok(feed) => feed.last,
                Err(ReadError::Damaged { place, problem }) => {
                    tracing::warn!(%tenant, %place, %problem, "a feed is damaged and gets no numbers");
                    passed = Some(tenant);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let number = Mutation::FeedNumber(FeedNumber { after, deliveries });
            if !self.insist(tenant, number, Patience::UntilStopped).await {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                // An erasure was quicker, or a row is damaged; the next look finds what is left.
                passed = Some(tenant);
            }
        }
    }

    /// Offers a commit until it is answered; tells whether it is done. What it writes may be offered twice.
    async fn insist(&self, tenant: TenantId, mutation: Mutation, patience: Patience) -> bool {
        let batch = Batch::new(tenant).with(mutation);
        loop {
            match self.ports.store.commit(batch.clone()).await {
                Commit::Done(_) => return true,
                Commit::Refused(Refusal::Damaged { problem }) if patience == Patience::UntilStopped => {
                    // It would be refused for as long as the damage is there, and others wait behind it.
                    tracing::warn!(%tenant, %problem, "the outbox meets damage, and goes on with what is whole");
                    return false;
                }
                Commit::Refused(Refusal::Overloaded | Refusal::ReadOnly { .. } | Refusal::Damaged { .. })
                | Commit::Unknown { .. } => {}
                Commit::Refused(refusal) => {
                    tracing::debug!(%refusal, "the outbox was not the first");
                    return false;
                }
            }
            if patience == Patience::UntilStopped && self.stop.is_cancelled() {
                return false;
            }
            let end = later(self.now(), AGAIN);
            self.ports.runtime.clock.sleep_until(end).await;
        }
    }
}

/// How long a commit is offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the outbox is stopped or meets damage; nothing has left yet, or what did is found by the next look.
    UntilStopped,
    /// As long as the process lives: a message has left, and its outcome must not be lost.
    Endless,
}

/// Tells whether nobody moved a delivery since it was read; a number in the feed moves nothing.
fn is_same(found: &Delivery, read: &Delivery) -> bool {
    (found.state, found.attempts, found.redrives) == (read.state, read.attempts, read.redrives)
}

/// Writes and signs a message. All attempts carry one id and one body; the time and so the signature are the attempt's.
fn letter(id: DeliveryId, at: Timestamp, channel: &Channel, key: &Key, body: bytes::Bytes) -> Letter {
    let (id, timestamp) = (id.to_string(), at.as_second().to_string());
    let signature = key.sign(&id, &timestamp, &body);
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        (ID_HEADER, id),
        (TIMESTAMP_HEADER, timestamp),
        (SIGNATURE_HEADER, signature),
    ];
    Letter { url: channel.url.clone(), headers, body, timeout: channel.timeout }
}

fn chance(secret: [u8; 32]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&secret[..8]);
    u64::from_le_bytes(bytes)
}
