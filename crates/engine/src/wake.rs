//! Waking parked runs that are due: a walk along them in the order of their time, which goes on where it left off.
//!
//! A run is parked for a time to come, so nothing comes to stand before the place that the walk has reached, and a look
//! reads what has become due since and no row twice. What was passed and may have to be queued all the same is found by
//! beginning anew: where a run was due already when it was parked, where a queue was full and has room again, after
//! something was lost, and in any case after [`JANITOR_SECONDS`]. The walk keeps its place and no list.
//!
//! What one look finds is queued at once, so that the scheduler sees every tenant before it hands out a slot.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dromia_contracts::store::{Page, ReadError};
use dromia_contracts::{RunId, TenantId};
use jiff::{SignedDuration, Timestamp};

use crate::config::{JANITOR_SECONDS, READY_MAX};
use crate::core::Core;

const PAGE: usize = Page::<RunId>::LIMIT_MAX;
/// The most pages of one look: as many runs as one tenant may have in its queue.
const PAGES: usize = READY_MAX / PAGE;
/// The time from one beginning to the next, where one is asked for.
const ANEW_PAUSE: SignedDuration = SignedDuration::from_millis(200);

/// Where the walk stands.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The last due run that it passed.
    after: Option<(Timestamp, TenantId, RunId)>,
    /// Whether it has passed everything that was due.
    is_done: bool,
    /// When it began at the first.
    began: Timestamp,
}

impl Walk {
    /// Begins at the first parked run.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { after: None, is_done: true, began: now }
    }

    /// Begins anew where it is time to. It comes to its end before, so that nobody stands behind its beginnings.
    fn begin(&mut self, core: &Core, now: Timestamp) {
        // Where the clock was set back, what is parked from now on stands before its place.
        if now < self.began || (self.is_done && self.anew_at(core) <= now) {
            core.wake_anew.store(false, Ordering::Release);
            *self = Self::new(now);
        }
    }

    /// When it begins anew.
    fn anew_at(&self, core: &Core) -> Timestamp {
        let is_asked = core.wake_anew.load(Ordering::Acquire);
        let pause = if is_asked { ANEW_PAUSE } else { SignedDuration::from_secs(JANITOR_SECONDS) };
        self.began.checked_add(pause).unwrap_or(self.began)
    }
}

/// Queues the parked runs that are due; returns when to look again.
pub(crate) async fn look(core: &Arc<Core>, walk: &mut Walk, now: Timestamp) -> Result<Timestamp, ReadError> {
    walk.begin(core, now);
    let (mut after, mut next, mut is_done) = (walk.after, None, false);
    let mut due = Vec::new();
    for _ in 0..PAGES {
        let parked = core.ports.store.parked_runs(&core.operator(), Page { after, limit: PAGE }).await?;
        for open in &parked {
            match open.run.head.wake_at {
                Some(at) if at <= now => {
                    after = Some((at, open.tenant, open.run.id));
                    due.push((open.tenant, open.run.id));
                }
                later => {
                    next = later;
                    break;
                }
            }
        }
        if next.is_some() || parked.len() < PAGE {
            is_done = true;
            break;
        }
    }
    // A run that is active was taken over already; its owner says how it goes on.
    for (tenant, run) in due.into_iter().filter(|(_, run)| !core.hub.is_active(*run)) {
        core.scheduler.push_due(tenant, run);
    }
    core.dispatch();
    (walk.after, walk.is_done) = (after, is_done);
    // Where more is due than one look reads, the next look goes on at once.
    let again = if is_done { walk.anew_at(core) } else { now };
    Ok(next.map_or(again, |next| next.min(again)))
}

impl Core {
    /// Has the walk along what is due begin anew.
    pub(crate) fn request_wake(&self) {
        self.wake_anew.store(true, Ordering::Release);
        self.janitor.notify_one();
    }

    /// Tells that a run rests, and until when. One that is due already may stand behind the walk.
    pub(crate) fn rests(&self, wake_at: Option<Timestamp>) {
        // By the millisecond, which is what a store keeps.
        let now = self.ports.runtime.clock.now().as_millisecond();
        if wake_at.is_some_and(|at| at.as_millisecond() <= now) {
            self.wake_anew.store(true, Ordering::Release);
        }
        self.janitor.notify_one();
    }
}
