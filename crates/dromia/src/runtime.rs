//! The real world behind the `Runtime` port: the system's clock, its randomness, the tokio runtime and threads for work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dromia_contracts::BoxFuture;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::runtime::{Clock, IdSource, Runtime, TaskSpawner};
use jiff::Timestamp;
use uuid::Uuid;

use crate::compute::FairThreads;

/// The name of the node: a home is served by one process at a time, and nothing else reaches its store.
const NODE: &str = "home";

/// Makes the runtime of the real clock, ids, tasks and threads. Must be used inside a tokio runtime.
pub(crate) fn real_runtime() -> Runtime {
    Runtime {
        clock: Arc::new(SystemClock::new()),
        ids: Arc::new(SystemIds),
        spawn: Arc::new(TokioSpawn),
        compute: Arc::new(FairThreads::new()),
        life: Arc::new(NodeLife::new(NODE, SystemIds.random_secret())),
    }
}

/// The system's clock.
pub(crate) fn real_clock() -> impl Clock {
    SystemClock::new()
}

/// Makes the idempotency key of a command that sends something: no other command has it.
pub(crate) fn request_key() -> String {
    SystemIds.new_uuid().simple().to_string()
}

/// The longest time between two looks at the wall clock of a wait for a wall time: so late a step of the clock is seen.
const CLOCK_LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct SystemClock {
    began: Instant,
}

impl SystemClock {
    fn new() -> Self {
        Self { began: Instant::now() }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub(crate) fn wall_clock_now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// Waits until a wall time, and looks at the clock again and again: a step of it is no part of any wait.
async fn sleep_until_wall_time(now: impl Fn() -> Timestamp + Send, at: Timestamp) {
    loop {
        let left = Duration::try_from(at.duration_since(now())).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK_LOOK)).await;
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall_clock_now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(sleep_until_wall_time(wall_clock_now, at))
    }

    fn monotonic_now(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }
}

#[derive(Debug)]
struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that mints ids")]
    fn new_uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn random_secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let mut filled = 0;
        while filled < bytes.len() {
            // The kernel's pool is ready long before any program runs; an interrupted call is made again.
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .unwrap_or(0);
        }
        bytes
    }
}

#[derive(Debug)]
struct TokioSpawn;

impl TaskSpawner for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// How long a wait of an hour takes where the wall clock is set ahead by an hour after a second.
    async fn waited(look: impl AsyncFn(&Mutex<Timestamp>, Timestamp)) -> Duration {
        let start = Timestamp::UNIX_EPOCH;
        let wall = Mutex::new(start);
        let began = tokio::time::Instant::now();
        let step = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *wall.lock().expect("no test panics in here") = start + Duration::from_hours(1);
        };
        tokio::join!(look(&wall, start + Duration::from_hours(1)), step);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_ahead_ends_a_wait_within_one_interval() {
        let took =
            waited(async |wall, at| sleep_until_wall_time(|| *wall.lock().expect("no panic"), at).await)
                .await;
        assert!(took <= CLOCK_LOOK, "it took {took:?}");
    }

    /// Planted fault: the wait is worked out once.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_worked_out_once_is_caught() {
        let once = async |wall: &Mutex<Timestamp>, at: Timestamp| {
            let left = at.duration_since(*wall.lock().expect("no panic"));
            tokio::time::sleep(left.try_into().expect("it lies ahead")).await;
        };
        assert!(waited(once).await > CLOCK_LOOK, "nothing notices it");
    }
}
