//! What the outbox does to the store and to a receiver: begin, send, settle, give up, number.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::channel::{DeliveryClass, DeliveryOutcome, OutgoingMessage};
use dromia_contracts::delivery::{DeadReason, DeliveryState, DeliverySummary};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, DeliveryDrop, DeliverySettle, DeliveryStart, FeedNumber, Mutation,
    ReadError, WriteBatch,
};
use dromia_contracts::{DeliveryId, TenantId};

use super::in_flight::InFlightPermit;
use super::policy::{AttemptSettlement, settle_attempt};
use super::pump::{CommitRetryLimit, OutboxPump, REST};
use crate::channel::ServedChannel;

/// The pause after a commit that the store did not answer, before it is offered again.
const AGAIN: Duration = Duration::from_millis(200);
/// What a receiver gets beyond its time before it is taken for silent, whatever the client below says.
const GRACE: Duration = Duration::from_secs(1);
/// Messages that are numbered in one commit.
const NUMBERED_AT_ONCE: usize = 200;

impl OutboxPump {
    /// Delivers one message, gives the flight back and wakes the pump.
    pub(super) async fn deliver_message(
        self: Arc<Self>,
        flight: InFlightPermit,
        tenant: TenantId,
        delivery: DeliverySummary,
        channel: Arc<ServedChannel>,
    ) {
        let target = delivery.target.clone();
        if !self.attempt_delivery(tenant, &delivery, &channel).await {
            // The obstacle would still be there.
            self.rest_for(REST).await;
        }
        drop(flight);
        self.touched.touch_target((tenant, target));
        self.bell.notify_one();
    }

    /// Makes one attempt; tells whether the target is to be looked at again at once.
    async fn attempt_delivery(
        &self,
        tenant: TenantId,
        delivery: &DeliverySummary,
        channel: &ServedChannel,
    ) -> bool {
        let found = self.ports.store.delivery_record(&self.tenant_scope(tenant), delivery.id).await;
        let body = match found {
            Ok(Some(record)) if is_same(&record.delivery, delivery) => record.body,
            // An earlier flight moved it between the look and now: the next look knows better.
            Ok(Some(_)) => return true,
            // It is being erased with its agent.
            Ok(None) => return false,
            Err(ReadError::Damaged { place, problem }) => {
                tracing::error!(%place, %problem, "a message is damaged, so it is not sent");
                return self.give_up(tenant, delivery, DeadReason::Damaged).await;
            }
            Err(ReadError::Unavailable { cause }) => {
                tracing::warn!(%cause, "failed to read a message");
                return false;
            }
        };
        match self.ports.leaks.scan_text(&self.tenant_scope(tenant), &body).await {
            Ok(leaks) if leaks.is_empty() => {}
            Ok(_) => return self.give_up(tenant, delivery, DeadReason::Leak).await,
            Err(fault) => {
                tracing::warn!(
                    code = fault.code.as_str(),
                    "failed to check whether a message contains a secret"
                );
                return false;
            }
        }
        // The suspension may be newer than the look that sent the message here.
        if self.is_suspended(tenant).await.unwrap_or(true) {
            return false;
        }
        let attempt = delivery.attempts.saturating_add(1);
        let began_at = self.now();
        let start = DeliveryStart { delivery: delivery.id, attempt, holder: self.life.holder, at: began_at };
        // Durable before a byte leaves: a crash from here on finds an attempt without an outcome.
        if !self
            .commit_with_retry(tenant, Mutation::DeliveryStart(start), CommitRetryLimit::UntilStopped)
            .await
        {
            // It may be refused again, so the next look comes after a rest.
            return false;
        }
        let message = OutgoingMessage {
            delivery: delivery.id,
            target: delivery.target.clone(),
            at: began_at,
            scope: self.tenant_scope(tenant),
            body,
        };
        let sent = tokio::select! {
            biased;
            sent = self.send_message(delivery, channel, message) => sent,
            () = self.ports.runtime.clock.sleep(channel.terms.timeout + GRACE) => {
                DeliveryOutcome::Unanswered { cause: "the receiver did not answer in time".to_owned() }
            }
        };
        let chance = random_number(self.ports.runtime.ids.random_secret());
        let settled = settle_attempt(self.now(), delivery, channel.terms, &sent, chance);
        self.commit_outcome(tenant, delivery, attempt, settled, CommitRetryLimit::Endless).await
    }

    /// Sends a message, unless its receiver says that it has it from an earlier attempt.
    async fn send_message(
        &self,
        delivery: &DeliverySummary,
        channel: &ServedChannel,
        message: OutgoingMessage,
    ) -> DeliveryOutcome {
        if channel.terms.class == DeliveryClass::Reconcilable && delivery.attempts > 0 {
            match channel.port.find_delivered(delivery.id).await {
                Ok(None) => {}
                Ok(Some(answer)) => return DeliveryOutcome::Accepted(answer),
                Err(problem) => {
                    let cause = format!("failed to learn whether an earlier attempt arrived: {problem}");
                    return DeliveryOutcome::NotSent { cause };
                }
            }
        }
        channel.port.deliver(message).await
    }

    /// Makes the outcome of an attempt durable.
    pub(super) async fn commit_outcome(
        &self,
        tenant: TenantId,
        delivery: &DeliverySummary,
        attempt: u32,
        settled: AttemptSettlement,
        patience: CommitRetryLimit,
    ) -> bool {
        let AttemptSettlement { end, state, reason, due_at } = settled;
        let (to, outcome) = (delivery.target.as_str(), end.outcome.as_str());
        tracing::debug!(delivery = %delivery.id, to, attempt, outcome, state = state.as_str(), "an attempt ended");
        let holder = self.life.holder;
        let settle = DeliverySettle { delivery: delivery.id, attempt, holder, end, state, reason, due_at };
        let done = self.commit_with_retry(tenant, Mutation::DeliverySettle(settle), patience).await;
        if done {
            self.counts.count_outcome(state);
            if matches!(state, DeliveryState::Dead | DeliveryState::UnknownAfterSend) {
                let id = delivery.id;
                tracing::warn!(delivery = %id, to, state = state.as_str(), "a message waits for a person");
            }
        }
        done
    }

    /// Gives a message up without an attempt; tells whether it was this call that did.
    pub(super) async fn give_up(
        &self,
        tenant: TenantId,
        delivery: &DeliverySummary,
        reason: DeadReason,
    ) -> bool {
        let DeliverySummary { id, attempts, redrives, .. } = *delivery;
        let drop = DeliveryDrop { delivery: id, attempts, redrives, reason, at: self.now() };
        let done = self
            .commit_with_retry(tenant, Mutation::DeliveryDrop(drop), CommitRetryLimit::UntilStopped)
            .await;
        if done {
            self.counts.count_outcome(DeliveryState::Dead);
            tracing::warn!(delivery = %id, to = delivery.target, reason = reason.as_str(), "a message is dead");
        }
        done
    }

    /// Gives numbers to the messages that have none, in the order of each target. A tenant whose messages take none is passed
    /// over: those after it do not wait for it. Returns the messages that it met, which are new.
    pub(super) async fn number_deliveries(&self) -> Result<Vec<(TenantId, DeliveryId)>, ReadError> {
        let (mut passed, mut numbered) = (None, Vec::new());
        loop {
            let waiting =
                self.ports.store.unnumbered_deliveries(&self.operator, passed, NUMBERED_AT_ONCE).await?;
            let Some((tenant, _)) = waiting.first().copied() else { return Ok(numbered) };
            let of_tenant = waiting.into_iter().take_while(|(of, _)| *of == tenant);
            let deliveries: Vec<DeliveryId> = of_tenant.map(|(_, delivery)| delivery).collect();
            let after = match self.ports.store.feed_state(&self.tenant_scope(tenant)).await {
                Ok(feed) => feed.last,
                Err(ReadError::Damaged { place, problem }) => {
                    tracing::warn!(%tenant, %place, %problem, "a feed is damaged, so its messages get no \
                                                               numbers");
                    passed = Some(tenant);
                    continue;
                }
                Err(error) => return Err(error),
            };
            numbered.extend(deliveries.iter().map(|delivery| (tenant, *delivery)));
            let number = Mutation::FeedNumber(FeedNumber { after, deliveries });
            if !self.commit_with_retry(tenant, number, CommitRetryLimit::UntilStopped).await {
                if self.stop.is_cancelled() {
                    return Ok(numbered);
                }
                // An erasure was quicker, or a row is damaged; the next look finds what is left.
                passed = Some(tenant);
            }
        }
    }

    /// Offers a commit until it is answered; tells whether it is done. What it writes may be offered twice.
    async fn commit_with_retry(
        &self,
        tenant: TenantId,
        mutation: Mutation,
        patience: CommitRetryLimit,
    ) -> bool {
        let batch = WriteBatch::new(tenant).with_mutation(mutation);
        loop {
            match self.ports.store.commit(batch.clone()).await {
                CommitOutcome::Done(_) => return true,
                CommitOutcome::Refused(CommitRefusal::Damaged { problem })
                    if patience == CommitRetryLimit::UntilStopped =>
                {
                    // It would be refused for as long as the damage is there, and others wait behind it.
                    tracing::warn!(%tenant, %problem, "the outbox found damaged messages and continues with \
                                                       the others");
                    return false;
                }
                CommitOutcome::Refused(
                    CommitRefusal::Overloaded
                    | CommitRefusal::ReadOnly { .. }
                    | CommitRefusal::Damaged { .. },
                )
                | CommitOutcome::Unknown { .. } => {}
                CommitOutcome::Refused(refusal) => {
                    tracing::debug!(%refusal, "another process started an attempt first");
                    return false;
                }
            }
            if patience == CommitRetryLimit::UntilStopped && self.stop.is_cancelled() {
                return false;
            }
            self.ports.runtime.clock.sleep(AGAIN).await;
        }
    }
}

/// Tells whether a delivery is unchanged since it was read; a number in the feed changes nothing.
fn is_same(found: &DeliverySummary, read: &DeliverySummary) -> bool {
    (found.state, found.attempts, found.redrives) == (read.state, read.attempts, read.redrives)
}

fn random_number(secret: [u8; 32]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&secret[..8]);
    u64::from_le_bytes(bytes)
}
