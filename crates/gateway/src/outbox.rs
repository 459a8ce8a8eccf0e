//! The outbox: takes prepared messages out of the store and delivers them to their receivers, in order per target.
//!
//! One pump looks at the first open message of each target, decides (`policy`) and lets a task of its own deliver it:
//! the beginning is durable before a byte leaves, the outcome before the next message of that target begins. What is at
//! work is bounded, for the node and for each tenant, and a target has one message at work, so a receiver that is stuck
//! or slow delays its own queue only. It is also the one owner of each tenant's feed, which it numbers.
//!
//! It refuses to decide who may say what: the gate let the reply out before it was prepared. It keeps nothing in memory
//! that matters: once the lease of a process has ended, an attempt without an outcome is repeated where the receiver takes our id, and is
//! `unknown_after_send` where not.
//!
//! Lifecycle: [`Outbox::new`] → [`Outbox::start`] → [`Outbox::drain`], after which no attempt begins; the caller of the
//! drain watches [`Outbox::in_flight`] to wait for those at work.
//!
//! Which channel a message takes, and how it leaves there, is behind the port
//! [`Channel`](dromia_contracts::channel::Channel).

mod counters;
mod delivery;
mod http_client;
mod in_flight;
mod policy;
mod pump;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use dromia_contracts::delivery::DeliveryNotifier;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::Store;
use dromia_contracts::vault::LeakDetector;
use dromia_contracts::{Scope, ScopeAuthority, TenantId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::counters::OutboxCounters;
pub use self::http_client::{WebhookOutcome, WebhookRequest, WebhookSender};
use self::in_flight::InFlightDeliveries;
use self::policy::ProcessLife;
use self::pump::{OutboxPump, TouchedTargets};
use crate::channel::{AdapterPorts, ChannelSet, ServedChannels, WebhookChannel};
use crate::signature::WebhookSigningKey;

/// What the outbox reaches the world through.
#[derive(Debug, Clone)]
pub struct OutboxPorts {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// What channels reach the world through.
    pub channels: AdapterPorts,
    /// Who looks for secrets in what leaves.
    pub leaks: Arc<dyn LeakDetector>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes, under which messages are read.
    pub authority: ScopeAuthority,
}

/// A handle to the outbox; cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    pump: Arc<OutboxPump>,
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
    /// Messages that may or may not have arrived.
    pub unknown: u64,
    /// Messages at work.
    pub in_flight: usize,
    /// Targets with an open message, at the last look.
    pub targets: u64,
}

impl Outbox {
    /// Builds the outbox; nothing runs until [`Outbox::start`].
    pub fn new(ports: OutboxPorts, channels: ChannelSet) -> Self {
        let life = ProcessLife { holder: ports.runtime.life.life, began_at: ports.runtime.clock.now() };
        let pump = OutboxPump {
            operator: ports.authority.issue_operator(),
            life,
            bell: Notify::new(),
            stop: CancellationToken::new(),
            flights: Arc::new(InFlightDeliveries::default()),
            counts: OutboxCounters::default(),
            touched: TouchedTargets::default(),
            channels: ArcSwap::from_pointee(ServedChannels::build(
                channels,
                &ports.channels,
                &ports.runtime.ids,
            )),
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
        self.pump.flights.count_in_flight()
    }

    /// Lets other channels count from now on; an attempt that began ends as it began.
    pub fn replace_channels(&self, channels: ChannelSet) {
        let served = ServedChannels::build(channels, &self.pump.ports.channels, &self.pump.ports.runtime.ids);
        self.pump.channels.store(Arc::new(served));
        self.pump.touched.touch_every_target();
        self.notify_delivery();
    }

    /// Has the pump look at one target, whose messages a person has moved.
    pub(crate) fn notify_target(&self, tenant: TenantId, target: String) {
        self.pump.touched.touch_target((tenant, target));
        self.notify_delivery();
    }

    /// The channels that count now.
    pub(crate) fn served_channels(&self) -> Arc<ServedChannels> {
        self.pump.channels.load_full()
    }

    /// Finds the key that checks what comes in by a channel, in a scope of its tenant, or says why not.
    pub(crate) async fn channel_key(
        &self,
        served: &ServedChannels,
        (name, channel): (&str, &WebhookChannel),
        scope: &Scope,
    ) -> Result<WebhookSigningKey, String> {
        let ports = &self.pump.ports;
        served.kept.find_key((name, channel), &*ports.channels.keys, scope, &*ports.runtime.clock).await
    }

    /// Tells how messages ended since the start.
    pub fn delivery_counts(&self) -> OutboxCounts {
        let OutboxCounters { delivered, failed, dead, unknown, targets } = &self.pump.counts;
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

impl DeliveryNotifier for Outbox {
    fn notify_delivery(&self) {
        self.pump.bell.notify_one();
    }
}
