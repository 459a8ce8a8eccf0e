//! Finding signals that nothing in memory announced: the notification was lost, or was made in another process.
//!
//! The owner of a run learns of a signal with its next commit. This scan is for the others: runs that rest, and owners
//! that wait for a model or a tool. It reads only open runs with a signal that no entry took, every [`JANITOR_SECONDS`],
//! and keeps its position and no list.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{PageRequest, ReadError};
use dromia_contracts::{RunId, TenantId};

use crate::config::{JANITOR_SECONDS, READY_MAX};
use crate::core::EngineCore;
use crate::scheduler::ReadyWork;

const PAGE: usize = PageRequest::<RunId>::LIMIT_MAX;
/// The most pages of one pass; the next pass continues behind them.
const PAGES: usize = READY_MAX / PAGE;

/// The position of the scan.
#[derive(Debug, Default)]
pub(crate) struct SignalScan {
    /// The last run that it passed.
    after: Option<(TenantId, RunId)>,
    /// The time of the next pass, by the steady clock.
    next_at: Duration,
}

impl SignalScan {
    /// Notifies owners and queues resting runs that have a signal, if a pass is due.
    pub(crate) async fn scan_if_due(&mut self, core: &Arc<EngineCore>) -> Result<(), ReadError> {
        let now = core.ports.runtime.clock.monotonic_now();
        if now < self.next_at {
            return Ok(());
        }
        self.next_at = now + Duration::from_secs(JANITOR_SECONDS.unsigned_abs());
        for _ in 0..PAGES {
            let page = PageRequest { after: self.after.take(), limit: PAGE };
            let found = core.ports.store.signalled_runs(&core.node_operator(), page).await?;
            for open in &found {
                // A held run was searched once since its last entry; a journal that cannot be read stays so.
                let is_searched =
                    open.run.head.status == RunStatus::Held && open.run.claims_without_entry() > 0;
                let is_elsewhere = core.lease.is_held_elsewhere(open.run.holder);
                if !core.hub.signal_run(open.run.id) && !is_searched && !is_elsewhere {
                    core.scheduler.push_ready(open.tenant, ReadyWork::Run(open.run.id));
                }
            }
            match found.last() {
                Some(last) if found.len() == PAGE => self.after = Some((last.tenant, last.run.id)),
                _ => break,
            }
        }
        core.dispatch_ready();
        Ok(())
    }
}
