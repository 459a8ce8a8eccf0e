//! The one background loop: finds what memory does not hold and wakes what is due.
//!
//! It runs once at the start, whenever something was lost, and when the earliest parked run is due. It holds no
//! list: what it needs to know it reads from the store, page by page. It waits for no turn and for no erasure: these have
//! tasks of their own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dromia_contracts::entry::Park;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::Live;
use dromia_contracts::store::{Page, ReadError};
use dromia_contracts::{AgentId, RunId, TenantId};
use futures_util::future::select;
use jiff::{SignedDuration, Timestamp};

use crate::config::JANITOR_SECONDS;
use crate::core::Core;
use crate::delays;
use crate::recover::is_asked;
use crate::refusal::run_erased;
use crate::scheduler::Ready;
use crate::wake::{self, Walk};

const PAGE: usize = Page::<RunId>::LIMIT_MAX;
/// The time from one look at everything to the next.
const RESCAN_PAUSE: SignedDuration = SignedDuration::from_millis(200);

/// Runs until the engine drains.
pub(crate) async fn run(core: Arc<Core>) {
    let clock = &core.ports.runtime.clock;
    let mut not_before = clock.now();
    let mut walk = Walk::new(not_before);
    while !core.is_draining() {
        // What fails asks to be looked for again at once; while the store keeps failing that must not be a spin.
        clock.sleep_until(not_before).await;
        if core.rescan.load(Ordering::Acquire) && core.ports.store.health().read_only.is_none() {
            core.rescan.store(false, Ordering::Release);
            core.delays.look_at(Timestamp::MIN);
            not_before = clock.now().checked_add(RESCAN_PAUSE).unwrap_or(not_before);
            if let Err(error) = rescan(&core).await {
                tracing::warn!(%error, "looking for lost runs failed");
                core.rescan.store(true, Ordering::Release);
            }
            // A takeover that failed lies behind the walk.
            core.wake_anew.store(true, Ordering::Release);
        } else if core.erasures.take_ended()
            && let Err(error) = core.erase_left().await
        {
            tracing::warn!(%error, "looking for erasures failed");
            core.rescan.store(true, Ordering::Release);
        }
        if let Err(error) = answer_waiters_of_lost_runs(&core).await {
            tracing::warn!(%error, "looking for the ends of lost runs failed");
        }
        let now = clock.now();
        let due = match wake::look(&core, &mut walk, now).await {
            Ok(due) => Some(due),
            Err(error) => {
                tracing::warn!(%error, "looking for parked runs failed");
                None
            }
        };
        let cooled = delays::settle(&core, now).await;
        let pause = if core.rescan.load(Ordering::Acquire) {
            RESCAN_PAUSE
        } else {
            SignedDuration::from_secs(JANITOR_SECONDS)
        };
        let latest = now.checked_add(pause).unwrap_or(now);
        let until = [due, cooled].into_iter().flatten().fold(latest, Ord::min);
        let sleep = clock.sleep_until(until);
        select(sleep, pin!(core.janitor.notified())).await;
    }
}

/// Queues every open run without a task and every waiting session, and has what is left of erasures go on.
async fn rescan(core: &Arc<Core>) -> Result<(), ReadError> {
    let operator = core.operator();
    let store = &core.ports.store;
    let mut page = Page::first(PAGE);
    loop {
        let runs = store.open_runs(&operator, page).await?;
        for open in &runs {
            // Parked by time: the timer finds it. A signal that a crash came behind finds it at once.
            let rests = open.run.head.status == RunStatus::Parked
                && open.run.head.wake_at.is_some()
                && !is_asked(core, &core.recovery_scope(open.tenant), &open.run).await?;
            match open.run.head.status {
                RunStatus::Held => tracing::error!(run = %open.run.id, "a run is held; see `dromia run why`"),
                // Parked by a pause: taken over once the agent runs again.
                _ if rests => {}
                _ if core.hub.is_active(open.run.id) => {}
                _ => core.scheduler.push(open.tenant, Ready::Run(open.run.id)),
            }
        }
        core.dispatch();
        match runs.last() {
            Some(last) if runs.len() == PAGE => page.after = Some((last.tenant, last.run.id)),
            _ => break,
        }
    }
    let mut page = Page::first(PAGE);
    loop {
        let sessions = store.pending_sessions(&operator, page).await?;
        for pending in &sessions {
            core.scheduler.push(pending.tenant, Ready::Session(pending.session));
        }
        core.dispatch();
        match sessions.last() {
            Some(last) if sessions.len() == PAGE => page.after = Some((last.tenant, last.session)),
            _ => break,
        }
    }
    core.erase_left().await?;
    core.answer_queued_everywhere().await;
    Ok(())
}

/// Answers callers whose run ended in a commit that nobody heard of. A run that goes on under an owner of this
/// process is left to that owner; one that is held, or goes on elsewhere, is looked at again.
async fn answer_waiters_of_lost_runs(core: &Arc<Core>) -> Result<(), ReadError> {
    let mut lost = core.hub.take_lost().into_iter();
    while let Some(next) = lost.next() {
        let scope = core.recovery_scope(next.tenant);
        let row = match core.ports.store.run(&scope, next.run).await {
            Ok(row) => row,
            Err(error) => {
                for run in std::iter::once(next).chain(lost) {
                    core.hub.lose(run.tenant, run.run, &run.items);
                }
                return Err(error);
            }
        };
        match row {
            Some(row) if !row.head.status.is_terminal() => {
                if !core.hub.is_active(next.run) {
                    core.hub.lose(next.tenant, next.run, &next.items);
                }
            }
            Some(row) => {
                let outcome = core.outcome(&scope, &row).await;
                let (seq, status) = (row.last_seq, row.head.status);
                core.hub.publish(next.run, || Live::Committed { seq, status });
                core.hub.resolve(&next.items, &outcome);
                core.hub.unwatch(next.run);
            }
            None => {
                core.hub.resolve(&next.items, &Err(run_erased(next.run)));
                core.hub.unwatch(next.run);
            }
        }
    }
    Ok(())
}

impl Core {
    /// Queues what an agent left waiting while it was paused.
    pub(crate) async fn wake_agent(
        self: &Arc<Self>,
        tenant: TenantId,
        agent: AgentId,
    ) -> Result<(), ReadError> {
        let operator = self.operator();
        let store = &self.ports.store;
        let mut page = Page { after: Some((tenant, RunId::from_bytes([0; 16]))), limit: PAGE };
        loop {
            let runs = store.open_runs(&operator, page).await?;
            for open in runs.iter().filter(|open| open.tenant == tenant && open.run.agent == agent) {
                if open.run.head.status == RunStatus::Parked && open.run.head.wake_at.is_none() {
                    self.scheduler.push(tenant, Ready::Run(open.run.id));
                }
            }
            match runs.last() {
                Some(last) if runs.len() == PAGE && last.tenant == tenant => {
                    page.after = Some((tenant, last.run.id));
                }
                _ => break,
            }
        }
        let mut page =
            Page { after: Some((tenant, dromia_contracts::SessionId::from_bytes([0; 16]))), limit: PAGE };
        loop {
            let sessions = store.pending_sessions(&operator, page).await?;
            for pending in
                sessions.iter().filter(|pending| pending.tenant == tenant && pending.agent == agent)
            {
                self.scheduler.push(tenant, Ready::Session(pending.session));
            }
            match sessions.last() {
                Some(last) if sessions.len() == PAGE && last.tenant == tenant => {
                    page.after = Some((tenant, last.session));
                }
                _ => break,
            }
        }
        self.dispatch();
        Ok(())
    }
}

/// What `run why` says of a parked run.
pub(crate) fn park_text(park: Park) -> (String, String) {
    match park {
        Park::Retry { until } => (
            format!("the next attempt at its model, due at {until:.0}"),
            "time; the engine goes on by itself".to_owned(),
        ),
        Park::Approval { approval, cools_until: Some(cools_until), .. } => (
            format!("the time after which a call begins by itself, {cools_until:.0}: {approval}"),
            "time; or whoever may approve it, who may also refuse it".to_owned(),
        ),
        Park::Approval { approval, until, .. } => (
            format!("a person to allow a call: {approval}; it goes on without the call at {until:.0}"),
            "whoever may approve it".to_owned(),
        ),
        Park::AgentPaused => {
            ("its agent, which is paused".to_owned(), "whoever resumes the agent".to_owned())
        }
    }
}
