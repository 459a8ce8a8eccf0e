//! A deterministic executor: one thread, virtual time, and a seed that decides who runs next.
//!
//! Equal seeds give equal traces, so a failure found once is found again. Among the runnable tasks the next is
//! drawn by the seed; when none is runnable, the clock jumps to the next timer. Primitives that only wake,
//! such as those of `tokio::sync`, work under it. Sockets, files and threads do not: they would bring in an
//! order that no seed controls. Every run is bounded in steps.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use dromia_contracts::compute::ComputeHere;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::{Clock as _, Runtime, TaskSpawner};
use dromia_contracts::{BoxFuture, Digest};

use crate::runtime::{ManualClock, SeededIds};

/// Says why a simulation gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// No task can run and no timer is set.
    #[error("nothing can run and no timer is set, after {steps} steps")]
    Deadlock {
        /// The steps until then.
        steps: u64,
    },
    /// The limit of steps was reached.
    #[error("no result within {steps} steps")]
    Endless {
        /// The limit.
        steps: u64,
    },
}

/// The executor. Dropping it drops every task.
#[derive(Debug)]
pub struct SimExecutor {
    shared: Arc<SimShared>,
    tasks: Vec<Option<SimTask>>,
    clock: ManualClock,
    runtime: Runtime,
    dice: SeededRng,
    steps: u64,
    steps_max: u64,
    trace: blake3::Hasher,
}

struct SimTask(BoxFuture<'static, ()>);

impl std::fmt::Debug for SimTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// The number under which the future of [`SimExecutor::block_on`] is woken; spawned tasks count from 1.
const MAIN: usize = 0;

impl SimExecutor {
    /// The most steps of a simulation that sets no limit of its own.
    pub const STEPS_MAX: u64 = 1_000_000;

    /// Makes an executor.
    pub fn new(seed: u64) -> Self {
        let shared = Arc::new(SimShared::default());
        let clock = ManualClock::new();
        let runtime = Runtime {
            clock: Arc::new(clock.clone()),
            ids: Arc::new(SeededIds::new(seed)),
            spawn: Arc::new(SimSpawn(Arc::clone(&shared))),
            compute: Arc::new(ComputeHere),
            life: Arc::new(NodeLife::new("sim", [0; 32])),
        };
        Self {
            shared,
            tasks: Vec::new(),
            clock,
            runtime,
            dice: SeededRng::new(seed),
            steps: 0,
            steps_max: Self::STEPS_MAX,
            trace: blake3::Hasher::new(),
        }
    }

    /// Sets the most steps.
    pub fn with_steps_max(mut self, steps_max: u64) -> Self {
        self.steps_max = steps_max;
        self
    }

    /// Returns the ports through which other crates reach this executor.
    pub fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }

    /// Returns the virtual clock, for tests that move it by hand.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Returns the steps taken so far.
    pub fn step_count(&self) -> u64 {
        self.steps
    }

    /// Returns the digest of everything that ran, in order and with its time.
    pub fn trace_digest(&self) -> Digest {
        Digest::from_bytes(*self.trace.finalize().as_bytes())
    }

    /// Drops every task without running it on, as a crash does.
    pub fn crash_tasks(&mut self) {
        self.tasks.clear();
        loop {
            let mut queue = self.shared.lock_queue();
            queue.ready.clear();
            let spawned = std::mem::take(&mut queue.spawned);
            drop(queue);
            if spawned.is_empty() {
                return;
            }
            // A dropped task may spawn its rest, as a call that runs to its end does.
            drop(spawned);
        }
    }

    /// Runs until the future has its result. Tasks that are not finished stay and go on with the next call.
    pub fn block_on<T>(&mut self, main: impl Future<Output = T>) -> Result<T, SimError> {
        let mut main = pin!(main);
        let main_waker = self.task_waker(MAIN);
        self.shared.lock_queue().ready.insert(MAIN);
        loop {
            let Some(number) = self.next_task()? else { continue };
            if number == MAIN {
                if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                    return Ok(value);
                }
            } else {
                self.poll_task(number);
            }
        }
    }

    /// Runs until no task can run without the clock moving.
    pub fn run_until_idle(&mut self) -> Result<(), SimError> {
        while self.has_ready() {
            if let Some(number) = self.next_task()? {
                self.poll_task(number);
            }
        }
        Ok(())
    }

    fn has_ready(&mut self) -> bool {
        self.adopt_spawned();
        let mut queue = self.shared.lock_queue();
        queue.ready.remove(&MAIN);
        !queue.ready.is_empty()
    }

    /// Draws the next task; `None` after moving the clock.
    fn next_task(&mut self) -> Result<Option<usize>, SimError> {
        if self.steps == self.steps_max {
            return Err(SimError::Endless { steps: self.steps });
        }
        self.steps += 1;
        self.adopt_spawned();
        let mut queue = self.shared.lock_queue();
        let drawn = match queue.ready.len() {
            0 => None,
            several => queue.ready.iter().nth(self.dice.draw_below(several)).copied(),
        };
        let Some(number) = drawn else {
            drop(queue);
            let due = self.clock.next_due().ok_or(SimError::Deadlock { steps: self.steps })?;
            self.clock.set_time(due.max(self.clock.now()));
            return Ok(None);
        };
        queue.ready.remove(&number);
        drop(queue);
        self.trace.update(&(number as u64).to_be_bytes());
        self.trace.update(&self.clock.now().as_millisecond().to_be_bytes());
        Ok(Some(number))
    }

    fn poll_task(&mut self, number: usize) {
        let waker = self.task_waker(number);
        let Some(slot) = self.tasks.get_mut(number - 1) else { return };
        // A task may be woken once more after it finished.
        let Some(SimTask(task)) = slot else { return };
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            *slot = None;
        }
    }

    /// Gives numbers to the tasks that were spawned since.
    fn adopt_spawned(&mut self) {
        let mut queue = self.shared.lock_queue();
        for task in std::mem::take(&mut queue.spawned) {
            self.tasks.push(Some(SimTask(task)));
            queue.ready.insert(self.tasks.len());
        }
    }

    fn task_waker(&self, number: usize) -> Waker {
        Waker::from(Arc::new(TaskWaker { shared: Arc::clone(&self.shared), number }))
    }
}

// A task that was spawned and never adopted holds the queue that holds it.
impl Drop for SimExecutor {
    fn drop(&mut self) {
        self.crash_tasks();
    }
}

#[derive(Debug, Default)]
struct SimShared(Mutex<SimQueue>);

#[derive(Default)]
struct SimQueue {
    ready: BTreeSet<usize>,
    spawned: Vec<BoxFuture<'static, ()>>,
}

impl std::fmt::Debug for SimQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl SimShared {
    fn lock_queue(&self) -> MutexGuard<'_, SimQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TaskWaker {
    shared: Arc<SimShared>,
    number: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.shared.lock_queue().ready.insert(self.number);
    }
}

#[derive(Debug)]
struct SimSpawn(Arc<SimShared>);

impl TaskSpawner for SimSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock_queue().spawned.push(task);
    }
}

/// A small generator of even numbers, xorshift64*; its whole state is the seed.
#[derive(Debug, Clone)]
pub struct SeededRng(u64);

impl SeededRng {
    /// Makes a generator; equal seeds give equal draws.
    pub const fn new(seed: u64) -> Self {
        // The state must not be zero, and small seeds shall differ from the first draw on.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Draws a number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Draws a number below a bound; 0 for the bound 0.
    pub const fn draw_below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { ((self.next() >> 16) % bound as u64) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Three workers pass messages over a tokio channel and sleep in between.
    fn scene(seed: u64) -> (Vec<u32>, i64, Digest) {
        let mut sim = SimExecutor::new(seed);
        let runtime = sim.runtime();
        let (tx, mut rx) = tokio::sync::mpsc::channel(1);
        for worker in 0..3_u32 {
            let (tx, clock) = (tx.clone(), Arc::clone(&runtime.clock));
            runtime.spawn.spawn(Box::pin(async move {
                for round in 0..3 {
                    clock.sleep_until(clock.now() + Duration::from_secs(1)).await;
                    tx.send(worker * 10 + round).await.expect("the receiver is there");
                }
            }));
        }
        drop(tx);
        let order = sim.block_on(async move {
            let mut order = Vec::new();
            while let Some(message) = rx.recv().await {
                order.push(message);
            }
            order
        });
        (order.expect("the scene ends"), sim.clock().now().as_millisecond(), sim.trace_digest())
    }

    #[test]
    fn one_seed_gives_one_trace_and_virtual_time_jumps() {
        assert_eq!(scene(7), scene(7));
        assert_eq!(scene(7).1, crate::runtime::EPOCH_MS + 3_000);
    }

    #[test]
    fn different_seeds_find_different_orders() {
        let orders: BTreeSet<_> = (0..50).map(|seed| scene(seed).0).collect();
        assert!(orders.len() > 10, "only {} orders in 50 seeds", orders.len());
    }

    #[test]
    fn a_deadlock_is_distinguished_from_an_endless_task() {
        let stuck = SimExecutor::new(1).block_on(std::future::pending::<()>());
        assert!(matches!(stuck, Err(SimError::Deadlock { .. })), "{stuck:?}");
        let mut sim = SimExecutor::new(1).with_steps_max(100);
        let endless = sim.block_on(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert_eq!(endless, Err(SimError::Endless { steps: 100 }));
    }

    #[test]
    fn a_crash_drops_tasks_where_they_are() {
        let mut sim = SimExecutor::new(1);
        let runtime = sim.runtime();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        runtime.spawn.spawn(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        sim.run_until_idle().expect("one step");
        assert_eq!(Arc::strong_count(&alive), 2);
        sim.crash_tasks();
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_crash_ends_what_is_carried_through_too() {
        let mut sim = SimExecutor::new(1);
        let runtime = sim.runtime();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let calls = runtime.clone();
        runtime.spawn.spawn(Box::pin(async move {
            let call = async move {
                std::future::pending::<()>().await;
                drop(held);
            };
            calls.carried_through(call).await;
        }));
        sim.run_until_idle().expect("one step");
        assert_eq!(Arc::strong_count(&alive), 2);
        sim.crash_tasks();
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
