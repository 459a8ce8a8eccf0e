//! In-memory notifications: for callers that wait for an outcome, watchers of a run, and owners that must read their
//! signals.
//!
//! Nothing here is durable and nothing durable depends on it. A reader that misses a notification reads the journal.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::runs::{LiveEvent, RunOutcome};
use dromia_contracts::{AgentId, Fault, ItemId, RunId, SessionId, TenantId};
use tokio::sync::{Notify, broadcast, oneshot};

use crate::config::{WAITERS_MAX, WATCH_BUFFER};
use crate::refusal::too_many_wait;

/// The most runs without a task that are remembered because an input may join them.
const EARLY_MAX: usize = 4096;

type Waiter = oneshot::Sender<Result<RunOutcome, Fault>>;

/// Everything that memory knows of runs with a task.
#[derive(Debug, Default)]
pub(crate) struct RunHub {
    active: Mutex<HashMap<RunId, Arc<ActiveRun>>>,
    waiters: Arc<Mutex<ItemWaiters>>,
    watchers: Mutex<HashMap<RunId, broadcast::Sender<LiveEvent>>>,
    /// Runs that were dropped from memory while a caller waited for them.
    lost: Mutex<Vec<LostRun>>,
    /// Runs without a task to whose sessions a joining input came: claimed a moment ago, or at rest.
    early: Mutex<BTreeSet<RunId>>,
}

/// An item whose run a caller waits for.
#[derive(Debug)]
struct AwaitedItem {
    /// The tenant and the agent of the item.
    asked: (TenantId, AgentId),
    /// The item's position, once it is known to wait behind a turn.
    place: Option<InboxPosition>,
    waiters: Vec<Waiter>,
}

impl AwaitedItem {
    /// Returns whether a caller still listens.
    fn is_heard(&self) -> bool {
        self.waiters.iter().any(|waiter| !waiter.is_closed())
    }
}

/// The waiting callers by item, and their number by tenant.
#[derive(Debug, Default)]
struct ItemWaiters {
    items: HashMap<ItemId, AwaitedItem>,
    counts: HashMap<TenantId, usize>,
}

impl ItemWaiters {
    fn add_waiter(&mut self, asked: (TenantId, AgentId), item: ItemId, waiter: Waiter) {
        let new = || AwaitedItem { asked, place: None, waiters: Vec::new() };
        self.items.entry(item).or_insert_with(new).waiters.push(waiter);
        *self.counts.entry(asked.0).or_default() += 1;
    }

    fn is_full(&self, tenant: TenantId) -> bool {
        self.counts.get(&tenant).is_some_and(|count| *count >= WAITERS_MAX)
    }

    /// Forgets those who wait for an item no more.
    fn forget_unheard(&mut self, item: ItemId) {
        let Some(awaited) = self.items.get_mut(&item) else { return };
        let (before, tenant) = (awaited.waiters.len(), awaited.asked.0);
        awaited.waiters.retain(|waiter| !waiter.is_closed());
        let left = awaited.waiters.len();
        if left == 0 {
            self.items.remove(&item);
        }
        self.count_off(tenant, before - left);
    }

    /// Removes and returns the callers that wait for an item.
    fn take_waiters(&mut self, item: ItemId) -> Vec<Waiter> {
        let Some(awaited) = self.items.remove(&item) else { return Vec::new() };
        self.count_off(awaited.asked.0, awaited.waiters.len());
        awaited.waiters
    }

    fn count_off(&mut self, tenant: TenantId, gone: usize) {
        if let Some(count) = self.counts.get_mut(&tenant) {
            *count = count.saturating_sub(gone);
            if *count == 0 {
                self.counts.remove(&tenant);
            }
        }
    }
}

/// A caller that waits for the run that takes an item; forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct OutcomeWait {
    answer: oneshot::Receiver<Result<RunOutcome, Fault>>,
    item: ItemId,
    waiters: Arc<Mutex<ItemWaiters>>,
}

impl OutcomeWait {
    /// Waits for the answer; `None` if its sender is gone.
    pub(crate) async fn wait_for_answer(mut self) -> Option<Result<RunOutcome, Fault>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for OutcomeWait {
    fn drop(&mut self) {
        self.answer.close();
        lock_map(&self.waiters).forget_unheard(self.item);
    }
}

/// Where an item lies that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InboxPosition {
    pub(crate) session: SessionId,
    pub(crate) position: u64,
}

/// A run that was dropped from memory while a caller or watcher waited for its end.
#[derive(Debug, Clone)]
pub(crate) struct LostRun {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) items: Vec<ItemId>,
    /// Whether it began for certain; otherwise callers keep waiting if there is no such run.
    pub(crate) has_begun: bool,
}

/// A run with a task.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    /// Its agent.
    pub(crate) agent: AgentId,
    signalled: AtomicBool,
    /// Whether an input that may join the turn was stored since the session's inbox was read.
    joinable: AtomicBool,
    notify: Notify,
}

impl ActiveRun {
    /// Makes the entry of a run of an agent.
    pub(crate) fn new(agent: AgentId) -> Arc<Self> {
        let (signalled, joinable) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { agent, signalled, joinable, notify: Notify::new() })
    }

    /// Returns, once, whether the run's inbox must be read.
    pub(crate) fn take_signal(&self) -> bool {
        self.signalled.load(Ordering::Relaxed) && self.signalled.swap(false, Ordering::Acquire)
    }

    /// Returns, once, whether the session's inbox may have an input that joins the turn.
    pub(crate) fn take_joinable(&self) -> bool {
        self.joinable.load(Ordering::Relaxed) && self.joinable.swap(false, Ordering::Acquire)
    }

    /// Has the owner read the session's inbox before its next model call.
    pub(crate) fn note_joinable(&self) {
        self.joinable.store(true, Ordering::Release);
    }

    /// Waits until the run's inbox must be read.
    pub(crate) async fn wait_for_signal(&self) {
        while !self.take_signal() {
            self.notify.notified().await;
        }
    }

    /// Has the owner read the run's inbox.
    pub(crate) fn notify_owner(&self) {
        self.signalled.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

impl RunHub {
    /// Registers a run that got a task; `false` if it has one already.
    pub(crate) fn activate(&self, run: RunId, entry: &Arc<ActiveRun>) -> bool {
        let mut active = lock_map(&self.active);
        if active.contains_key(&run) {
            return false;
        }
        active.insert(run, Arc::clone(entry));
        if lock_map(&self.early).remove(&run) {
            entry.note_joinable();
        }
        true
    }

    /// Forgets a run whose task ends.
    pub(crate) fn deactivate(&self, run: RunId) {
        lock_map(&self.active).remove(&run);
    }

    /// Tells whether a run has a task.
    pub(crate) fn is_active(&self, run: RunId) -> bool {
        lock_map(&self.active).contains_key(&run)
    }

    /// Notifies a run to read its inbox; `false` if it has no task.
    pub(crate) fn signal_run(&self, run: RunId) -> bool {
        let active = lock_map(&self.active).get(&run).cloned();
        active.inspect(|active| active.notify_owner()).is_some()
    }

    /// Tells a run that an input of its session may join it. One without a task learns of it when it gets one.
    pub(crate) fn note_joinable(&self, run: RunId) {
        let active = lock_map(&self.active);
        if let Some(entry) = active.get(&run) {
            entry.note_joinable();
            return;
        }
        let mut early = lock_map(&self.early);
        if early.len() >= EARLY_MAX {
            // Runs that rest read the inbox when they are taken over, so only those that just began lose something:
            // their input becomes the next turn.
            early.clear();
        }
        early.insert(run);
    }

    /// Lists the runs of an agent that have a task.
    pub(crate) fn active_of(&self, agent: AgentId) -> Vec<RunId> {
        let active = lock_map(&self.active);
        active.iter().filter(|(_, entry)| entry.agent == agent).map(|(run, _)| *run).collect()
    }

    /// Registers a caller that waits for the run that takes an item. If too many of its tenant wait, it gets that fault
    /// at once.
    pub(crate) fn register_waiter(&self, asked: (TenantId, AgentId), item: ItemId) -> OutcomeWait {
        let (tx, answer) = oneshot::channel();
        let mut waiters = lock_map(&self.waiters);
        if waiters.is_full(asked.0) {
            // The receiver is alive, so the send succeeds.
            drop(tx.send(Err(too_many_wait(item))));
        } else {
            waiters.add_waiter(asked, item, tx);
        }
        drop(waiters);
        OutcomeWait { answer, item, waiters: Arc::clone(&self.waiters) }
    }

    /// Forgets callers of an item that gave up waiting. Another one may have joined the item meanwhile, if it was
    /// stored after all.
    pub(crate) fn forget_waiters(&self, item: ItemId) {
        lock_map(&self.waiters).forget_unheard(item);
    }

    /// Remembers the position of an item that waits for its turn, if a caller still waits for it.
    pub(crate) fn note_queued(&self, item: ItemId, place: InboxPosition) {
        if let Some(awaited) = lock_map(&self.waiters).items.get_mut(&item) {
            awaited.place = Some(place);
        }
    }

    /// Lists the items of an agent that have no answer yet.
    pub(crate) fn asked_of(&self, agent: AgentId) -> Vec<(ItemId, Option<InboxPosition>)> {
        let waiters = lock_map(&self.waiters);
        let of_agent = waiters.items.iter().filter(|(_, awaited)| awaited.asked.1 == agent);
        let mut asked: Vec<_> = of_agent.map(|(item, awaited)| (*item, awaited.place)).collect();
        asked.sort_unstable_by_key(|(item, _)| *item);
        asked
    }

    /// Lists the agents whose answers are awaited behind a turn.
    pub(crate) fn queued_agents(&self) -> BTreeSet<(TenantId, AgentId)> {
        let waiters = lock_map(&self.waiters);
        let queued = waiters.items.values().filter(|awaited| awaited.place.is_some() && awaited.is_heard());
        queued.map(|awaited| awaited.asked).collect()
    }

    /// Remembers a run that was dropped from memory, if a caller waits for it or watches it: it may have ended unheard.
    pub(crate) fn note_lost_run(&self, tenant: TenantId, run: RunId, items: &[ItemId]) {
        self.look_for(LostRun { tenant, run, items: items.to_vec(), has_begun: true });
    }

    /// Remembers a run that may or may not have begun, and may have ended in the commit that began it.
    pub(crate) fn lose_unsure(&self, tenant: TenantId, run: RunId, items: &[ItemId]) {
        self.look_for(LostRun { tenant, run, items: items.to_vec(), has_begun: false });
    }

    /// Remembers that a run must be read, if a caller waits for it or watches it.
    pub(crate) fn look_for(&self, lost: LostRun) {
        if self.is_watched(lost.run) || self.is_awaited(&lost.items) {
            lock_map(&self.lost).push(lost);
        }
    }

    /// Removes and returns the lost runs, for the janitor.
    pub(crate) fn take_lost(&self) -> Vec<LostRun> {
        std::mem::take(&mut *lock_map(&self.lost))
    }

    fn is_awaited(&self, items: &[ItemId]) -> bool {
        let waiters = lock_map(&self.waiters);
        items.iter().any(|item| waiters.items.get(item).is_some_and(AwaitedItem::is_heard))
    }

    /// Answers every caller that waits for one of the items.
    pub(crate) fn resolve_waiters(&self, items: &[ItemId], outcome: &Result<RunOutcome, Fault>) {
        let mut waiters = lock_map(&self.waiters);
        for item in items {
            for waiter in waiters.take_waiters(*item) {
                // A caller that hung up needs no answer; the journal has it.
                drop(waiter.send(outcome.clone()));
            }
        }
    }

    /// Begins to watch a run.
    pub(crate) fn watch_run(&self, run: RunId) -> broadcast::Receiver<LiveEvent> {
        let mut watchers = lock_map(&self.watchers);
        watchers.retain(|_, sender| sender.receiver_count() > 0);
        watchers.entry(run).or_insert_with(|| broadcast::channel(WATCH_BUFFER).0).subscribe()
    }

    /// Returns whether a run has a watcher.
    pub(crate) fn is_watched(&self, run: RunId) -> bool {
        lock_map(&self.watchers).get(&run).is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Lists the runs that have a watcher.
    pub(crate) fn watched_runs(&self) -> Vec<RunId> {
        let watchers = lock_map(&self.watchers);
        let watched = watchers.iter().filter(|(_, sender)| sender.receiver_count() > 0);
        let mut runs: Vec<_> = watched.map(|(run, _)| *run).collect();
        runs.sort_unstable();
        runs
    }

    /// Sends an event to the watchers of a run; costs nothing without watchers.
    pub(crate) fn publish(&self, run: RunId, live: impl FnOnce() -> LiveEvent) {
        let watchers = lock_map(&self.watchers);
        if watchers.is_empty() {
            return;
        }
        if let Some(sender) = watchers.get(&run) {
            // Without a receiver there is no watcher to notify.
            let _told = sender.send(live());
        }
    }

    /// Ends the watch of a run that has ended.
    pub(crate) fn end_watch(&self, run: RunId) {
        let mut watchers = lock_map(&self.watchers);
        if !watchers.is_empty() {
            watchers.remove(&run);
        }
    }
}

fn lock_map<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps hold no invariant that a panic between two calls could break.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::CallId;
    use futures_util::FutureExt as _;
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn a_slow_watcher_lags_and_delays_no_publisher() {
        let (hub, run) = (RunHub::default(), RunId::from_bytes([1; 16]));
        let piece = |offset| LiveEvent::Output {
            call: CallId { step: 1, index: 0 },
            offset,
            bytes: 1,
            text: "x".to_owned(),
        };
        let mut slow = hub.watch_run(run);
        let pieces = WATCH_BUFFER as u64 + 10;
        for offset in 0..pieces {
            hub.publish(run, || piece(offset));
        }
        assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(10)));
        for offset in 10..pieces {
            assert_eq!(slow.try_recv(), Ok(piece(offset)));
        }
        assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    }

    const ASKED: (TenantId, AgentId) = (TenantId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));

    fn item(n: usize) -> ItemId {
        ItemId::from_bytes((n as u128).to_be_bytes())
    }

    fn erased() -> Result<RunOutcome, Fault> {
        Err(crate::refusal::run_erased(RunId::from_bytes([1; 16])))
    }

    #[test]
    fn a_disconnected_caller_is_forgotten_and_the_others_are_answered() {
        let hub = RunHub::default();
        let (gone, stays) = (hub.register_waiter(ASKED, item(1)), hub.register_waiter(ASKED, item(1)));
        let alone = hub.register_waiter(ASKED, item(2));
        assert_eq!(hub.asked_of(ASKED.1).len(), 2);
        drop((gone, alone));
        let left: Vec<_> = hub.asked_of(ASKED.1).into_iter().map(|(item, _)| item).collect();
        assert_eq!(left, [item(1)], "what nobody waits for is gone");
        assert_eq!(lock_map(&hub.waiters).counts.get(&ASKED.0), Some(&1));
        hub.resolve_waiters(&[item(1)], &erased());
        assert_eq!(stays.wait_for_answer().now_or_never(), Some(Some(erased())));
        let waiters = lock_map(&hub.waiters);
        assert!(waiters.items.is_empty() && waiters.counts.is_empty(), "{waiters:?}");
    }

    #[test]
    fn waiting_callers_of_a_tenant_are_bounded() {
        let hub = RunHub::default();
        let mut waiting: Vec<_> = (0..WAITERS_MAX).map(|n| hub.register_waiter(ASKED, item(n))).collect();
        let told = hub.register_waiter(ASKED, item(WAITERS_MAX)).wait_for_answer().now_or_never().flatten();
        let fault = told.expect("it is answered").expect_err("with a fault");
        assert_eq!(fault.code, dromia_contracts::ErrorCode::RunUnfinished);
        let other = (TenantId::from_bytes([9; 16]), ASKED.1);
        assert!(
            hub.register_waiter(other, item(1 << 20)).wait_for_answer().now_or_never().is_none(),
            "another tenant waits"
        );
        waiting.pop();
        assert!(
            hub.register_waiter(ASKED, item(WAITERS_MAX)).wait_for_answer().now_or_never().is_none(),
            "there is room again"
        );
    }
}
