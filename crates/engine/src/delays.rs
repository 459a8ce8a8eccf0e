//! Delayed calls: each begins once its time to cool is over, unless somebody refused it before.
//!
//! The timer is the approval's row, so a crash loses none. What is kept in memory is when to look next, which is "now" at a
//! start and after anything was lost. The janitor looks; what then becomes of a call is [`crate::approvals`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use dromia_contracts::approval::Approval;
use dromia_contracts::store::{Page, ReadError};
use dromia_contracts::{ApprovalId, Fault};
use jiff::{SignedDuration, Timestamp};

use crate::config::JANITOR_SECONDS;
use crate::core::Core;

/// The most delayed calls of one page.
const PAGE: usize = Page::<ApprovalId>::LIMIT_MAX;

/// The most pages of one look. The janitor has other things to do; the next look goes on behind them.
const PAGES: usize = 4;

/// When and where to look.
#[derive(Debug)]
pub(crate) struct Delays {
    /// When a delayed call may be due, in milliseconds; never later than the first one is.
    due: AtomicI64,
    /// Behind how many that went wrong the last look broke off; 0 where it came to the end.
    left_off: AtomicUsize,
}

impl Default for Delays {
    fn default() -> Self {
        Self { due: AtomicI64::new(i64::MIN), left_off: AtomicUsize::new(0) }
    }
}

impl Delays {
    /// Has the janitor look at this time, if it would look later.
    pub(crate) fn look_at(&self, at: Timestamp) {
        // Behind the millisecond, so that what is due then is due.
        self.due.fetch_min(at.as_millisecond().saturating_add(1), Ordering::AcqRel);
    }

    /// Has the janitor look when each of these requests is allowed by itself.
    pub(crate) fn look_at_all(&self, asks: &[Approval]) {
        asks.iter().filter_map(|ask| ask.cools_until).for_each(|until| self.look_at(until));
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.due.load(Ordering::Acquire) <= now.as_millisecond()
    }

    /// Forgets when to look. Whoever delays a call from now on says it again, after the commit.
    fn forget(&self) {
        self.due.store(i64::MAX, Ordering::Release);
    }

    /// When to look next; nothing where no call is known to be delayed.
    fn next(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.due.load(Ordering::Acquire)).ok()
    }
}

/// Answers what has cooled, where something may be due; returns when to look again.
pub(crate) async fn settle(core: &Arc<Core>, now: Timestamp) -> Option<Timestamp> {
    if core.delays.is_due(now) {
        core.delays.forget();
        let later = now.checked_add(SignedDuration::from_secs(JANITOR_SECONDS)).unwrap_or(now);
        match look(core, now).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(%fault, "a delayed call must wait");
                core.delays.look_at(later);
            }
            Err(error) => {
                tracing::warn!(%error, "looking for delayed calls failed");
                core.delays.look_at(later);
            }
        }
    }
    core.delays.next()
}

/// Looks at what cools, of which the tenants take turns. What goes wrong stays where it stands, so a page of it is passed
/// over, and what stands behind has its turn. Gives back the last thing that went wrong with a call.
async fn look(core: &Arc<Core>, now: Timestamp) -> Result<Result<(), Fault>, ReadError> {
    let mut ended = Ok(());
    let mut walk = Walk::new(PAGE, core.delays.left_off.load(Ordering::Acquire));
    let mut next = Some(0);
    while let Some(skip) = next
        && !core.is_draining()
    {
        let found = core.ports.store.cooling_approvals(&core.operator(), now, skip, PAGE).await?;
        let mut seen = Seen { found: found.len(), ..Seen::default() };
        for cooling in &found {
            if cooling.until > now {
                core.delays.look_at(cooling.until);
                continue;
            }
            match core.approval_cooled(cooling.tenant, cooling.approval).await {
                Ok(()) => seen.settled += 1,
                Err(fault) => {
                    seen.failed += 1;
                    ended = Err(fault);
                }
            }
        }
        next = walk.next(seen);
    }
    core.delays.left_off.store(walk.left_off, Ordering::Release);
    // What was settled made room on a full page for what stood behind it, or for the next one of its tenant. Where all that
    // is due goes wrong, `settle` looks later.
    if walk.was_full && walk.has_settled {
        core.delays.look_at(now);
    }
    Ok(ended)
}

/// What came of a page.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// How many there were, those that are not due included.
    found: usize,
    settled: usize,
    failed: usize,
}

/// The way of one look: the first page always, because what is new and well stands there, and the others from where the
/// last look broke off.
#[derive(Debug)]
struct Walk {
    page: usize,
    pages: usize,
    /// How many stand before the next page.
    before: usize,
    left_off: usize,
    has_failed: bool,
    has_settled: bool,
    was_full: bool,
}

impl Walk {
    fn new(page: usize, left_off: usize) -> Self {
        Self { page, pages: 0, before: 0, left_off, has_failed: false, has_settled: false, was_full: false }
    }

    /// Notes a page; returns how many to pass over for the one to look at next, or nothing where the look ends.
    fn next(&mut self, seen: Seen) -> Option<usize> {
        self.pages += 1;
        self.has_failed |= seen.failed > 0;
        self.has_settled |= seen.settled > 0;
        let is_full = seen.found >= self.page;
        self.was_full |= is_full;
        // Where nothing went wrong, nothing that is due stands behind this page: it comes after the last of its tenant, and
        // each of these was settled or is not due.
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
    use super::*;

    /// How many looks it takes until nothing is left but what always goes wrong. `calls` stand in their order; those that
    /// are true go wrong.
    fn looks(
        mut calls: Vec<bool>,
        page: usize,
        next: impl Fn(&mut Walk, Seen) -> Option<usize>,
    ) -> Option<usize> {
        let mut left_off = 0;
        (1..=64).find(|_| {
            let mut walk = Walk::new(page, left_off);
            let mut skip = Some(0);
            while let Some(from) = skip {
                let from = from.min(calls.len());
                let behind = calls.split_off(from);
                let shown = behind.len().min(page);
                let failed = behind[..shown].iter().filter(|fails| **fails).count();
                let seen = Seen { found: shown, settled: shown - failed, failed };
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
    fn what_stands_behind_pages_of_what_goes_wrong_has_its_turn() {
        for page in [1, 2, 7, PAGE] {
            for pages in 0..20 {
                for wrong in [page * pages, page * pages + 1, (page * pages).saturating_sub(1)] {
                    let taken = looks(behind(wrong), page, Walk::next);
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
        let first = |walk: &mut Walk, seen: Seen| {
            walk.next(seen);
            walk.left_off = 0;
            None
        };
        assert_eq!(looks(behind(PAGE + 44), PAGE, first), None, "nothing notices it");
        assert_eq!(looks(behind(PAGE + 44), PAGE, Walk::next), Some(1));
    }

    #[test]
    fn a_look_ends_where_nothing_goes_wrong_and_after_its_pages() {
        let mut walk = Walk::new(2, 0);
        assert_eq!(walk.next(Seen { found: 2, settled: 1, failed: 0 }), None, "the other is not due");
        assert!(walk.was_full && walk.has_settled);
        let mut walk = Walk::new(2, 6);
        let seen = Seen { found: 2, settled: 0, failed: 2 };
        let mut skips = vec![];
        while let Some(skip) = walk.next(seen) {
            skips.push(skip);
        }
        assert_eq!((skips, walk.left_off), (vec![6, 8, 10], 12));
        let mut walk = Walk::new(2, 12);
        assert_eq!(walk.next(seen), Some(12));
        assert_eq!((walk.next(Seen::default()), walk.left_off), (None, 0), "it begins anew");
    }
}
