//! Time, ids and spawning for tests: a clock that moves only when told, ids that come from a seed, and the real
//! thing over tokio for tests that need real sockets and files.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use dromia_contracts::BoxFuture;
use dromia_contracts::runtime::{Clock, IdSource, Runtime, Spawn};
use jiff::Timestamp;
use uuid::Uuid;

/// Where every manual clock begins: 2026-01-01T00:00:00Z, in milliseconds.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// A clock that stands still until it is moved. Clones are handles to the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Times>>);

#[derive(Debug)]
struct Times {
    now: Timestamp,
    /// Who waits for when; the second number keeps sleepers of one instant apart.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    sleepers_made: u64,
}

impl Default for ManualClock {
    fn default() -> Self {
        let now = Timestamp::from_millisecond(EPOCH_MS).expect("the constant is within jiff's range");
        Self(Arc::new(Mutex::new(Times { now, sleepers: BTreeMap::new(), sleepers_made: 0 })))
    }
}

impl ManualClock {
    /// Makes a clock that stands at [`EPOCH_MS`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock on and wakes whoever waited for that.
    pub fn advance(&self, by: Duration) {
        let to = self.now().checked_add(by).expect("tests stay within jiff's range");
        self.set(to);
    }

    /// Puts the clock to a time, forwards or backwards.
    pub fn set(&self, to: Timestamp) {
        let mut times = self.times();
        times.now = to;
        // Those that wait for a later time stay.
        let later = times.sleepers.split_off(&(to, u64::MAX));
        let due = std::mem::replace(&mut times.sleepers, later);
        drop(times);
        due.into_values().for_each(Waker::wake);
    }

    /// Returns when the next sleeper is due, if anyone sleeps.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.times().sleepers.keys().next().map(|(at, _)| *at)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the sleepers, given back when the sleep ends or is dropped.
struct Sleeper {
    clock: ManualClock,
    place: (Timestamp, u64),
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.clock.times().sleepers.remove(&self.place);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.times().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut times = self.times();
        times.sleepers_made += 1;
        let sleeper = Sleeper { clock: self.clone(), place: (at, times.sleepers_made) };
        drop(times);
        Box::pin(poll_fn(move |cx| {
            let mut times = sleeper.clock.times();
            if times.now >= sleeper.place.0 {
                return Poll::Ready(());
            }
            times.sleepers.insert(sleeper.place, cx.waker().clone());
            Poll::Pending
        }))
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
    pub const fn since(seed: u64, first_ms: u64) -> Self {
        Self { seed, first_ms, made: AtomicU64::new(0) }
    }

    fn block(&self, purpose: &str) -> (u64, [u8; 32]) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        hasher.update(purpose.as_bytes()).update(&self.seed.to_be_bytes()).update(&number.to_be_bytes());
        (number, *hasher.finalize().as_bytes())
    }
}

impl IdSource for SeededIds {
    fn uuid(&self) -> Uuid {
        let (number, block) = self.block("id");
        let mut random = [0; 10];
        random.copy_from_slice(&block[..10]);
        // The counter moves the time that a UUIDv7 begins with, so later ids sort after earlier ones.
        uuid::Builder::from_unix_timestamp_millis(self.first_ms + number, &random).into_uuid()
    }

    fn secret(&self) -> [u8; 32] {
        self.block("secret").1
    }
}

/// The tokio runtime around the caller, with real time and ids that differ from process to process.
pub fn tokio_runtime() -> Runtime {
    let since = SystemTime::UNIX_EPOCH;
    #[expect(clippy::disallowed_methods, reason = "this is where tests get their real clock")]
    let now = SystemTime::now().duration_since(since).unwrap_or_default();
    let seed = u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()).rotate_left(40);
    let ids = SeededIds::since(seed, now.as_secs() * 1000 + u64::from(now.subsec_millis()));
    Runtime { clock: Arc::new(TokioClock), ids: Arc::new(ids), spawn: Arc::new(TokioSpawn) }
}

/// The tokio runtime around the caller, with real time and ids from a seed.
pub fn tokio_runtime_seeded(seed: u64) -> Runtime {
    Runtime { clock: Arc::new(TokioClock), ids: Arc::new(SeededIds::new(seed)), spawn: Arc::new(TokioSpawn) }
}

#[derive(Debug)]
struct TokioClock;

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
}

#[derive(Debug)]
struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // The task runs to its end without its handle.
        drop(tokio::spawn(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_sleeper_wakes_at_its_time_and_leaves_no_trace_when_dropped() {
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
    fn equal_seeds_give_equal_ids_that_sort_by_age() {
        let draw = |seed| {
            let ids = SeededIds::new(seed);
            (0..50).map(|_| ids.uuid()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).is_sorted());
        assert!(draw(3).iter().all(|id| id.get_version_num() == 7));
    }
}
