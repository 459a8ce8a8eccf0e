//! When the next delayed call may be due.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use dromia_contracts::approval::ApprovalRequest;
use jiff::Timestamp;

/// When and where to look.
#[derive(Debug)]
pub(crate) struct DelaySchedule {
    /// When a delayed call may be due, in milliseconds; never later than the first one is.
    due: AtomicI64,
    /// Behind how many that went wrong the last look broke off; 0 where it came to the end.
    pub(super) left_off: AtomicUsize,
    /// The wall time in milliseconds at the start, or right after the clock was last set back.
    set_back_at: AtomicI64,
    /// Whether there may be calls whose request time lies in the future.
    pub(super) may_be_ahead: AtomicBool,
}

impl Default for DelaySchedule {
    fn default() -> Self {
        Self {
            due: AtomicI64::new(i64::MIN),
            left_off: AtomicUsize::new(0),
            set_back_at: AtomicI64::new(i64::MAX),
            may_be_ahead: AtomicBool::new(true),
        }
    }
}

impl DelaySchedule {
    /// Makes the janitor scan at this time, if its next scan is later.
    pub(crate) fn look_at(&self, at: Timestamp) {
        // One millisecond later, so that calls due at that time are included.
        self.due.fetch_min(at.as_millisecond().saturating_add(1), Ordering::AcqRel);
    }

    /// Makes the janitor scan when the delay of each of these requests is over.
    pub(crate) fn look_at_all(&self, asks: &[ApprovalRequest]) {
        asks.iter().filter_map(|ask| ask.deadlines.cools_until).for_each(|until| self.look_at(until));
    }

    /// Records the wall time after the clock was set back, and makes the janitor scan at once.
    pub(crate) fn note_set_back(&self, now: Timestamp) {
        self.set_back_at.store(now.as_millisecond(), Ordering::Release);
        self.may_be_ahead.store(true, Ordering::Release);
        self.look_at(Timestamp::MIN);
    }

    /// The time from which a delayed call is allowed.
    pub(crate) fn cools_until(&self, asked: &ApprovalRequest, now: Timestamp) -> Option<Timestamp> {
        let until = asked.cooling_at(now)?;
        let set_back_at = Timestamp::from_millisecond(self.set_back_at.load(Ordering::Acquire));
        Some(cools_again_until(asked.deadlines.asked_at, until, now, set_back_at.unwrap_or(Timestamp::MAX)))
    }

    /// Returns whether a call may be due.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due.load(Ordering::Acquire) <= now.as_millisecond()
    }

    /// Clears the time of the next scan. A call that is delayed from now on sets it again, after its commit.
    pub(super) fn clear_due(&self) {
        self.due.store(i64::MAX, Ordering::Release);
    }

    /// The time of the next scan; `None` if no call is known to be delayed.
    pub(super) fn next(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.due.load(Ordering::Acquire)).ok()
    }
}

/// The time from which a delayed call is allowed. A request time in the future means that the clock was set back since:
/// the delay begins again at that change, so it is never shorter than configured, and does not depend on the size of
/// the step.
pub(super) fn cools_again_until(
    asked_at: Timestamp,
    until: Timestamp,
    now: Timestamp,
    set_back_at: Timestamp,
) -> Timestamp {
    if asked_at <= now {
        return until;
    }
    set_back_at.checked_add(until.duration_since(asked_at)).map_or(until, |again| again.min(until))
}
