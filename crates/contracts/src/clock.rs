//! Steps of the wall clock: finds that it was set, by comparing it with the steady clock of the process.
//!
//! Each poll compares how far both clocks advanced since the previous poll. A wall clock that is only slewed stays
//! within [`CLOCK_STEP_MIN`] between two polls that are seconds apart. Nothing is kept beyond the last poll: a step
//! while no process ran is not seen here.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::runtime::Clock;

/// The smallest difference of both clocks between two polls that counts as a step of the wall clock.
pub const CLOCK_STEP_MIN: SignedDuration = SignedDuration::from_secs(2);

/// A step of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// How far it was set; below zero where it was set back.
    pub by: SignedDuration,
    /// What it would say now without the step.
    pub before: Timestamp,
    /// What it says now.
    pub after: Timestamp,
}

impl ClockStep {
    /// Returns whether the clock was set back.
    pub fn is_back(&self) -> bool {
        self.by.is_negative()
    }
}

/// Compares both clocks at each poll.
#[derive(Debug, Clone, Copy)]
pub struct ClockSteps {
    wall: Timestamp,
    steady: Duration,
}

impl ClockSteps {
    /// Begins with what both clocks say now.
    pub fn new(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: clock.monotonic_now() }
    }

    /// Returns the step of the wall clock since the previous poll, if it was set.
    pub fn poll_step(&mut self, clock: &dyn Clock) -> Option<ClockStep> {
        let (wall, steady) = (clock.now(), clock.monotonic_now());
        let passed = SignedDuration::try_from(steady.saturating_sub(self.steady)).unwrap_or_default();
        let before = self.wall.checked_add(passed).unwrap_or(self.wall);
        *self = Self { wall, steady };
        let by = wall.duration_since(before);
        (by.abs() >= CLOCK_STEP_MIN).then_some(ClockStep { by, before, after: wall })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::BoxFuture;

    /// Two clocks in milliseconds.
    #[derive(Debug, Default)]
    struct TwoClocks {
        wall: AtomicI64,
        steady: AtomicI64,
    }

    impl Clock for TwoClocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_millisecond(self.wall.load(Ordering::Relaxed)).expect("a time")
        }

        fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }

        fn monotonic_now(&self) -> Duration {
            Duration::from_millis(self.steady.load(Ordering::Relaxed).unsigned_abs())
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_clock_that_is_set_takes_a_step() {
        let clock = TwoClocks { wall: 100_000.into(), steady: 0.into() };
        let mut steps = ClockSteps::new(&clock);
        for (wall, step) in
            [(10_000, None), (11_999, None), (12_000, Some(false)), (8_000, Some(true)), (8_001, None)]
        {
            clock.wall.fetch_add(wall, Ordering::Relaxed);
            clock.steady.fetch_add(10_000, Ordering::Relaxed);
            assert_eq!(steps.poll_step(&clock).map(|step| step.is_back()), step, "{wall}");
        }
    }
}
