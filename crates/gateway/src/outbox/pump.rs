//! The pump: looks at the first open message of targets, decides, and gives flights to what is due.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dromia_contracts::agent::{HandleSlug, TenantRecord};
use dromia_contracts::clock::ClockSteps;
use dromia_contracts::delivery::{DeadReason, DeliveryState, DeliverySummary, OpenDelivery};
use dromia_contracts::store::{PageRequest, ReadError};
use dromia_contracts::{Actor, DeliveryId, OperatorScope, Scope, TenantId};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::OutboxPorts;
use super::counters::OutboxCounters;
use super::in_flight::{InFlightDeliveries, NoFlight};
use super::policy::{
    ClockJumps, DeliveryStep, ProcessLife, decide_step, saturating_later, settle_interrupted, time_left,
};
use crate::channel::{ServedChannel, ServedChannels};

/// How long the pump rests when nothing wakes it and nothing is due.
const LOOK: Duration = Duration::from_secs(5);
/// How long it rests after the store did not answer, or after a message could not be read.
pub(super) const REST: Duration = Duration::from_secs(1);

/// What every part of the outbox shares.
#[derive(Debug)]
pub(super) struct OutboxPump {
    pub(super) ports: OutboxPorts,
    pub(super) channels: ArcSwap<ServedChannels>,
    pub(super) operator: OperatorScope,
    pub(super) life: ProcessLife,
    pub(super) bell: Notify,
    pub(super) stop: CancellationToken,
    pub(super) flights: Arc<InFlightDeliveries>,
    pub(super) counts: OutboxCounters,
    pub(super) touched: TouchedTargets,
}

/// The targets at which something happened since the last look, so that a wake-up reads those and no others.
#[derive(Debug, Default)]
pub(super) struct TouchedTargets {
    places: Mutex<BTreeSet<Place>>,
    /// Something changed for all of them.
    every: AtomicBool,
}

impl TouchedTargets {
    /// Notes a target.
    pub(super) fn touch_target(&self, place: Place) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
    }

    /// Notes that any target may have changed.
    pub(super) fn touch_every_target(&self) {
        self.every.store(true, Ordering::Release);
    }

    fn take_places(&self) -> BTreeSet<Place> {
        std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the pump remembers between two looks; bounded by the configured channels and by the targets of the store.
#[derive(Debug, Default)]
struct PumpState {
    tenants: HashMap<HandleSlug, TenantId>,
    /// How many messages of an earlier life are still to be given up, by target; asked once in a life.
    excess: HashMap<Place, u64>,
    /// The tenant that was served last.
    last: Option<TenantId>,
    /// How far the wall clock was set ahead since the start.
    jumps: ClockJumps,
    /// How many messages of an earlier life expired in this look.
    outdated: u64,
    /// When every target is looked at again; at once at first.
    scan_at: Option<Timestamp>,
    /// The targets whose first message waits for a time.
    waiting: BTreeSet<(Timestamp, Place)>,
    /// The targets whose first message was due and found no flight, by tenant.
    unserved: BTreeMap<TenantId, BTreeSet<String>>,
}

/// A tenant and one of its targets.
pub(super) type Place = (TenantId, String);

/// What one look found.
#[derive(Debug, Default)]
struct TargetLook {
    ready: Ready,
    suspended: HashMap<TenantId, bool>,
}

/// What waits for a flight, by tenant.
type Ready = BTreeMap<TenantId, VecDeque<(DeliverySummary, Arc<ServedChannel>)>>;

/// How long a commit is offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitRetryLimit {
    /// Until the outbox is stopped or meets damage; nothing has left yet, or what did is found by the next look.
    UntilStopped,
    /// As long as the process lives: a message has left, and its outcome must not be lost.
    Endless,
}

impl PumpState {
    /// Puts tenants, which come sorted, into the order in which they are served: first those after the one that was served last.
    fn tenants_in_turn(&self, tenants: impl Iterator<Item = TenantId>) -> VecDeque<TenantId> {
        let mut order: VecDeque<_> = tenants.collect();
        let begin = self.last.map_or(0, |last| order.partition_point(|tenant| *tenant <= last));
        order.rotate_left(begin);
        order
    }

    fn forget_unserved(&mut self, (tenant, target): &Place) {
        if let Some(targets) = self.unserved.get_mut(tenant) {
            targets.remove(target);
        }
    }
}

impl OutboxPump {
    pub(super) async fn run(self: Arc<Self>) {
        let mut memory = PumpState::default();
        let clock = Arc::clone(&self.ports.runtime.clock);
        let mut steps = ClockSteps::new(&*clock);
        while !self.stop.is_cancelled() {
            if let Some(step) = steps.poll_step(&*clock)
                && memory.jumps.note_step(step)
            {
                tracing::warn!(by = %step.by, "the clock was set forward; waiting messages keep the time \
                                               they had left");
            }
            let wake = match self.poll_targets(&mut memory).await {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::warn!(%error, "failed to read the outbox");
                    saturating_later(self.now(), REST)
                }
            };
            tokio::select! {
                () = self.bell.notified() => {}
                () = clock.sleep(time_left(self.now(), wake)) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Looks at what is due; returns when to look again if nothing wakes the pump. What is due is what a wake-up is about: new
    /// messages, targets whose attempt ended or whose time has come. Every target is looked at once in a while.
    async fn poll_targets(self: &Arc<Self>, memory: &mut PumpState) -> Result<Timestamp, ReadError> {
        let numbered = self.number_deliveries().await?;
        self.find_tenants(memory).await?;
        let mut places = self.touched.take_places();
        places.extend(self.find_targets(numbered).await?);
        let mut look = TargetLook::default();
        let is_scan = self.touched.every.swap(false, Ordering::AcqRel);
        if is_scan || memory.scan_at.is_none_or(|at| at <= self.now()) {
            // A scan that fails is made again.
            memory.scan_at = None;
            self.scan_targets(memory, &mut look).await?;
            memory.scan_at = Some(saturating_later(self.now(), LOOK));
        } else {
            let now = self.now();
            while memory.waiting.first().is_some_and(|(due, _)| *due <= now) {
                places.extend(memory.waiting.pop_first().map(|(_, place)| place));
            }
            // Whatever cannot be read now is met by the next scan.
            let looked = self.look_at_targets(memory, &mut look, places).await;
            looked.inspect_err(|_| memory.scan_at = None)?;
        }
        self.dispatch_ready(memory, look.ready);
        let outdated = std::mem::take(&mut memory.outdated);
        if outdated > 0 {
            // A clock that was set ahead while no server ran looks like the time that it left out.
            tracing::warn!(
                messages = outdated,
                "messages from before this start have expired; if the clock was set forward, check `dromia \
                 delivery list` and resend them with `dromia delivery redrive`"
            );
        }
        let scan_at = memory.scan_at.unwrap_or_else(|| self.now());
        Ok(memory.waiting.first().map_or(scan_at, |(due, _)| scan_at.min(*due)))
    }

    /// Looks at these targets, and at as many of those that found no flight as have one now: one of each tenant in turn.
    async fn look_at_targets(
        &self,
        memory: &mut PumpState,
        look: &mut TargetLook,
        places: BTreeSet<Place>,
    ) -> Result<(), ReadError> {
        for place in places {
            memory.forget_unserved(&place);
            self.look_at_place(memory, look, place).await?;
        }
        let mut tenants = memory.tenants_in_turn(memory.unserved.keys().copied());
        while let Some(tenant) = tenants.pop_front() {
            let of_tenant = look.ready.get(&tenant).map_or(0, VecDeque::len);
            match self.flights.check_room(tenant, of_tenant, look.ready.values().map(VecDeque::len).sum()) {
                Ok(()) => {}
                Err(NoFlight::OfTenant) => continue,
                Err(NoFlight::OfNode) => break,
            }
            let Some(target) = memory.unserved.get_mut(&tenant).and_then(BTreeSet::pop_first) else {
                memory.unserved.remove(&tenant);
                continue;
            };
            self.look_at_place(memory, look, (tenant, target)).await?;
            tenants.push_back(tenant);
        }
        Ok(())
    }

    async fn look_at_place(
        &self,
        memory: &mut PumpState,
        look: &mut TargetLook,
        (tenant, target): Place,
    ) -> Result<(), ReadError> {
        match self.ports.store.first_open_delivery(&self.operator, tenant, &target).await? {
            Some(first) => self.look_at_target(memory, look, first).await,
            None => Ok(()),
        }
    }

    /// Looks at the first open message of every target.
    async fn scan_targets(&self, memory: &mut PumpState, look: &mut TargetLook) -> Result<(), ReadError> {
        memory.waiting.clear();
        memory.unserved.clear();
        let mut targets = 0;
        let mut page = PageRequest::first_page(PageRequest::<Place>::LIMIT_MAX);
        loop {
            let heads = self.ports.store.open_deliveries(&self.operator, page.clone()).await?;
            let Some(last) = heads.last() else { break };
            page.after = Some((last.tenant, last.delivery.target.clone()));
            let is_last = heads.len() < page.limit;
            for first in heads {
                targets += 1;
                self.look_at_target(memory, look, first).await?;
            }
            if is_last {
                break;
            }
        }
        self.counts.targets.store(targets, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at the first open message of one target.
    async fn look_at_target(
        &self,
        memory: &mut PumpState,
        look: &mut TargetLook,
        first: OpenDelivery,
    ) -> Result<(), ReadError> {
        let OpenDelivery { tenant, delivery } = first;
        let place = (tenant, delivery.target.clone());
        // What waits of a suspended tenant waits on: nothing of it leaves, and nothing is given up.
        if let Entry::Vacant(unknown) = look.suspended.entry(tenant) {
            let found = self.ports.store.tenant_record(&self.tenant_scope(tenant)).await?;
            // The handle of a tenant that was erased may belong to another one by now.
            if let Some(record) = &found
                && let Some(known) = memory.tenants.get_mut(&record.handle)
            {
                *known = tenant;
            }
            unknown.insert(rests(found.as_ref()));
        }
        if self.flights.has_target(&place) || look.suspended[&tenant] {
            return Ok(());
        }
        let again = self.decide_delivery(memory, &mut look.ready, place.clone(), delivery).await?;
        if again < Timestamp::MAX {
            memory.waiting.insert((again, place));
        }
        Ok(())
    }

    /// Finds the targets of messages.
    async fn find_targets(&self, messages: Vec<(TenantId, DeliveryId)>) -> Result<Vec<Place>, ReadError> {
        let mut places = Vec::new();
        for (tenant, delivery) in messages {
            match self.ports.store.delivery_record(&self.tenant_scope(tenant), delivery).await {
                Ok(record) => places.extend(record.map(|record| (tenant, record.delivery.target))),
                // Its target is found by the scan.
                Err(ReadError::Damaged { .. }) => self.touched.touch_every_target(),
                Err(error) => {
                    self.touched.touch_every_target();
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    /// Decides about the first message of a target, and does what needs no flight. Says when to look again.
    async fn decide_delivery(
        &self,
        memory: &mut PumpState,
        ready: &mut Ready,
        place: Place,
        delivery: DeliverySummary,
    ) -> Result<Timestamp, ReadError> {
        let channel = self.find_channel(memory, &place);
        let excess = match &channel {
            Some(channel) => self.count_excess(memory, &place, channel).await?,
            None => 0,
        };
        let (now, terms) = (self.now(), channel.as_ref().map(|channel| channel.terms));
        let held_elsewhere = self.is_held_elsewhere(&delivery).await?;
        match decide_step(now, self.life, &delivery, terms, (excess, held_elsewhere), memory.jumps) {
            DeliveryStep::Rest => Ok(Timestamp::MAX),
            DeliveryStep::Wait(until) => Ok(until),
            DeliveryStep::Drop(reason) => {
                if !self.give_up(place.0, &delivery, reason).await {
                    return Ok(saturating_later(now, REST));
                }
                if reason == DeadReason::Expired && delivery.since < self.life.began_at {
                    memory.outdated += 1;
                }
                if reason == DeadReason::Backlog
                    && let Some(excess) = memory.excess.get_mut(&place)
                {
                    *excess = excess.saturating_sub(1);
                }
                // The next message of the target is looked at at once.
                Ok(now)
            }
            DeliveryStep::Interrupted => {
                let settled = settle_interrupted(now, &delivery, terms);
                let (tenant, attempt) = (place.0, delivery.attempts);
                let done = self
                    .commit_outcome(tenant, &delivery, attempt, settled, CommitRetryLimit::UntilStopped)
                    .await;
                Ok(if done { now } else { saturating_later(now, REST) })
            }
            DeliveryStep::Send => {
                if let Some(channel) = channel {
                    ready.entry(place.0).or_default().push_back((delivery, channel));
                }
                Ok(Timestamp::MAX)
            }
        }
    }

    /// Tells whether another living process began the attempt of a message. The store says who is alive, no memory does.
    async fn is_held_elsewhere(&self, delivery: &DeliverySummary) -> Result<bool, ReadError> {
        let holder = delivery.holder.filter(|holder| *holder != self.life.holder);
        let Some(holder) = holder.filter(|_| delivery.state == DeliveryState::Sending) else {
            return Ok(false);
        };
        let living = self.ports.store.living_lives(&self.operator).await?;
        Ok(living.iter().any(|life| life.life == holder))
    }

    /// Gives flights to what is ready: one message of each tenant in turn, beginning after the one that was served
    /// last. What finds no flight is looked at again when one lands, which wakes the pump.
    fn dispatch_ready(self: &Arc<Self>, memory: &mut PumpState, mut ready: Ready) {
        for (tenant, queue) in &ready {
            let targets = queue.iter().map(|(delivery, _)| delivery.target.clone());
            memory.unserved.entry(*tenant).or_default().extend(targets);
        }
        let order = memory.tenants_in_turn(ready.keys().copied());
        loop {
            let mut served = false;
            for tenant in &order {
                let Some(queue) = ready.get_mut(tenant) else { continue };
                let Some((delivery, _)) = queue.front() else { continue };
                let flight = match InFlightDeliveries::take_off(&self.flights, *tenant, &delivery.target) {
                    Ok(flight) => flight,
                    Err(NoFlight::OfTenant) => continue,
                    Err(NoFlight::OfNode) => return,
                };
                if let Some((delivery, channel)) = queue.pop_front() {
                    memory.forget_unserved(&(*tenant, delivery.target.clone()));
                    let pump = Arc::clone(self);
                    let bring = pump.deliver_message(flight, *tenant, delivery, channel);
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

    pub(super) async fn is_suspended(&self, tenant: TenantId) -> Result<bool, ReadError> {
        let found = self.ports.store.tenant_record(&self.tenant_scope(tenant)).await?;
        Ok(rests(found.as_ref()))
    }

    /// Finds the ids of the tenants that have channels.
    async fn find_tenants(&self, memory: &mut PumpState) -> Result<(), ReadError> {
        let served = self.channels.load_full();
        for (_, channel) in served.named_channels() {
            let (handle, _) = channel.config.owner();
            if !memory.tenants.contains_key(handle)
                && let Some(tenant) = self.ports.store.tenant_by_handle(&self.operator, handle).await?
            {
                memory.tenants.insert(handle.clone(), tenant.id);
            }
        }
        Ok(())
    }

    /// Finds the channel of a target. One of another tenant is none: a name alone opens no way out.
    fn find_channel(&self, memory: &PumpState, (tenant, target): &Place) -> Option<Arc<ServedChannel>> {
        let served = self.channels.load();
        let channel = served.of_target(target)?;
        (memory.tenants.get(channel.config.owner().0) == Some(tenant)).then(|| Arc::clone(channel))
    }

    /// How many messages of an earlier life are still to be given up before a target.
    async fn count_excess(
        &self,
        memory: &mut PumpState,
        place: &Place,
        channel: &ServedChannel,
    ) -> Result<u64, ReadError> {
        if let Some(excess) = memory.excess.get(place) {
            return Ok(*excess);
        }
        let waiting = self.ports.store.outbox_waiting(&self.operator, place.0, &place.1).await?;
        let excess = waiting.saturating_sub(channel.terms.recovery_max);
        memory.excess.insert(place.clone(), excess);
        Ok(excess)
    }

    pub(super) async fn rest_for(&self, how_long: Duration) {
        tokio::select! {
            () = self.ports.runtime.clock.sleep(how_long) => {}
            () = self.stop.cancelled() => {}
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.ports.runtime.clock.now()
    }

    /// The scope in which a tenant's messages are read.
    pub(super) fn tenant_scope(&self, tenant: TenantId) -> Scope {
        self.ports.authority.issue_scope(tenant, Actor::new("outbox"))
    }
}

/// Tells whether nothing of a tenant leaves: it is suspended, or not found because it is being erased.
fn rests(found: Option<&TenantRecord>) -> bool {
    found.is_none_or(|tenant| tenant.suspended_at.is_some())
}
