//! The outbox: takes prepared messages out of the store and brings them to their receivers, in order per target.
//!
//! One pump looks at the first open message of each target, decides (`policy`) and lets a task of its own bring
//! it: the beginning is durable before a byte leaves, the outcome before the next message of that target begins. What
//! is at work is bounded, for the node and for each tenant, and a target has one message at work, so a receiver that
//! is stuck or slow holds up nobody but its own queue. It is also the one owner of each tenant's feed, which it numbers.
//!
//! It refuses to decide who may say what: the gate let the reply out before it was prepared. It keeps nothing in memory
//! that matters: after a crash an attempt without an outcome is repeated where the receiver takes our id, and is
//! `unknown_after_send` where not.
//!
//! Lifecycle: [`Outbox::new`] → [`Outbox::start`] → [`Outbox::drain`], after which no attempt begins; those that are
//! at work are waited for by whoever watches [`Outbox::in_flight`].

mod flights;
mod policy;
mod post;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dromia_contracts::agent::Handle;
use dromia_contracts::delivery::{Bell, DeadReason, Delivery, DeliveryState, OpenDelivery};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::{
    Batch, Commit, DeliveryDrop, DeliverySettle, DeliveryStart, FeedNumber, Mutation, Page, ReadError,
    Refusal, Store,
};
use dromia_contracts::{Actor, Authority, DeliveryId, Digest, Operator, Scope, TenantId};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::flights::{Flight, Flights, NoFlight};
use self::policy::{Life, Settled, Step, interrupted, later, settle, step};
pub use self::post::{Letter, Post, Posted};
use crate::channel::{Channel, Channels};
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// How long the pump rests when nobody rings and nothing is due.
const LOOK: Duration = Duration::from_secs(5);
/// How long it rests after the store did not answer, or after a message could not be read.
const REST: Duration = Duration::from_secs(1);
/// How long a commit rests that nobody answered, before it is offered again.
const AGAIN: Duration = Duration::from_millis(200);
/// What a receiver gets beyond its time before it is taken for silent, whatever the client below says.
const GRACE: Duration = Duration::from_secs(1);
/// Messages that are numbered in one commit.
const NUMBERED_AT_ONCE: usize = 200;

/// What the outbox reaches the world through.
#[derive(Debug, Clone)]
pub struct OutboxPorts {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// The way out.
    pub post: Arc<dyn Post>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes, under which messages are read.
    pub authority: Authority,
}

/// A handle to the outbox; cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    pump: Arc<Pump>,
}

/// How messages ended since the start, and what is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxCounts {
    /// Attempts that a receiver took.
    pub delivered: u64,
    /// Attempts that failed and are repeated.
    pub failed: u64,
    /// Messages given up.
    pub dead: u64,
    /// Messages of which nobody knows whether they arrived.
    pub unknown: u64,
    /// Messages at work.
    pub in_flight: usize,
    /// Targets with an open message, at the last look.
    pub targets: u64,
}

#[derive(Debug)]
struct Pump {
    ports: OutboxPorts,
    channels: Channels,
    operator: Operator,
    life: Life,
    bell: Notify,
    stop: CancellationToken,
    flights: Arc<Flights>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
    unknown: AtomicU64,
    targets: AtomicU64,
}

impl Counts {
    fn count(&self, state: DeliveryState) {
        let counter = match state {
            DeliveryState::Delivered => &self.delivered,
            DeliveryState::Failed => &self.failed,
            DeliveryState::Dead => &self.dead,
            DeliveryState::UnknownAfterSend => &self.unknown,
            DeliveryState::Prepared | DeliveryState::Sending => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the pump remembers between two looks; bounded by the configured channels and by the targets of the store.
#[derive(Debug, Default)]
struct Memory {
    tenants: HashMap<Handle, TenantId>,
    /// How many messages of an earlier life are still to be given up, by target; asked once in a life.
    excess: HashMap<Place, u64>,
    /// The tenant that was served last.
    last: Option<TenantId>,
}

/// A tenant and one of its targets.
type Place = (TenantId, String);

/// What waits for a flight, by tenant.
type Ready = BTreeMap<TenantId, VecDeque<(Delivery, Arc<Channel>)>>;

impl Outbox {
    /// Builds the outbox; nothing runs until [`Outbox::start`].
    pub fn new(ports: OutboxPorts, channels: Channels) -> Self {
        let life = Life {
            holder: Digest::from_bytes(ports.runtime.ids.secret()),
            began_at: ports.runtime.clock.now(),
        };
        let pump = Pump {
            operator: ports.authority.operator(),
            life,
            bell: Notify::new(),
            stop: CancellationToken::new(),
            flights: Arc::new(Flights::default()),
            counts: Counts::default(),
            channels,
            ports,
        };
        Self { pump: Arc::new(pump) }
    }

    /// Starts to deliver, with what an earlier life left.
    pub fn start(&self) {
        let pump = Arc::clone(&self.pump);
        self.pump.ports.runtime.spawn.spawn(Box::pin(pump.run()));
    }

    /// Begins no attempt from now on.
    pub fn drain(&self) {
        self.pump.stop.cancel();
    }

    /// Counts the messages at work.
    pub fn in_flight(&self) -> usize {
        self.pump.flights.count()
    }

    /// The channels.
    pub fn channels(&self) -> &Channels {
        &self.pump.channels
    }

    /// Tells how messages ended since the start.
    pub fn counts(&self) -> OutboxCounts {
        let Counts { delivered, failed, dead, unknown, targets } = &self.pump.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OutboxCounts {
            delivered: read(delivered),
            failed: read(failed),
            dead: read(dead),
            unknown: read(unknown),
            in_flight: self.in_flight(),
            targets: read(targets),
        }
    }
}

impl Bell for Outbox {
    fn ring(&self) {
        self.pump.bell.notify_one();
    }
}

impl Pump {
    async fn run(self: Arc<Self>) {
        let mut memory = Memory::default();
        while !self.stop.is_cancelled() {
            let wake = match self.look(&mut memory).await {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read");
                    later(self.now(), REST)
                }
            };
            tokio::select! {
                () = self.bell.notified() => {}
                () = self.ports.runtime.clock.sleep_until(wake) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Looks at every target once; says when to look again if nobody rings.
    async fn look(self: &Arc<Self>, memory: &mut Memory) -> Result<Timestamp, ReadError> {
        self.number().await?;
        self.find_tenants(memory).await?;
        let mut wake = later(self.now(), LOOK);
        let (mut ready, mut targets) = (Ready::new(), 0);
        let mut page = Page::first(Page::<Place>::LIMIT_MAX);
        loop {
            let heads = self.ports.store.outbox(&self.operator, page.clone()).await?;
            let Some(last) = heads.last() else { break };
            page.after = Some((last.tenant, last.delivery.target.clone()));
            let is_last = heads.len() < page.limit;
            for OpenDelivery { tenant, delivery } in heads {
                targets += 1;
                let place = (tenant, delivery.target.clone());
                if self.flights.has(&place) {
                    continue;
                }
                wake = wake.min(self.judge(memory, &mut ready, place, delivery).await?);
            }
            if is_last {
                break;
            }
        }
        self.counts.targets.store(targets, Ordering::Relaxed);
        self.dispatch(memory, ready);
        Ok(wake)
    }

    /// Decides about the first message of a target, and does what needs no flight. Says when to look again.
    async fn judge(
        &self,
        memory: &mut Memory,
        ready: &mut Ready,
        place: Place,
        delivery: Delivery,
    ) -> Result<Timestamp, ReadError> {
        let channel = self.channel(memory, &place);
        let excess = match &channel {
            Some(channel) => self.excess(memory, &place, channel).await?,
            None => 0,
        };
        let now = self.now();
        match step(now, self.life, &delivery, channel.as_deref(), excess) {
            Step::Rest => Ok(Timestamp::MAX),
            Step::Wait(until) => Ok(until),
            Step::Drop(reason) => {
                if !self.give_up(place.0, &delivery, reason).await {
                    return Ok(later(now, REST));
                }
                if reason == DeadReason::Backlog {
                    if let Some(excess) = memory.excess.get_mut(&place) {
                        *excess = excess.saturating_sub(1);
                    }
                }
                // The next message of the target is looked at at once.
                Ok(now)
            }
            Step::Interrupted => {
                let settled = interrupted(now, &delivery, channel.as_deref());
                let (tenant, attempt) = (place.0, delivery.attempts);
                let done = self.settled(tenant, &delivery, attempt, settled, Patience::UntilStopped).await;
                Ok(if done { now } else { later(now, REST) })
            }
            Step::Send => {
                if let Some(channel) = channel {
                    ready.entry(place.0).or_default().push_back((delivery, channel));
                }
                Ok(Timestamp::MAX)
            }
        }
    }

    /// Gives flights to what is ready: one message of each tenant in turn, beginning after the one that was served
    /// last. What finds no flight is looked at again when one lands, which rings.
    fn dispatch(self: &Arc<Self>, memory: &mut Memory, mut ready: Ready) {
        let mut order: Vec<_> = ready.keys().copied().collect();
        let begin = memory.last.map_or(0, |last| order.partition_point(|tenant| *tenant <= last));
        order.rotate_left(begin);
        loop {
            let mut served = false;
            for tenant in &order {
                let Some(queue) = ready.get_mut(tenant) else { continue };
                let Some((delivery, _)) = queue.front() else { continue };
                let flight = match Flights::take_off(&self.flights, *tenant, &delivery.target) {
                    Ok(flight) => flight,
                    Err(NoFlight::OfTenant) => continue,
                    Err(NoFlight::OfNode) => return,
                };
                if let Some((delivery, channel)) = queue.pop_front() {
                    let pump = Arc::clone(self);
                    let bring = pump.bring(flight, *tenant, delivery, channel);
                    self.ports.runtime.spawn.spawn(Box::pin(bring));
                    memory.last = Some(*tenant);
                    served = true;
                }
            }
            if !served {
                return;
            }
        }
    }

    /// Brings one message, gives the flight back and rings.
    async fn bring(
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
        let attempt = delivery.attempts.saturating_add(1);
        let began_at = self.now();
        let start = DeliveryStart { delivery: delivery.id, attempt, holder: self.life.holder, at: began_at };
        // Durable before a byte leaves: a crash from here on finds an attempt without an outcome.
        if !self.insist(tenant, Mutation::DeliveryStart(start), Patience::UntilStopped).await {
            return true;
        }
        let letter = letter(delivery.id, began_at, channel, body);
        let end = later(began_at, channel.timeout + GRACE);
        let posted = tokio::select! {
            biased;
            posted = self.ports.post.post(letter) => posted,
            () = self.ports.runtime.clock.sleep_until(end) => {
                Posted::Unanswered { cause: "the receiver did not answer in time".to_owned() }
            }
        };
        let chance = chance(self.ports.runtime.ids.secret());
        let settled = settle(self.now(), delivery, channel, &posted, chance);
        self.settled(tenant, delivery, attempt, settled, Patience::Endless).await
    }

    /// Makes the outcome of an attempt durable.
    async fn settled(
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
    async fn give_up(&self, tenant: TenantId, delivery: &Delivery, reason: DeadReason) -> bool {
        let Delivery { id, attempts, redrives, .. } = *delivery;
        let drop = DeliveryDrop { delivery: id, attempts, redrives, reason, at: self.now() };
        let done = self.insist(tenant, Mutation::DeliveryDrop(drop), Patience::UntilStopped).await;
        if done {
            self.counts.count(DeliveryState::Dead);
            tracing::warn!(delivery = %id, to = delivery.target, reason = reason.as_str(), "a message is given up");
        }
        done
    }

    /// Gives numbers to the messages that have none, in the order of each target.
    async fn number(&self) -> Result<(), ReadError> {
        loop {
            let waiting = self.ports.store.unnumbered(&self.operator, NUMBERED_AT_ONCE).await?;
            let Some((tenant, _)) = waiting.first().copied() else { return Ok(()) };
            let of_tenant = waiting.into_iter().take_while(|(of, _)| *of == tenant);
            let deliveries: Vec<DeliveryId> = of_tenant.map(|(_, delivery)| delivery).collect();
            let after = self.ports.store.feed_state(&self.scope(tenant)).await?.last;
            let number = Mutation::FeedNumber(FeedNumber { after, deliveries });
            if !self.insist(tenant, number, Patience::UntilStopped).await {
                // An erasure was quicker, or the server stops; the next look finds what is left.
                return Ok(());
            }
        }
    }

    /// Offers a commit until it is answered. What it writes may be offered twice.
    async fn insist(&self, tenant: TenantId, mutation: Mutation, patience: Patience) -> bool {
        let batch = Batch::new(tenant).with(mutation);
        loop {
            match self.ports.store.commit(batch.clone()).await {
                Commit::Done(_) => return true,
                Commit::Refused(Refusal::Overloaded | Refusal::ReadOnly { .. }) | Commit::Unknown { .. } => {}
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

    /// Finds the ids of the tenants that have channels.
    async fn find_tenants(&self, memory: &mut Memory) -> Result<(), ReadError> {
        for handle in self.channels.tenants() {
            if !memory.tenants.contains_key(handle)
                && let Some(tenant) = self.ports.store.tenant_by_handle(&self.operator, handle).await?
            {
                memory.tenants.insert(handle.clone(), tenant.id);
            }
        }
        Ok(())
    }

    /// Finds the channel of a target. One of another tenant is none: a name alone opens no way out.
    fn channel(&self, memory: &Memory, (tenant, target): &Place) -> Option<Arc<Channel>> {
        let channel = self.channels.of_target(target)?;
        (memory.tenants.get(&channel.tenant) == Some(tenant)).then(|| Arc::clone(channel))
    }

    /// How many messages of an earlier life are still to be given up before a target.
    async fn excess(&self, memory: &mut Memory, place: &Place, channel: &Channel) -> Result<u64, ReadError> {
        if let Some(excess) = memory.excess.get(place) {
            return Ok(*excess);
        }
        let waiting = self.ports.store.outbox_waiting(&self.operator, place.0, &place.1).await?;
        let excess = waiting.saturating_sub(channel.recovery_max);
        memory.excess.insert(place.clone(), excess);
        Ok(excess)
    }

    async fn rest(&self, how_long: Duration) {
        let end = later(self.now(), how_long);
        tokio::select! {
            () = self.ports.runtime.clock.sleep_until(end) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn now(&self) -> Timestamp {
        self.ports.runtime.clock.now()
    }

    /// The scope in which a tenant's messages are read.
    fn scope(&self, tenant: TenantId) -> Scope {
        self.ports.authority.scope(tenant, Actor::new("outbox"))
    }
}

/// How long a commit is offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until the outbox is stopped; nothing has left yet.
    UntilStopped,
    /// As long as the process lives: a message has left, and its outcome must not be lost.
    Endless,
}

/// Tells whether nobody moved a delivery since it was read; a number in the feed moves nothing.
fn is_same(found: &Delivery, read: &Delivery) -> bool {
    (found.state, found.attempts, found.redrives) == (read.state, read.attempts, read.redrives)
}

/// Writes and signs a message. All attempts carry one id and one body; the time and so the signature are the attempt's.
fn letter(id: DeliveryId, at: Timestamp, channel: &Channel, body: bytes::Bytes) -> Letter {
    let (id, timestamp) = (id.to_string(), at.as_second().to_string());
    let signature = channel.key.sign(&id, &timestamp, &body);
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
