//! Threads for work that keeps a processor busy, behind the `Compute` port: as many as there are processors, two at least,
//! with less of a claim on a processor than what answers requests.
//!
//! Tenants take turns, one thread is in reserve, and a tenant pays for the time that its work took while more of it waits. A
//! thread begins with the first work, so commands that compute nothing start none. Work is not cut off: it has bounds of its own.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dromia_contracts::TenantId;
use dromia_contracts::compute::{ComputeExecutor, Work};
use dromia_contracts::pool::FairQueue;

/// The fewest threads: one for a tenant with much work, one for the others.
const THREADS_MIN: usize = 2;

/// Threads that one tenant does not take alone.
const RESERVE: usize = 1;

/// How much less of a processor a thread claims than others of the process do, where both want it.
const NICE: i32 = 5;

/// How long work may take for one turn. What takes longer is a debt of its tenant.
const TURN_MS: u128 = 10;

/// The threads, and what waits for them.
pub(crate) struct FairThreads {
    desk: Arc<ComputePool>,
}

struct ComputePool {
    state: Mutex<ComputePoolState>,
    /// Wakes a thread.
    more: Condvar,
}

struct ComputePoolState {
    queue: FairQueue<Work>,
    threads: usize,
}

impl fmt::Debug for FairThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FairThreads")
    }
}

impl FairThreads {
    /// Makes a place for as many threads as there are processors.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from);
        Self::with_threads(processors.max(THREADS_MIN))
    }

    fn with_threads(threads: usize) -> Self {
        let state = ComputePoolState { queue: FairQueue::new(threads, RESERVE), threads: 0 };
        Self { desk: Arc::new(ComputePool { state: Mutex::new(state), more: Condvar::new() }) }
    }
}

impl ComputeExecutor for FairThreads {
    fn execute_work(&self, tenant: TenantId, work: Work) {
        let mut state = self.desk.lock_state();
        state.queue.push(tenant, work);
        let missing = state.queue.capacity() - state.threads;
        for number in 0..missing {
            let desk = Arc::clone(&self.desk);
            let thread = std::thread::Builder::new().name(format!("compute-{number}"));
            if let Err(error) = thread.spawn(move || desk.run_worker()) {
                tracing::error!(%error, "failed to start a worker thread");
                break;
            }
            state.threads += 1;
        }
        if state.threads == 0 {
            // Late is better than never.
            drop(self.desk.run_next(state));
            return;
        }
        drop(state);
        self.desk.more.notify_one();
    }
}

impl ComputePool {
    /// Does work for ever.
    fn run_worker(&self) {
        // Where the system refuses it, the thread has the claim of any other.
        if let Err(error) = dromia_sandbox::lower_thread_claim(NICE) {
            tracing::debug!(%error, "failed to lower the priority of a worker thread");
        }
        let mut state = self.lock_state();
        loop {
            let has_worked;
            (state, has_worked) = self.run_next(state);
            if !has_worked {
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Does what is next, if anything is.
    fn run_next<'a>(
        &'a self,
        mut state: MutexGuard<'a, ComputePoolState>,
    ) -> (MutexGuard<'a, ComputePoolState>, bool) {
        let Some((tenant, work)) = state.queue.take_next() else { return (state, false) };
        drop(state);
        let began = Instant::now();
        // The caller that waits for it sees that it has no result; the panic itself is in the log.
        let _ended = catch_unwind(AssertUnwindSafe(work));
        let turns = began.elapsed().as_millis() / TURN_MS;
        let mut state = self.lock_state();
        state.queue.charge_tenant(tenant, u64::try_from(turns).unwrap_or(u64::MAX));
        state.queue.give_back(tenant);
        // What this slot was kept from may be for another thread.
        self.more.notify_one();
        (state, true)
    }

    fn lock_state(&self) -> MutexGuard<'_, ComputePoolState> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use dromia_contracts::compute::ComputeHere;

    use super::*;

    const FLOOD: TenantId = TenantId::from_bytes([1; 16]);
    const QUIET: TenantId = TenantId::from_bytes([2; 16]);

    /// Work that says that it began, and ends when it is let go.
    fn stuck(began: &Sender<()>) -> (Work, Sender<()>) {
        let (began, (free, held)) = (began.clone(), channel::<()>());
        let work = move || {
            began.send(()).expect("the test listens");
            // Let go, or the test has ended.
            let _let_go = held.recv();
        };
        (Box::new(work), free)
    }

    #[test]
    fn a_greedy_tenant_leaves_one_thread_to_another_tenant() {
        let threads = FairThreads::with_threads(3);
        let (began, begun) = channel();
        let mut held = Vec::new();
        for _ in 0..9 {
            let (work, free) = stuck(&began);
            threads.execute_work(FLOOD, work);
            held.push(free);
        }
        for _ in 0..2 {
            begun.recv().expect("two begin");
        }
        let (work, free) = stuck(&began);
        threads.execute_work(QUIET, work);
        begun.recv().expect("another tenant's begins");
        assert!(begun.try_recv().is_err(), "and no more of the first");
        drop((held, free));
        for _ in 0..7 {
            begun.recv().expect("all of it is done in the end");
        }
    }

    #[test]
    fn a_worker_thread_claims_less_than_its_callers() {
        let (tell, told) = channel();
        let claim = || rustix::process::getpriority_process(None).expect("a thread has a claim");
        let work = move || tell.send(claim()).expect("the test listens");
        FairThreads::with_threads(2).execute_work(QUIET, Box::new(work));
        assert_eq!(told.recv().expect("it is done"), (claim() + NICE).min(19));
    }

    #[test]
    fn a_panic_ends_its_work_and_the_thread_continues() {
        let threads = FairThreads::with_threads(2);
        let (done, is_done): (Sender<()>, Receiver<()>) = channel();
        for _ in 0..8 {
            threads.execute_work(FLOOD, Box::new(|| panic!("it fails")));
        }
        threads.execute_work(FLOOD, Box::new(move || done.send(()).expect("the test listens")));
        is_done.recv().expect("what comes after it is done");
    }

    /// Planted fault: work that is done where it is asked for keeps whoever asks.
    #[test]
    fn work_on_the_callers_thread_is_caught() {
        let here = std::thread::current().id();
        let is_elsewhere = |compute: &dyn ComputeExecutor| {
            let (tell, told) = channel();
            let work = move || tell.send(std::thread::current().id()).expect("the test listens");
            compute.execute_work(QUIET, Box::new(work));
            told.recv().expect("it is done") != here
        };
        assert!(is_elsewhere(&FairThreads::new()));
        assert!(!is_elsewhere(&ComputeHere), "nothing notices it");
    }
}
