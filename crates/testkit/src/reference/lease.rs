//! Leases of the reference store: a list of lives with the time at which each lease ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dromia_contracts::Digest;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::Clock;
use dromia_contracts::store::CommitRefusal;

/// Where the time of leases comes from.
#[derive(Debug)]
enum LeaseClock {
    /// The process, since an instant.
    Process(Instant),
    /// A clock that tests move.
    Given(Arc<dyn Clock>),
}

/// The leases.
#[derive(Debug)]
pub(super) struct LeaseRows {
    clock: LeaseClock,
    rows: Vec<(NodeLife, Duration)>,
}

impl Default for LeaseRows {
    fn default() -> Self {
        Self { clock: LeaseClock::Process(Instant::now()), rows: Vec::new() }
    }
}

impl LeaseRows {
    /// Ends leases by a given clock.
    pub(super) fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock: LeaseClock::Given(clock), rows: Vec::new() }
    }

    fn now(&self) -> Duration {
        match &self.clock {
            LeaseClock::Process(began) => began.elapsed(),
            LeaseClock::Given(clock) => clock.monotonic_now(),
        }
    }

    pub(super) fn begin_life(&mut self, life: &NodeLife, lasts: Duration) {
        let until = self.now() + lasts;
        self.rows.retain(|(known, _)| known.node != life.node);
        self.rows.push((life.clone(), until));
    }

    pub(super) fn renew_life(&mut self, life: &NodeLife, lasts: Duration) -> bool {
        let is_last = self.rows.iter().any(|(known, _)| known == life);
        if is_last {
            self.begin_life(life, lasts);
        }
        is_last
    }

    pub(super) fn living_lives(&self) -> Vec<NodeLife> {
        let now = self.now();
        let living = self.rows.iter().filter(|(_, until)| *until > now);
        let mut living: Vec<_> = living.map(|(life, _)| life.clone()).collect();
        living.sort_unstable();
        living
    }

    /// Refuses to change what another living process holds.
    pub(super) fn check_holder(&self, holder: Option<Digest>, by: Digest) -> Result<(), CommitRefusal> {
        let now = self.now();
        let other = self.rows.iter().find(|(life, _)| Some(life.life) == holder && life.life != by);
        match other.map(|(_, until)| until.saturating_sub(now)) {
            Some(left) if !left.is_zero() => Err(CommitRefusal::LeaseLasts { left }),
            _ => Ok(()),
        }
    }
}
