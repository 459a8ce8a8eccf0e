//! Work that keeps a processor busy: beside the tasks, so that none of them waits for it, and in turns by tenant.
//!
//! What may take longer than a millisecond goes here. The port only says where it is done; it starts no thread.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::TenantId;

/// A piece of work.
pub type Work = Box<dyn FnOnce() + Send>;

/// A place for work that keeps a processor busy.
pub trait ComputeExecutor: Send + Sync + fmt::Debug {
    /// Does the work of a tenant in its turn. Work that panics ends, and nothing else does.
    fn execute_work(&self, tenant: TenantId, work: Work);
}

/// Does the work where it is asked for, for tests and for a process of one user.
#[derive(Debug, Clone, Copy)]
pub struct ComputeHere;

impl ComputeExecutor for ComputeHere {
    fn execute_work(&self, _: TenantId, work: Work) {
        // The dropped sender reports to the future that there is no result.
        let _ended = catch_unwind(AssertUnwindSafe(work));
    }
}

/// Waits for the end of some work.
#[derive(Debug)]
#[must_use = "work that nobody waits for is not done"]
pub struct ComputeFuture<T>(Arc<Mutex<ComputeResultSlot<T>>>);

/// Where the result is laid down.
#[derive(Debug)]
struct ComputeResultSlot<T> {
    result: Option<T>,
    is_over: bool,
    waker: Option<Waker>,
}

/// Lays a result down, or says that there is none.
struct ComputeResultSender<T>(Arc<Mutex<ComputeResultSlot<T>>>);

impl<T: Send + 'static> ComputeFuture<T> {
    pub(crate) fn spawn_on(
        compute: &dyn ComputeExecutor,
        tenant: TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Self {
        let desk = Arc::new(Mutex::new(ComputeResultSlot { result: None, is_over: false, waker: None }));
        let worker = ComputeResultSender(Arc::clone(&desk));
        compute.execute_work(
            tenant,
            Box::new(move || {
                // The future that wanted the result is gone if only the worker holds the slot.
                if Arc::strong_count(&worker.0) > 1 {
                    let result = work();
                    lock_slot(&worker.0).result = Some(result);
                }
            }),
        );
        Self(desk)
    }
}

impl<T> Drop for ComputeResultSender<T> {
    fn drop(&mut self) {
        let mut desk = lock_slot(&self.0);
        desk.is_over = true;
        let waker = desk.waker.take();
        drop(desk);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for ComputeFuture<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut desk = lock_slot(&self.0);
        if desk.is_over {
            return Poll::Ready(desk.result.take());
        }
        desk.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn lock_slot<T>(desk: &Mutex<ComputeResultSlot<T>>) -> MutexGuard<'_, ComputeResultSlot<T>> {
    // No code panics while it holds the lock.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);

    /// Keeps work, for the test to do.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Work>>);

    impl fmt::Debug for Kept {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Kept")
        }
    }

    impl ComputeExecutor for Kept {
        fn execute_work(&self, _: TenantId, work: Work) {
            self.0.lock().expect("no test panics in here").push(work);
        }
    }

    impl Kept {
        fn one(&self) -> Work {
            self.0.lock().expect("no test panics in here").remove(0)
        }
    }

    fn poll<T>(computed: &mut ComputeFuture<T>) -> Poll<Option<T>> {
        Pin::new(computed).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_result_comes_after_its_work_unless_the_work_panics() {
        let kept = Kept::default();
        let mut answer = ComputeFuture::spawn_on(&kept, TENANT, || 7);
        assert_eq!(poll(&mut answer), Poll::Pending);
        kept.one()();
        assert_eq!(poll(&mut answer), Poll::Ready(Some(7)));
        let mut broken = ComputeFuture::spawn_on(&kept, TENANT, || -> u32 { panic!("it fails") });
        let work = kept.one();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
        assert_eq!(poll(&mut broken), Poll::Ready(None));
        assert_eq!(poll(&mut ComputeFuture::spawn_on(&ComputeHere, TENANT, || 8)), Poll::Ready(Some(8)));
    }

    #[test]
    fn abandoned_work_is_not_done() {
        let (kept, done) = (Kept::default(), Arc::new(Mutex::new(false)));
        let note = Arc::clone(&done);
        drop(ComputeFuture::spawn_on(&kept, TENANT, move || *lock_flag(&note) = true));
        kept.one()();
        assert!(!*lock_flag(&done));
    }

    fn lock_flag(flag: &Mutex<bool>) -> MutexGuard<'_, bool> {
        flag.lock().expect("no test panics in here")
    }
}
