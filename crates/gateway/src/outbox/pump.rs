//! The pump: looks at the first open message of each target, decides, and gives flights to what is due.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dromia_contracts::agent::Handle;
use dromia_contracts::delivery::{DeadReason, Delivery, OpenDelivery};
use dromia_contracts::store::{Page, ReadError};
use dromia_contracts::{Actor, Operator, Scope, TenantId};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::OutboxPorts;
use super::bringing::Patience;
use super::counts::Counts;
use super::flights::{Flights, NoFlight};
use super::policy::{Life, Step, interrupted, later, step};
use crate::channel::{Channel, Channels};

/// How long the pump rests when nobody rings and nothing is due.
const LOOK: Duration = Duration::from_secs(5);
/// How long it rests after the store did not answer, or after a message could not be read.
pub(super) const REST: Duration = Duration::from_secs(1);

/// What every part of the outbox shares.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) ports: OutboxPorts,
    pub(super) channels: Channels,
    pub(super) operator: Operator,
    pub(super) life: Life,
    pub(super) bell: Notify,
    pub(super) stop: CancellationToken,
    pub(super) flights: Arc<Flights>,
    pub(super) counts: Counts,
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

impl Pump {
    pub(super) async fn run(self: Arc<Self>) {
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
                if reason == DeadReason::Backlog
                    && let Some(excess) = memory.excess.get_mut(&place)
                {
                    *excess = excess.saturating_sub(1);
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

    pub(super) async fn rest(&self, how_long: Duration) {
        let end = later(self.now(), how_long);
        tokio::select! {
            () = self.ports.runtime.clock.sleep_until(end) => {}
            () = self.stop.cancelled() => {}
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.ports.runtime.clock.now()
    }

    /// The scope in which a tenant's messages are read.
    pub(super) fn scope(&self, tenant: TenantId) -> Scope {
        self.ports.authority.scope(tenant, Actor::new("outbox"))
    }
}
