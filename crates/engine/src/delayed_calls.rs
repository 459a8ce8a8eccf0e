//! Delayed calls: each begins once its delay is over, unless a person refused it before.
//!
//! The timer is the approval's row, so a crash loses none. Memory holds only the time of the next scan, which is "now"
//! at a start and after a loss. The janitor scans; [`crate::approvals`] then settles each call.

pub(crate) mod schedule;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dromia_contracts::store::{PageRequest, ReadError};
use dromia_contracts::{ApprovalId, Fault};
use jiff::{SignedDuration, Timestamp};

use crate::approvals::ApprovalAnswers;
use crate::config::JANITOR_SECONDS;
use crate::core::EngineCore;

/// The most delayed calls of one page.
const PAGE: usize = PageRequest::<ApprovalId>::LIMIT_MAX;

/// The most pages of one scan. The janitor has other work; the next scan continues behind them.
const PAGES: usize = 4;

/// Settles the calls whose delay is over, if one may be due; returns the time of the next scan.
pub(crate) async fn settle_due_delays(core: &Arc<EngineCore>, now: Timestamp) -> Option<Timestamp> {
    if core.delays.is_due(now) {
        core.delays.clear_due();
        let later = now.checked_add(SignedDuration::from_secs(JANITOR_SECONDS)).unwrap_or(now);
        match scan_delays(core, now).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(%fault, "a delayed call must wait");
                core.delays.look_at(later);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to look for delayed calls");
                core.delays.look_at(later);
            }
        }
    }
    core.delays.next()
}

/// Scans the delayed calls; the tenants take turns. A call that fails stays in its place, so a page of failures is
/// skipped and the calls behind it have their turn. Returns the last failure of a call.
async fn scan_delays(core: &Arc<EngineCore>, now: Timestamp) -> Result<Result<(), Fault>, ReadError> {
    let mut ended = Ok(());
    let mut walk = DelayScan::new(PAGE, core.delays.left_off.load(Ordering::Acquire));
    let mut next = Some(0);
    let looks_ahead = core.delays.may_be_ahead.swap(false, Ordering::AcqRel);
    let mut is_ahead = false;
    while let Some(skip) = next
        && !core.is_draining()
    {
        let found = core.ports.store.cooling_approvals(&core.node_operator(), now, skip, PAGE).await?;
        let mut seen = DelayPageResult { found: found.len(), ..DelayPageResult::default() };
        for cooling in &found {
            let mut until = cooling.until;
            if looks_ahead && until > now {
                let asked =
                    core.ports.store.approval(&core.recovery_scope(cooling.tenant), cooling.approval).await?;
                is_ahead |= asked.as_ref().is_some_and(|asked| asked.deadlines.asked_at > now);
                until = asked.and_then(|asked| core.delays.cools_until(&asked, now)).unwrap_or(until);
            }
            if until > now {
                core.delays.look_at(until);
                continue;
            }
            match ApprovalAnswers::new(core).approval_cooled(cooling.tenant, cooling.approval).await {
                Ok(()) => seen.settled += 1,
                Err(fault) => {
                    seen.failed += 1;
                    ended = Err(fault);
                }
            }
        }
        next = walk.next(seen);
    }
    // The next scan reads the requests again whose time is still in the future, and those behind the pages of this
    // scan.
    if is_ahead || (looks_ahead && walk.was_full) {
        core.delays.may_be_ahead.store(true, Ordering::Release);
    }
    core.delays.left_off.store(walk.left_off, Ordering::Release);
    // Settled calls made room on a full page for the calls behind them, or for the next one of their tenant. If all due
    // calls fail, `settle` scans later.
    if walk.was_full && walk.has_settled {
        core.delays.look_at(now);
    }
    Ok(ended)
}

/// What came of a page.
#[derive(Debug, Clone, Copy, Default)]
struct DelayPageResult {
    /// How many there were, those that are not due included.
    found: usize,
    settled: usize,
    failed: usize,
}

/// The order of one scan: the first page always, because new calls without failures are there, and the others from
/// where the last scan broke off.
#[derive(Debug)]
struct DelayScan {
    page: usize,
    pages: usize,
    /// How many calls precede the next page.
    before: usize,
    left_off: usize,
    has_failed: bool,
    has_settled: bool,
    was_full: bool,
}

impl DelayScan {
    fn new(page: usize, left_off: usize) -> Self {
        Self { page, pages: 0, before: 0, left_off, has_failed: false, has_settled: false, was_full: false }
    }

    /// Notes a page; returns how many calls to skip for the next page, or `None` if the scan ends.
    fn next(&mut self, seen: DelayPageResult) -> Option<usize> {
        self.pages += 1;
        self.has_failed |= seen.failed > 0;
        self.has_settled |= seen.settled > 0;
        let is_full = seen.found >= self.page;
        self.was_full |= is_full;
        // Without a failure no due call follows this page: it would come after the last one of its tenant, and each of
        // these was settled or is not due.
        if !is_full || !self.has_failed {
            self.left_off = 0;
            return None;
        }
        self.before += seen.found - seen.settled;
        if self.pages == 1 {
            self.before = self.before.max(self.left_off);
        }
        if self.pages >= PAGES {
            self.left_off = self.before;
            return None;
        }
        Some(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::schedule::cools_again_until;
    use super::*;

    /// How many looks it takes until nothing is left but what always goes wrong. `calls` stand in their order; those that
    /// are true go wrong.
    fn looks(
        mut calls: Vec<bool>,
        page: usize,
        next: impl Fn(&mut DelayScan, DelayPageResult) -> Option<usize>,
    ) -> Option<usize> {
        let mut left_off = 0;
        (1..=64).find(|_| {
            let mut walk = DelayScan::new(page, left_off);
            let mut skip = Some(0);
            while let Some(from) = skip {
                let from = from.min(calls.len());
                let behind = calls.split_off(from);
                let shown = behind.len().min(page);
                let failed = behind[..shown].iter().filter(|fails| **fails).count();
                let seen = DelayPageResult { found: shown, settled: shown - failed, failed };
                calls.extend(behind[..shown].iter().copied().filter(|fails| *fails));
                calls.extend(&behind[shown..]);
                skip = next(&mut walk, seen);
            }
            left_off = walk.left_off;
            calls.iter().all(|fails| *fails)
        })
    }

    /// So many that go wrong, and one that does not, each of a tenant of its own.
    fn behind(wrong: usize) -> Vec<bool> {
        (0..=wrong).map(|number| number < wrong).collect()
    }

    #[test]
    fn delayed_calls_behind_pages_of_failures_are_reached() {
        for page in [1, 2, 7, PAGE] {
            for pages in 0..20 {
                for wrong in [page * pages, page * pages + 1, (page * pages).saturating_sub(1)] {
                    let taken = looks(behind(wrong), page, DelayScan::next);
                    // Three pages of each look lie behind the last one.
                    assert!(
                        taken.is_some_and(|taken| taken <= pages / 3 + 2),
                        "{wrong} by {page}: {taken:?}"
                    );
                }
            }
        }
    }

    /// Planted fault: a look at the first page and no other.
    #[test]
    fn a_look_that_waits_behind_what_goes_wrong_is_caught() {
        let first = |walk: &mut DelayScan, seen: DelayPageResult| {
            walk.next(seen);
            walk.left_off = 0;
            None
        };
        assert_eq!(looks(behind(PAGE + 44), PAGE, first), None, "nothing notices it");
        assert_eq!(looks(behind(PAGE + 44), PAGE, DelayScan::next), Some(1));
    }

    /// When each of two calls with 30 s to cool is allowed, after the clock was set back from 1,000 s to 100 s: one that
    /// was asked for before, and one that was asked for later.
    fn allowed(cools: impl Fn(i64, i64, i64, i64) -> i64) -> [i64; 2] {
        [cools(980, 1_010, 100, 100), cools(110, 140, 120, 100)]
    }

    #[test]
    fn a_call_before_a_clock_step_back_cools_again() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let cools =
            |asked, until, now, back| cools_again_until(at(asked), at(until), at(now), at(back)).as_second();
        assert_eq!(allowed(cools), [130, 140]);
        assert_eq!(cools(1_000, 1_030, 999, 998), 1_028, "a small step makes it no longer than it is");
    }

    /// Planted fault: the time that was written down counts, whatever became of the clock.
    #[test]
    fn a_delay_that_trusts_its_written_time_is_caught() {
        assert_ne!(allowed(|_, until, _, _| until), [130, 140], "nothing notices it");
    }

    #[test]
    fn a_delay_scan_ends_without_failures_or_after_its_pages() {
        let mut walk = DelayScan::new(2, 0);
        assert_eq!(
            walk.next(DelayPageResult { found: 2, settled: 1, failed: 0 }),
            None,
            "the other is not due"
        );
        assert!(walk.was_full && walk.has_settled);
        let mut walk = DelayScan::new(2, 6);
        let seen = DelayPageResult { found: 2, settled: 0, failed: 2 };
        let mut skips = vec![];
        while let Some(skip) = walk.next(seen) {
            skips.push(skip);
        }
        assert_eq!((skips, walk.left_off), (vec![6, 8, 10], 12));
        let mut walk = DelayScan::new(2, 12);
        assert_eq!(walk.next(seen), Some(12));
        assert_eq!((walk.next(DelayPageResult::default()), walk.left_off), (None, 0), "it begins anew");
    }
}
