//! The real world behind the `Runtime` port: the system's clock, its randomness and the tokio runtime.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::BoxFuture;
use dromia_contracts::runtime::{Clock, IdSource, Runtime, Spawn};
use jiff::Timestamp;
use uuid::Uuid;

/// Gives the rooms the real world. Must be used inside a tokio runtime.
pub(crate) fn runtime() -> Runtime {
    Runtime { clock: Arc::new(SystemClock), ids: Arc::new(SystemIds), spawn: Arc::new(TokioSpawn) }
}

/// Makes the idempotency key of a command that sends something: no other command has it.
pub(crate) fn request_key() -> String {
    SystemIds.uuid().simple().to_string()
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let wait = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        Box::pin(tokio::time::sleep(wait))
    }
}

#[derive(Debug)]
struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that mints ids")]
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn secret(&self) -> [u8; 32] {
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

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}
