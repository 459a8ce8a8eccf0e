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

mod bringing;
mod counts;
mod flights;
mod policy;
mod post;
mod pump;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::delivery::Bell;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::Store;
use dromia_contracts::vault::Leaks;
use dromia_contracts::{Authority, Digest, Scope};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::counts::Counts;
use self::flights::Flights;
use self::policy::Life;
pub use self::post::{Letter, Post, Posted};
use self::pump::Pump;
use crate::channel::{Channel, ChannelKeys, Channels, KeptKeys};
use crate::signature::Key;

/// What the outbox reaches the world through.
#[derive(Debug, Clone)]
pub struct OutboxPorts {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// The way out.
    pub post: Arc<dyn Post>,
    /// Who looks for secrets in what leaves.
    pub leaks: Arc<dyn Leaks>,
    /// The keys of channels that are in a vault.
    pub keys: Arc<dyn ChannelKeys>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes, under which messages are read.
    pub authority: Authority,
}

/// A handle to the outbox; cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    pump: Arc<Pump>,
    /// For what comes in.
    kept: Arc<KeptKeys>,
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

impl Outbox {
    /// Builds the outbox; nothing runs until [`Outbox::start`].
    pub fn new(ports: OutboxPorts, channels: Channels) -> Self {
        let life = Life {
            holder: Digest::from_bytes(ports.runtime.ids.secret()),
            began_at: ports.runtime.clock.now(),
        };
        let kept = Arc::new(KeptKeys::of(&channels));
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
        Self { pump: Arc::new(pump), kept }
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

    /// Finds the key that checks what comes in by a channel, in a scope of its tenant, or says why not.
    pub(crate) async fn key(&self, name: &str, channel: &Channel, scope: &Scope) -> Result<Key, String> {
        let ports = &self.pump.ports;
        self.kept.key((name, channel), &*ports.keys, scope, &*ports.runtime.clock).await
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
