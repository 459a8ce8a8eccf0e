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
