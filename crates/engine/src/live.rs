//! Who is told what happens in memory: callers that wait for an outcome, watchers of a run, and owners that
//! must look at their signals.
//!
//! Nothing here is durable and nothing durable depends on it. Whoever misses a word reads the journal.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::runs::{Live, Outcome};
use dromia_contracts::{AgentId, Fault, ItemId, RunId, SessionId, TenantId};
use tokio::sync::{Notify, broadcast, oneshot};

use crate::config::{WAITERS_MAX, WATCH_BUFFER};
use crate::refusal::too_many_wait;

type Waiter = oneshot::Sender<Result<Outcome, Fault>>;

/// Everything that memory knows of runs with a task.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    active: Mutex<HashMap<RunId, Arc<Active>>>,
    waiters: Arc<Mutex<Waiters>>,
    watchers: Mutex<HashMap<RunId, broadcast::Sender<Live>>>,
    /// Runs that were dropped from memory while somebody waited for them.
    lost: Mutex<Vec<LostRun>>,
}

/// An item whose run somebody waits for.
#[derive(Debug)]
struct Awaited {
    /// The tenant and the agent that was asked.
    asked: (TenantId, AgentId),
    /// Where the item lies, once it is known to lie behind a turn.
    place: Option<Place>,
    waiters: Vec<Waiter>,
}

impl Awaited {
    /// Tells whether anybody still listens.
    fn is_heard(&self) -> bool {
        self.waiters.iter().any(|waiter| !waiter.is_closed())
    }
}

/// Who waits for which item, and how many of each tenant there are.
#[derive(Debug, Default)]
struct Waiters {
    items: HashMap<ItemId, Awaited>,
    counts: HashMap<TenantId, usize>,
}

impl Waiters {
    fn add(&mut self, asked: (TenantId, AgentId), item: ItemId, waiter: Waiter) {
        let new = || Awaited { asked, place: None, waiters: Vec::new() };
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

    /// Takes everybody who waits for an item.
    fn take(&mut self, item: ItemId) -> Vec<Waiter> {
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
pub(crate) struct Waiting {
    answer: oneshot::Receiver<Result<Outcome, Fault>>,
    item: ItemId,
    waiters: Arc<Mutex<Waiters>>,
}

impl Waiting {
    /// Waits for the answer; nothing where nobody is left who could give it.
    pub(crate) async fn answer(mut self) -> Option<Result<Outcome, Fault>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.answer.close();
        lock(&self.waiters).forget_unheard(self.item);
    }
}

/// Where an item lies that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) session: SessionId,
    pub(crate) position: u64,
}

/// A run that was dropped from memory while somebody wanted to know of its end.
#[derive(Debug, Clone)]
pub(crate) struct LostRun {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) items: Vec<ItemId>,
}

/// A run with a task.
#[derive(Debug)]
pub(crate) struct Active {
    /// Its agent.
    pub(crate) agent: AgentId,
    signalled: AtomicBool,
    notify: Notify,
}

impl Active {
    /// Makes the entry of a run of an agent.
    pub(crate) fn new(agent: AgentId) -> Arc<Self> {
        Arc::new(Self { agent, signalled: AtomicBool::new(false), notify: Notify::new() })
    }

    /// Tells, once, whether the run's inbox must be read.
    pub(crate) fn take_signal(&self) -> bool {
        self.signalled.load(Ordering::Relaxed) && self.signalled.swap(false, Ordering::Acquire)
    }

    /// Waits until the run's inbox must be read.
    pub(crate) async fn signalled(&self) {
        while !self.take_signal() {
            self.notify.notified().await;
        }
    }

    fn signal(&self) {
        self.signalled.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

impl Hub {
    /// Registers a run that got a task; `false` if it has one already.
    pub(crate) fn activate(&self, run: RunId, entry: &Arc<Active>) -> bool {
        let mut active = lock(&self.active);
        if active.contains_key(&run) {
            return false;
        }
        active.insert(run, Arc::clone(entry));
        true
    }

    /// Forgets a run whose task ends.
    pub(crate) fn deactivate(&self, run: RunId) {
        lock(&self.active).remove(&run);
    }

    /// Tells whether a run has a task.
    pub(crate) fn is_active(&self, run: RunId) -> bool {
        lock(&self.active).contains_key(&run)
    }

    /// Tells a run to read its inbox; `false` if it has no task.
    pub(crate) fn signal(&self, run: RunId) -> bool {
        let active = lock(&self.active).get(&run).cloned();
        active.inspect(|active| active.signal()).is_some()
    }

    /// Lists the runs of an agent that have a task.
    pub(crate) fn active_of(&self, agent: AgentId) -> Vec<RunId> {
        let active = lock(&self.active);
        active.iter().filter(|(_, entry)| entry.agent == agent).map(|(run, _)| *run).collect()
    }

    /// Registers a caller that waits for the run that takes an item. Where too many of its tenant wait, it is told so at
    /// once.
    pub(crate) fn wait(&self, asked: (TenantId, AgentId), item: ItemId) -> Waiting {
        let (tx, answer) = oneshot::channel();
        let mut waiters = lock(&self.waiters);
        if waiters.is_full(asked.0) {
            // The receiver is at hand, so the word arrives.
            drop(tx.send(Err(too_many_wait(item))));
        } else {
            waiters.add(asked, item, tx);
        }
        drop(waiters);
        Waiting { answer, item, waiters: Arc::clone(&self.waiters) }
    }

    /// Forgets callers of an item that gave up waiting. Another one may have joined the item meanwhile, if it was
    /// stored after all.
    pub(crate) fn unwait(&self, item: ItemId) {
        lock(&self.waiters).forget_unheard(item);
    }

    /// Remembers where an item lies that waits for its turn, if anybody still waits for it.
    pub(crate) fn queue(&self, item: ItemId, place: Place) {
        if let Some(awaited) = lock(&self.waiters).items.get_mut(&item) {
            awaited.place = Some(place);
        }
    }

    /// Lists what was asked of an agent and has no answer yet.
    pub(crate) fn asked_of(&self, agent: AgentId) -> Vec<(ItemId, Option<Place>)> {
        let waiters = lock(&self.waiters);
        let of_agent = waiters.items.iter().filter(|(_, awaited)| awaited.asked.1 == agent);
        let mut asked: Vec<_> = of_agent.map(|(item, awaited)| (*item, awaited.place)).collect();
        asked.sort_unstable_by_key(|(item, _)| *item);
        asked
    }

    /// Lists the agents whose answers are awaited behind a turn.
    pub(crate) fn queued_agents(&self) -> BTreeSet<(TenantId, AgentId)> {
        let waiters = lock(&self.waiters);
        let queued = waiters.items.values().filter(|awaited| awaited.place.is_some() && awaited.is_heard());
        queued.map(|awaited| awaited.asked).collect()
    }

    /// Remembers a run that was dropped from memory, if anybody waits for it or watches it: it may have ended
    /// unheard.
    pub(crate) fn lose(&self, tenant: TenantId, run: RunId, items: &[ItemId]) {
        let watched = lock(&self.watchers).get(&run).is_some_and(|sender| sender.receiver_count() > 0);
        if watched || self.is_awaited(items) {
            lock(&self.lost).push(LostRun { tenant, run, items: items.to_vec() });
        }
    }

    /// Hands out the runs that were lost, to be looked at.
    pub(crate) fn take_lost(&self) -> Vec<LostRun> {
        std::mem::take(&mut *lock(&self.lost))
    }

    fn is_awaited(&self, items: &[ItemId]) -> bool {
        let waiters = lock(&self.waiters);
        items.iter().any(|item| waiters.items.get(item).is_some_and(Awaited::is_heard))
    }

    /// Answers everybody who waits for one of the items.
    pub(crate) fn resolve(&self, items: &[ItemId], outcome: &Result<Outcome, Fault>) {
        let mut waiters = lock(&self.waiters);
        for item in items {
            for waiter in waiters.take(*item) {
                // A caller that hung up needs no answer; the journal has it.
                drop(waiter.send(outcome.clone()));
            }
        }
    }

    /// Begins to watch a run.
    pub(crate) fn watch(&self, run: RunId) -> broadcast::Receiver<Live> {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|_, sender| sender.receiver_count() > 0);
        watchers.entry(run).or_insert_with(|| broadcast::channel(WATCH_BUFFER).0).subscribe()
    }

    /// Lists the runs that somebody watches.
    pub(crate) fn watched(&self) -> Vec<RunId> {
        let watchers = lock(&self.watchers);
        let watched = watchers.iter().filter(|(_, sender)| sender.receiver_count() > 0);
        let mut runs: Vec<_> = watched.map(|(run, _)| *run).collect();
        runs.sort_unstable();
        runs
    }

    /// Tells the watchers of a run; costs nothing while nobody watches anything.
    pub(crate) fn publish(&self, run: RunId, live: impl FnOnce() -> Live) {
        let watchers = lock(&self.watchers);
        if watchers.is_empty() {
            return;
        }
        if let Some(sender) = watchers.get(&run) {
            // No receiver left means nobody to tell.
            let _told = sender.send(live());
        }
    }

    /// Ends the watch of a run that has ended.
    pub(crate) fn unwatch(&self, run: RunId) {
        let mut watchers = lock(&self.watchers);
        if !watchers.is_empty() {
            watchers.remove(&run);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    fn a_watcher_that_takes_nothing_lags_and_nobody_waits_for_it() {
        let (hub, run) = (Hub::default(), RunId::from_bytes([1; 16]));
        let piece = |offset| Live::Output {
            call: CallId { step: 1, index: 0 },
            offset,
            bytes: 1,
            text: "x".to_owned(),
        };
        let mut slow = hub.watch(run);
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

    fn erased() -> Result<Outcome, Fault> {
        Err(crate::refusal::run_erased(RunId::from_bytes([1; 16])))
    }

    #[test]
    fn a_caller_that_hangs_up_is_forgotten_and_the_other_one_is_answered() {
        let hub = Hub::default();
        let (gone, stays) = (hub.wait(ASKED, item(1)), hub.wait(ASKED, item(1)));
        let alone = hub.wait(ASKED, item(2));
        assert_eq!(hub.asked_of(ASKED.1).len(), 2);
        drop((gone, alone));
        let left: Vec<_> = hub.asked_of(ASKED.1).into_iter().map(|(item, _)| item).collect();
        assert_eq!(left, [item(1)], "what nobody waits for is gone");
        assert_eq!(lock(&hub.waiters).counts.get(&ASKED.0), Some(&1));
        hub.resolve(&[item(1)], &erased());
        assert_eq!(stays.answer().now_or_never(), Some(Some(erased())));
        let waiters = lock(&hub.waiters);
        assert!(waiters.items.is_empty() && waiters.counts.is_empty(), "{waiters:?}");
    }

    #[test]
    fn so_many_callers_of_a_tenant_wait_and_one_more_is_told_at_once() {
        let hub = Hub::default();
        let mut waiting: Vec<_> = (0..WAITERS_MAX).map(|n| hub.wait(ASKED, item(n))).collect();
        let told = hub.wait(ASKED, item(WAITERS_MAX)).answer().now_or_never().flatten();
        let fault = told.expect("it is answered").expect_err("with a fault");
        assert_eq!(fault.code, dromia_contracts::ErrorCode::RunUnfinished);
        let other = (TenantId::from_bytes([9; 16]), ASKED.1);
        assert!(hub.wait(other, item(1 << 20)).answer().now_or_never().is_none(), "another tenant waits");
        waiting.pop();
        assert!(hub.wait(ASKED, item(WAITERS_MAX)).answer().now_or_never().is_none(), "there is room again");
    }
}
