//! Time, ids and spawning for tests: a clock that only the test moves, ids that come from a seed, and the real thing
//! over tokio for tests that need real sockets and files.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use dromia_contracts::BoxFuture;
use dromia_contracts::compute::ComputeHere;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::{Clock, IdSource, Runtime, TaskSpawner};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use uuid::Uuid;

/// Where every manual clock begins: 2026-01-01T00:00:00Z, in milliseconds.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// A clock that moves only when the test moves it. Clones are handles to the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<ClockTimes>>);

#[derive(Debug)]
struct ClockTimes {
    now: Timestamp,
    steady: Duration,
    /// The sleepers by wall time; the second number keeps sleepers of one instant apart.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    /// The sleepers by steady time.
    steady_sleepers: BTreeMap<(Duration, u64), Waker>,
    sleepers_made: u64,
}

impl ClockTimes {
    /// Removes those that are due.
    fn take_due(&mut self) -> Vec<Waker> {
        // Those that wait for a later time stay.
        let later = self.sleepers.split_off(&(self.now, u64::MAX));
        let steady_later = self.steady_sleepers.split_off(&(self.steady, u64::MAX));
        let due = std::mem::replace(&mut self.sleepers, later);
        let steady_due = std::mem::replace(&mut self.steady_sleepers, steady_later);
        due.into_values().chain(steady_due.into_values()).collect()
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        let now = Timestamp::from_millisecond(EPOCH_MS).expect("the constant is within jiff's range");
        Self(Arc::new(Mutex::new(ClockTimes {
            now,
            steady: Duration::ZERO,
            sleepers: BTreeMap::new(),
            steady_sleepers: BTreeMap::new(),
            sleepers_made: 0,
        })))
    }
}

impl ManualClock {
    /// Makes a clock that shows [`EPOCH_MS`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets time pass and wakes the sleepers that are due.
    pub fn advance(&self, by: Duration) {
        let to = self.now().checked_add(by).expect("tests stay within jiff's range");
        self.set_time(to);
    }

    /// Lets time pass until a wall time, if it lies ahead; else sets the wall clock back.
    pub fn set_time(&self, to: Timestamp) {
        let mut times = self.lock_times();
        let passed = Duration::try_from(to.duration_since(times.now)).unwrap_or_default();
        times.steady += passed;
        times.now = to;
        let due = times.take_due();
        drop(times);
        due.into_iter().for_each(Waker::wake);
    }

    /// Sets the wall clock, forwards or backwards, while no time passes.
    pub fn step_wall_clock(&self, to: Timestamp) {
        let mut times = self.lock_times();
        times.now = to;
        let due = times.take_due();
        drop(times);
        due.into_iter().for_each(Waker::wake);
    }

    /// Returns when the next sleeper is due, if anyone sleeps.
    pub fn next_due(&self) -> Option<Timestamp> {
        let times = self.lock_times();
        let by_wall = times.sleepers.keys().next().map(|(at, _)| *at);
        let by_steady = times.steady_sleepers.keys().next().map(|(at, _)| {
            times.now.checked_add(at.saturating_sub(times.steady)).expect("tests stay within jiff's range")
        });
        by_wall.into_iter().chain(by_steady).min()
    }

    fn lock_times(&self) -> MutexGuard<'_, ClockTimes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sleeper waits for.
#[derive(Debug, Clone, Copy)]
enum SleepTarget {
    Wall(Timestamp),
    Steady(Duration),
}

/// A place among the sleepers, removed when the sleep ends or is dropped.
struct ClockSleeper {
    clock: ManualClock,
    until: SleepTarget,
    number: u64,
}

impl ClockSleeper {
    fn new(clock: &ManualClock, until: SleepTarget) -> Self {
        let mut times = clock.lock_times();
        times.sleepers_made += 1;
        Self { clock: clock.clone(), until, number: times.sleepers_made }
    }

    async fn wait_until_due(self) {
        poll_fn(|cx| {
            let mut times = self.clock.lock_times();
            let waker = cx.waker().clone();
            match self.until {
                SleepTarget::Wall(at) if times.now < at => times.sleepers.insert((at, self.number), waker),
                SleepTarget::Steady(at) if times.steady < at => {
                    times.steady_sleepers.insert((at, self.number), waker)
                }
                SleepTarget::Wall(_) | SleepTarget::Steady(_) => return Poll::Ready(()),
            };
            Poll::Pending
        })
        .await;
    }
}

impl Drop for ClockSleeper {
    fn drop(&mut self) {
        let mut times = self.clock.lock_times();
        match self.until {
            SleepTarget::Wall(at) => times.sleepers.remove(&(at, self.number)),
            SleepTarget::Steady(at) => times.steady_sleepers.remove(&(at, self.number)),
        };
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock_times().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(ClockSleeper::new(self, SleepTarget::Wall(at)).wait_until_due())
    }

    fn monotonic_now(&self) -> Duration {
        self.lock_times().steady
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let until = self.monotonic_now().checked_add(wait).expect("tests wait for no age of the world");
        Box::pin(ClockSleeper::new(self, SleepTarget::Steady(until)).wait_until_due())
    }
}

/// Ids and secrets that depend on nothing but a seed and a first instant.
#[derive(Debug)]
pub struct SeededIds {
    seed: u64,
    first_ms: u64,
    made: AtomicU64,
}

impl SeededIds {
    /// Makes a source; equal seeds give equal sequences.
    pub const fn new(seed: u64) -> Self {
        Self { seed, first_ms: EPOCH_MS.unsigned_abs(), made: AtomicU64::new(0) }
    }

    /// Makes a source whose ids sort after all that were made before the instant.
    pub const fn after_instant(seed: u64, first_ms: u64) -> Self {
        Self { seed, first_ms, made: AtomicU64::new(0) }
    }

    fn random_block(&self, purpose: &str) -> (u64, [u8; 32]) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        hasher.update(purpose.as_bytes()).update(&self.seed.to_be_bytes()).update(&number.to_be_bytes());
        (number, *hasher.finalize().as_bytes())
    }
}

impl IdSource for SeededIds {
    fn new_uuid(&self) -> Uuid {
        let (number, block) = self.random_block("id");
        let mut random = [0; 10];
        random.copy_from_slice(&block[..10]);
        // The counter moves the time that a UUIDv7 begins with, so later ids sort after earlier ones.
        uuid::Builder::from_unix_timestamp_millis(self.first_ms + number, &random).into_uuid()
    }

    fn random_secret(&self) -> [u8; 32] {
        self.random_block("secret").1
    }
}

/// The tokio runtime around the caller, with real time and ids that differ from process to process.
pub fn tokio_runtime() -> Runtime {
    let since = SystemTime::UNIX_EPOCH;
    #[expect(clippy::disallowed_methods, reason = "this is where tests get their real clock")]
    let now = SystemTime::now().duration_since(since).unwrap_or_default();
    let seed = u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()).rotate_left(40);
    let ids = SeededIds::after_instant(seed, now.as_secs() * 1000 + u64::from(now.subsec_millis()));
    let life = Arc::new(NodeLife::new("test", ids.random_secret()));
    Runtime {
        life,
        clock: Arc::new(TokioClock::new()),
        ids: Arc::new(ids),
        spawn: Arc::new(TokioSpawn),
        compute: Arc::new(ComputeHere),
    }
}

/// The tokio runtime around the caller, with real time and ids from a seed.
pub fn tokio_runtime_seeded(seed: u64) -> Runtime {
    let ids = SeededIds::new(seed);
    let life = Arc::new(NodeLife::new("test", ids.random_secret()));
    Runtime {
        life,
        clock: Arc::new(TokioClock::new()),
        ids: Arc::new(ids),
        spawn: Arc::new(TokioSpawn),
        compute: Arc::new(ComputeHere),
    }
}

#[derive(Debug)]
struct TokioClock {
    began: std::time::Instant,
}

impl TokioClock {
    fn new() -> Self {
        Self { began: std::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is where tests get their real clock")]
        let now = Timestamp::now();
        // Within the range by construction; the store keeps milliseconds.
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let wait = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        Box::pin(tokio::time::sleep(wait))
    }

    fn monotonic_now(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }
}

#[derive(Debug)]
struct TokioSpawn;

impl TaskSpawner for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // The task runs to its end without its handle.
        drop(tokio::spawn(task));
    }
}

/// Takes the answer of a future that has one at once; a test whose future waits for something else fails here.
pub fn answer_of<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it answers at once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_wakes_in_time_and_leaves_nothing_when_dropped() {
        let clock = ManualClock::new();
        let at = clock.now() + Duration::from_millis(5);
        let mut sleep = clock.sleep_until(at);
        assert_eq!((&mut sleep).now_or_never(), None);
        assert_eq!(clock.next_due(), Some(at));
        clock.advance(Duration::from_millis(4));
        assert_eq!((&mut sleep).now_or_never(), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(sleep.now_or_never(), Some(()));
        let mut dropped = clock.sleep_until(at + Duration::from_secs(1));
        assert_eq!((&mut dropped).now_or_never(), None);
        drop(dropped);
        assert_eq!(clock.next_due(), None);
    }

    #[test]
    fn a_wall_clock_change_moves_no_steady_wait() {
        let clock = ManualClock::new();
        let mut steps = dromia_contracts::clock::ClockSteps::new(&clock);
        let (start, mut wait) = (clock.now(), clock.sleep(Duration::from_secs(5)));
        assert_eq!((&mut wait).now_or_never(), None);
        clock.step_wall_clock(start - Duration::from_hours(1));
        assert_eq!((&mut wait).now_or_never(), None);
        assert_eq!(clock.next_due(), Some(clock.now() + Duration::from_secs(5)));
        clock.advance(Duration::from_secs(5));
        assert_eq!(wait.now_or_never(), Some(()));
        let step = steps.poll_step(&clock).expect("it was set");
        assert!(step.is_back() && step.by == jiff::SignedDuration::from_hours(-1), "{step:?}");
        clock.advance(Duration::from_mins(9));
        assert_eq!(steps.poll_step(&clock), None);
        clock.step_wall_clock(clock.now() + Duration::from_mins(9));
        assert_eq!(steps.poll_step(&clock).map(|step| step.is_back()), Some(false));
    }

    #[test]
    fn equal_seeds_give_equal_ids_that_sort_by_age() {
        let draw = |seed| {
            let ids = SeededIds::new(seed);
            (0..50).map(|_| ids.new_uuid()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).is_sorted());
        assert!(draw(3).iter().all(|id| id.get_version_num() == 7));
    }
}
