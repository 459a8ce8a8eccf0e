//! Delayed calls: each begins once its time to cool is over, unless somebody refused it before.
//!
//! The timer is the approval's row, so a crash loses none. What is kept in memory is when to look next, which is "now" at a
//! start and after anything was lost. The janitor looks; what then becomes of a call is [`crate::approvals`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dromia_contracts::approval::Approval;
use dromia_contracts::store::{Page, ReadError};
use dromia_contracts::{ApprovalId, Fault};
use jiff::{SignedDuration, Timestamp};

use crate::config::JANITOR_SECONDS;
use crate::core::Core;

/// The most delayed calls of one look.
const PAGE: usize = Page::<ApprovalId>::LIMIT_MAX;

/// When a delayed call may be due, in milliseconds; never later than the first one is.
#[derive(Debug)]
pub(crate) struct Delays(AtomicI64);

impl Default for Delays {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Delays {
    /// Has the janitor look at this time, if it would look later.
    pub(crate) fn look_at(&self, at: Timestamp) {
        // Behind the millisecond, so that what is due then is due.
        self.0.fetch_min(at.as_millisecond().saturating_add(1), Ordering::AcqRel);
    }

    /// Has the janitor look when each of these requests is allowed by itself.
    pub(crate) fn look_at_all(&self, asks: &[Approval]) {
        asks.iter().filter_map(|ask| ask.cools_until).for_each(|until| self.look_at(until));
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.0.load(Ordering::Acquire) <= now.as_millisecond()
    }

    /// Forgets when to look. Whoever delays a call from now on says it again, after the commit.
    fn forget(&self) {
        self.0.store(i64::MAX, Ordering::Release);
    }

    /// When to look next; nothing where no call is known to be delayed.
    fn next(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.0.load(Ordering::Acquire)).ok()
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

/// Looks at the first page, in which the tenants take turns: one whose calls go wrong leaves the others their share of it.
/// Gives back the last thing that went wrong with one of its calls.
async fn look(core: &Arc<Core>, now: Timestamp) -> Result<Result<(), Fault>, ReadError> {
    let found = core.ports.store.cooling_approvals(&core.operator(), now, PAGE).await?;
    let mut ended = Ok(());
    let mut settled = false;
    for cooling in &found {
        if cooling.until > now {
            core.delays.look_at(cooling.until);
            continue;
        }
        match core.approval_cooled(cooling.tenant, cooling.approval).await {
            Ok(()) => settled = true,
            Err(fault) => ended = Err(fault),
        }
    }
    // More of them may be due behind a full page, of which what was settled made room. What is behind one where none is due
    // comes after the last of its tenant, or of each tenant; where all that is due goes wrong, `settle` looks later.
    if found.len() == PAGE && settled {
        core.delays.look_at(now);
    }
    Ok(ended)
}
