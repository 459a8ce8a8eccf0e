//! What the world gives to the library: time, identity, a place to run and one to compute.
//!
//! The library never reads the clock, the environment or randomness by itself. Under simulation the same ports are
//! driven by a seed.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::BoxFuture;
use crate::compute::{ComputeExecutor, ComputeFuture};
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, ItemId, RunId, SessionId, TenantId, TokenId};
use crate::lease::NodeLife;

/// Time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the wall time, cut to milliseconds, which is what the store keeps.
    fn now(&self) -> Timestamp;

    /// Waits until the wall time is reached. A wall clock that is set back makes this wait as much longer, so a loop that must
    /// go on waits with [`Clock::sleep`] and reads the wall clock after it.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;

    /// Returns the time since a fixed moment of this process. No change of the wall clock moves it.
    fn monotonic_now(&self) -> Duration;

    /// Waits so long, whatever happens to the wall clock meanwhile.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()>;
}

/// Identity and randomness.
pub trait IdSource: Send + Sync + fmt::Debug {
    /// Returns a new UUIDv7; later ones sort after earlier ones.
    fn new_uuid(&self) -> Uuid;

    /// Returns 32 unpredictable bytes, for keys.
    fn random_secret(&self) -> [u8; 32];
}

/// A place to run tasks.
pub trait TaskSpawner: Send + Sync + fmt::Debug {
    /// Runs a task to its end in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// All of them together, as every crate receives them.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity and randomness.
    pub ids: Arc<dyn IdSource>,
    /// A place to run tasks.
    pub spawn: Arc<dyn TaskSpawner>,
    /// A place for work that keeps a processor busy.
    pub compute: Arc<dyn ComputeExecutor>,
    /// This life of the process: the holder of what it does.
    pub life: Arc<NodeLife>,
}

impl Runtime {
    /// Mints a tenant id.
    pub fn tenant_id(&self) -> TenantId {
        TenantId::from_uuid(self.ids.new_uuid())
    }

    /// Mints an agent id.
    pub fn agent_id(&self) -> AgentId {
        AgentId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a session id.
    pub fn session_id(&self) -> SessionId {
        SessionId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a run id.
    pub fn run_id(&self) -> RunId {
        RunId::from_uuid(self.ids.new_uuid())
    }

    /// Mints an inbox item id.
    pub fn item_id(&self) -> ItemId {
        ItemId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a delivery id.
    pub fn delivery_id(&self) -> DeliveryId {
        DeliveryId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a capability id.
    pub fn capability_id(&self) -> CapabilityId {
        CapabilityId::from_uuid(self.ids.new_uuid())
    }

    /// Mints an approval id.
    pub fn approval_id(&self) -> ApprovalId {
        ApprovalId::from_uuid(self.ids.new_uuid())
    }

    /// Mints a token id.
    pub fn token_id(&self) -> TokenId {
        TokenId::from_uuid(self.ids.new_uuid())
    }

    /// Does work of a tenant that keeps a processor busy, beside the tasks and in the tenant's turn. Nothing where the work
    /// panicked. Dropped before its turn, the work is not done; after it has begun it goes on to its end.
    pub fn run_compute<T: Send + 'static>(
        &self,
        tenant: TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> ComputeFuture<T> {
        ComputeFuture::spawn_on(&*self.compute, tenant, work)
    }

    /// Makes a call that, once it has begun, goes on to its end even if its caller drops it.
    ///
    /// A caller may go away at any moment: a client hangs up, and its request is dropped. Between a batch in the queue
    /// of the store and what must follow its commit (a task for the run, a message to its owner, a cache that forgets)
    /// memory would then silently stay behind what becomes durable. A read of the store from the drop itself may come
    /// before the commit and find nothing. So what is left of a call that is dropped in the middle becomes a task of
    /// its own. A call that is awaited to its end spawns nothing and costs one small allocation; one that was never
    /// polled does nothing. Only the end of the process cuts a call off, and the next start reads what is durable.
    ///
    /// Such a call must end by itself: no caller is left to cancel it.
    pub fn carried_through<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(CarriedThrough { spawn: &*self.spawn, call: Some(Box::pin(call)), has_begun: false })
    }
}

/// A call that becomes a task where its caller drops it.
struct CarriedThrough<'a, T: Send + 'static> {
    spawn: &'a dyn TaskSpawner,
    /// What is left of it; nothing once it has ended.
    call: Option<BoxFuture<'static, T>>,
    has_begun: bool,
}

impl<T: Send + 'static> Future for CarriedThrough<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.has_begun = true;
        // Out of its place meanwhile, so that one that panics is dropped and not polled again by a task.
        let Some(mut call) = self.call.take() else { return Poll::Pending };
        let answer = call.as_mut().poll(cx);
        if answer.is_pending() {
            self.call = Some(call);
        }
        answer
    }
}

impl<T: Send + 'static> Drop for CarriedThrough<'_, T> {
    fn drop(&mut self) {
        if self.has_begun
            && let Some(call) = self.call.take()
        {
            self.spawn.spawn(Box::pin(async move { drop(call.await) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Waker;

    use super::*;

    /// Keeps what is spawned, for the test to run.
    #[derive(Default)]
    struct Kept(Mutex<Vec<BoxFuture<'static, ()>>>);

    impl fmt::Debug for Kept {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Kept")
        }
    }

    impl TaskSpawner for Kept {
        fn spawn(&self, task: BoxFuture<'static, ()>) {
            self.0.lock().expect("no test panics in here").push(task);
        }
    }

    impl Kept {
        fn tasks(&self) -> Vec<BoxFuture<'static, ()>> {
            std::mem::take(&mut *self.0.lock().expect("no test panics in here"))
        }
    }

    /// Waits once.
    async fn step() {
        let mut passed = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut passed, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// A call that counts how far it came: once begun, and once at its end.
    fn call<'a>(spawn: &'a Kept, far: &Arc<AtomicU32>) -> CarriedThrough<'a, u32> {
        let far = Arc::clone(far);
        let call = async move {
            far.store(1, Ordering::SeqCst);
            step().await;
            far.store(2, Ordering::SeqCst);
            7
        };
        CarriedThrough { spawn, call: Some(Box::pin(call)), has_begun: false }
    }

    fn poll<T>(mut future: impl Future<Output = T> + Unpin) -> Poll<T> {
        Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_call_dropped_in_the_middle_is_completed() {
        let (spawn, far) = (Kept::default(), Arc::default());
        let mut call = call(&spawn, &far);
        assert_eq!((poll(&mut call), far.load(Ordering::SeqCst)), (Poll::Pending, 1));
        assert!(spawn.tasks().is_empty(), "its caller waits for it");
        drop(call);
        let mut tasks = spawn.tasks();
        assert_eq!((tasks.len(), far.load(Ordering::SeqCst)), (1, 1));
        assert_eq!((poll(&mut tasks[0]), far.load(Ordering::SeqCst)), (Poll::Ready(()), 2));
    }

    #[test]
    fn a_finished_or_unstarted_call_leaves_no_task() {
        let (spawn, far) = (Kept::default(), Arc::default());
        drop(call(&spawn, &far));
        assert_eq!((spawn.tasks().len(), far.load(Ordering::SeqCst)), (0, 0));
        let mut call = call(&spawn, &far);
        assert_eq!(poll(&mut call), Poll::Pending);
        assert_eq!((poll(&mut call), far.load(Ordering::SeqCst)), (Poll::Ready(7), 2));
        drop(call);
        assert_eq!(spawn.tasks().len(), 0);
    }

    #[test]
    fn a_call_that_panics_is_not_polled_again() {
        let spawn = Kept::default();
        let failing = std::future::poll_fn(|_| -> Poll<()> { panic!("it fails") });
        let mut call = CarriedThrough { spawn: &spawn, call: Some(Box::pin(failing)), has_begun: false };
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut call).is_ready()));
        assert!(polled.is_err());
        drop(call);
        assert_eq!(spawn.tasks().len(), 0);
    }
}
