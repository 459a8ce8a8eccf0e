//! Waking parked runs that are due: a scan of them in the order of their time, which continues from its last position.
//!
//! A run is parked until a future time, so no run gets a place before the scan's position, and each pass reads only
//! what has become due since and no row twice. The scan restarts to find runs behind its position: if a run was due
//! already when it was parked, if a full queue has room again, after a loss, and in any case after [`JANITOR_SECONDS`].
//! The scan keeps its position and no list.
//!
//! Runs that one pass finds are queued at once, so that the scheduler sees every tenant before it hands out a slot.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dromia_contracts::store::{PageRequest, ReadError};
use dromia_contracts::{RunId, TenantId};
use jiff::{SignedDuration, Timestamp};

use crate::config::{JANITOR_SECONDS, READY_MAX};
use crate::core::EngineCore;

const PAGE: usize = PageRequest::<RunId>::LIMIT_MAX;
/// The most pages of one pass: as many runs as one tenant may have in its queue.
const PAGES: usize = READY_MAX / PAGE;
/// The time from one start to the next, if a restart is requested.
const ANEW_PAUSE: SignedDuration = SignedDuration::from_millis(200);

/// The position of the scan.
#[derive(Debug)]
pub(crate) struct WakeScan {
    /// The last due run that it passed.
    after: Option<(Timestamp, TenantId, RunId)>,
    /// Whether it has passed everything that was due.
    is_done: bool,
    /// When it began at the first.
    began: Timestamp,
}

impl WakeScan {
    /// Begins at the first parked run.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { after: None, is_done: true, began: now }
    }

    /// Restarts if it is time to. The scan reaches its end first, so that restarts do not starve the last runs.
    fn restart_if_due(&mut self, core: &EngineCore, now: Timestamp) {
        // If the clock was set back, runs that are parked from now on precede its position.
        if now < self.began || (self.is_done && self.anew_at(core) <= now) {
            core.wake_anew.store(false, Ordering::Release);
            *self = Self::new(now);
        }
    }

    /// The time of the next restart.
    fn anew_at(&self, core: &EngineCore) -> Timestamp {
        let is_asked = core.wake_anew.load(Ordering::Acquire);
        let pause = if is_asked { ANEW_PAUSE } else { SignedDuration::from_secs(JANITOR_SECONDS) };
        self.began.checked_add(pause).unwrap_or(self.began)
    }
}

/// Queues the parked runs that are due; returns the time of the next pass.
pub(crate) async fn scan_parked_runs(
    core: &Arc<EngineCore>,
    walk: &mut WakeScan,
    now: Timestamp,
) -> Result<Timestamp, ReadError> {
    walk.restart_if_due(core, now);
    let (mut after, mut next, mut is_done) = (walk.after, None, false);
    let mut due = Vec::new();
    for _ in 0..PAGES {
        let parked =
            core.ports.store.parked_runs(&core.node_operator(), PageRequest { after, limit: PAGE }).await?;
        for open in &parked {
            match open.run.head.wake_at {
                Some(at) if at <= now => {
                    after = Some((at, open.tenant, open.run.id));
                    if !core.lease.is_held_elsewhere(open.run.holder) {
                        due.push((open.tenant, open.run.id));
                    }
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
    // An active run was taken over already; its owner continues it.
    for (tenant, run) in due.into_iter().filter(|(_, run)| !core.hub.is_active(*run)) {
        core.scheduler.push_due(tenant, run);
    }
    core.dispatch_ready();
    (walk.after, walk.is_done) = (after, is_done);
    // If more is due than one pass reads, the next pass follows at once.
    let again = if is_done { walk.anew_at(core) } else { now };
    Ok(next.map_or(again, |next| next.min(again)))
}
