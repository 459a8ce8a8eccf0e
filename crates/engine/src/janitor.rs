//! The one background loop: finds what memory does not hold and wakes what is due.
//!
//! It runs once at the start, whenever something was lost, and when the earliest parked run is due. It holds no
//! list: what it needs to know it reads from the store, page by page. It waits for no turn and for no erasure: these have
//! tasks of their own.
//!
//! It waits by the steady clock and for [`JANITOR_SECONDS`] at most, so a wall clock that is set back stops nothing. In
//! that case it logs a warning and scans everything: an attempt whose time now lies further ahead is made at once, a
//! run that waits for a person since a time still to come lets go of its call, and a delay starts again from the new time.

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dromia_contracts::clock::{ClockStep, ClockSteps};
use dromia_contracts::entry::ParkReason;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::LiveEvent;
use dromia_contracts::store::{OpenRun, PageRequest, ReadError};
use dromia_contracts::{BoxFuture, RunId};
use futures_util::future::select;
use jiff::Timestamp;

use crate::config::JANITOR_SECONDS;
use crate::core::EngineCore;
use crate::delayed_calls;
use crate::due_runs::{self, WakeScan};
use crate::erasures::ErasureTasks;
use crate::journal_reads::parked_at;
use crate::outcome::RunOutcomes;
use crate::panics::panic_of;
use crate::refusal::run_erased;
use crate::retention::RetentionTimer;
use crate::scheduler::ReadyWork;
use crate::signalled_runs::SignalScan;

const PAGE: usize = PageRequest::<RunId>::LIMIT_MAX;
/// The time from one full scan to the next.
const RESCAN_PAUSE: Duration = Duration::from_millis(200);
/// The time from one look at the turns of a drain to the next.
const DRAIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest time between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(JANITOR_SECONDS.unsigned_abs());

/// Runs the janitor, and another one after each that panics: without one nothing that was lost is found again.
pub(crate) fn supervise_janitor(core: Arc<EngineCore>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(panic) = panic_of(Box::pin(run_janitor(Arc::clone(&core)))).await else { return };
        tracing::error!("the janitor panicked; a new one starts");
        core.look_later().await;
        core.ports.runtime.spawn.spawn(supervise_janitor(Arc::clone(&core)));
        resume_unwind(panic)
    })
}

/// Runs until the engine drains.
pub(crate) async fn run_janitor(core: Arc<EngineCore>) {
    let clock = &core.ports.runtime.clock;
    let mut not_before = clock.monotonic_now();
    let mut walk = WakeScan::new(clock.now());
    let mut signals = SignalScan::default();
    let mut retention = RetentionTimer::default();
    let mut steps = ClockSteps::new(&**clock);
    core.delays.note_set_back(clock.now());
    while !core.is_draining() {
        // What fails asks to be looked for again at once; while the store keeps failing that must not be a spin.
        clock.sleep(not_before.saturating_sub(clock.monotonic_now())).await;
        core.keep_lease().await;
        if let Some(step) = steps.poll_step(&**clock) {
            handle_clock_step(&core, step);
        }
        if core.rescan.load(Ordering::Acquire) && core.ports.store.store_health().read_only.is_none() {
            core.rescan.store(false, Ordering::Release);
            core.delays.look_at(Timestamp::MIN);
            not_before = clock.monotonic_now() + RESCAN_PAUSE;
            if let Err(error) = rescan_store(&core).await {
                tracing::warn!(%error, "failed to look for lost runs");
                core.rescan.store(true, Ordering::Release);
            }
            // A run whose takeover failed precedes the scan's position.
            core.wake_anew.store(true, Ordering::Release);
        } else if core.erasures.take_ended()
            && let Err(error) = ErasureTasks::new(&core).erase_left().await
        {
            tracing::warn!(%error, "failed to look for erasures");
            core.rescan.store(true, Ordering::Release);
        }
        retention.begin_if_due(&core);
        if let Err(error) = answer_waiters_of_lost_runs(&core).await {
            tracing::warn!(%error, "failed to look for the ends of lost runs");
        }
        if let Err(error) = signals.scan_if_due(&core).await {
            tracing::warn!(%error, "failed to look for signals that no run took");
        }
        let now = clock.now();
        let due = match due_runs::scan_parked_runs(&core, &mut walk, now).await {
            Ok(due) => Some(due),
            Err(error) => {
                tracing::warn!(%error, "failed to look for parked runs");
                None
            }
        };
        let cooled = delayed_calls::settle_due_delays(&core, now).await;
        let longest = if core.rescan.load(Ordering::Acquire) { RESCAN_PAUSE } else { LOOK_PAUSE };
        let left = |until: Timestamp| Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let pause = [due, cooled].into_iter().flatten().map(left).fold(longest, Ord::min);
        select(clock.sleep(pause), pin!(core.janitor.notified())).await;
    }
    // Turns that run on during the drain stay in the hands of this process.
    while core.scheduler.count_tasks() > 0 {
        core.keep_lease().await;
        clock.sleep(DRAIN_PAUSE).await;
    }
}

/// Logs that the wall clock was set, and rescans everything that waits for a wall time.
fn handle_clock_step(core: &EngineCore, step: ClockStep) {
    let (by, now) = (step.by, step.after);
    if step.is_back() {
        tracing::warn!(%by, %now, "the wall clock was set back; the engine checks everything that waits for \
                                   a time");
        core.delays.note_set_back(now);
        core.rescan.store(true, Ordering::Release);
    } else {
        tracing::warn!(%by, %now, "the wall clock was set forward; everything that waited for a past time \
                                   starts");
    }
}

/// Queues every open run without a task and every waiting session, and continues unfinished erasures.
async fn rescan_store(core: &Arc<EngineCore>) -> Result<(), ReadError> {
    let operator = core.node_operator();
    let store = &core.ports.store;
    let mut page = PageRequest::first_page(PAGE);
    loop {
        let runs = store.open_runs(&operator, page).await?;
        for open in &runs {
            // Parked by time: the timer finds it. A signal that a crash came behind finds it at once.
            let rests = open.run.head.status == RunStatus::Parked
                && open.run.head.wake_at.is_some()
                && !open.run.has_open_signal()
                && !waits_for_a_past_clock(core, open).await?;
            match open.run.head.status {
                RunStatus::Held => tracing::error!(run = %open.run.id, "a run is held; see `dromia run why`"),
                // Parked by a pause: taken over once the agent runs again.
                _ if rests => {}
                _ if core.lease.is_held_elsewhere(open.run.holder) => {}
                _ if core.hub.is_active(open.run.id) => {}
                _ => core.scheduler.push_ready(open.tenant, ReadyWork::Run(open.run.id)),
            }
        }
        core.dispatch_ready();
        match runs.last() {
            Some(last) if runs.len() == PAGE => page.after = Some((last.tenant, last.run.id)),
            _ => break,
        }
        core.keep_lease().await;
    }
    let mut page = PageRequest::first_page(PAGE);
    loop {
        let sessions = store.pending_sessions(&operator, page).await?;
        for pending in &sessions {
            core.scheduler.push_ready(pending.tenant, ReadyWork::Session(pending.session));
        }
        core.dispatch_ready();
        match sessions.last() {
            Some(last) if sessions.len() == PAGE => page.after = Some((last.tenant, last.session)),
            _ => break,
        }
    }
    ErasureTasks::new(core).erase_left().await?;
    RunOutcomes::new(core).answer_queued_everywhere().await;
    Ok(())
}

/// Returns whether a run waits to call its model again or for a person, and began to wait at a time that is still to come: the
/// clock was set back since, and the pause that was meant is over or short.
async fn waits_for_a_past_clock(core: &EngineCore, open: &OpenRun) -> Result<bool, ReadError> {
    let now = core.ports.runtime.clock.now();
    if open.run.head.wake_at.is_none_or(|at| at <= now) {
        return Ok(false);
    }
    let scope = core.recovery_scope(open.tenant);
    let parked = parked_at(&*core.ports.store, &scope, &open.run).await?;
    Ok(parked.is_some_and(|(at, park)| match park {
        ParkReason::Retry { .. } | ParkReason::Approval { .. } => at > now,
        ParkReason::AgentPaused => false,
    }))
}

/// Answers callers whose run ended in a commit with an unknown outcome. A run that continues under an owner of this
/// process is left to that owner; one that is parked, or continues elsewhere, is read again.
async fn answer_waiters_of_lost_runs(core: &Arc<EngineCore>) -> Result<(), ReadError> {
    let mut lost = core.hub.take_lost().into_iter();
    while let Some(next) = lost.next() {
        let scope = core.recovery_scope(next.tenant);
        let row = match core.ports.store.run(&scope, next.run).await {
            Ok(row) => row,
            Err(error) => {
                for run in std::iter::once(next).chain(lost) {
                    core.hub.look_for(run);
                }
                return Err(error);
            }
        };
        match row {
            Some(row) if !row.head.status.is_terminal() => {
                if !core.hub.is_active(next.run) {
                    core.hub.look_for(next);
                }
            }
            Some(row) => {
                let (outcome, taken) = match RunOutcomes::new(core).read_outcome(&scope, &row).await {
                    Ok((outcome, taken)) => (Ok(outcome), taken),
                    Err(fault) => (Err(fault), next.items),
                };
                let (seq, status) = (row.last_seq, row.head.status);
                core.hub.publish(next.run, || LiveEvent::Committed { seq, status });
                core.hub.resolve_waiters(&taken, &outcome);
                core.hub.end_watch(next.run);
            }
            // It never began: its input waits still, and so do they.
            None if !next.has_begun => {}
            None => {
                core.hub.resolve_waiters(&next.items, &Err(run_erased(next.run)));
                core.hub.end_watch(next.run);
            }
        }
    }
    Ok(())
}
