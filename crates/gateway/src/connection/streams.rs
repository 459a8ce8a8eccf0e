//! The streams of one HTTP/2 connection: each is a task that ends with its connection, with the drain, or when its
//! reader takes nothing for too long.

use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::pace::ReaderTurn;
use crate::core::Shared;
use crate::edge_refusal::EdgeRefusal;

/// Runs the streams of a connection and knows how many are open.
#[derive(Clone)]
pub(super) struct ConnectionStreams {
    core: Shared,
    tasks: TaskTracker,
    end: CancellationToken,
    open: Arc<watch::Sender<usize>>,
}

impl ConnectionStreams {
    pub(super) fn new(core: Shared, tasks: TaskTracker) -> Self {
        Self { core, tasks, end: CancellationToken::new(), open: Arc::new(watch::Sender::new(0)) }
    }

    /// Ends every stream when the guard is dropped.
    pub(super) fn end_with(&self) -> DropGuard {
        self.end.clone().drop_guard()
    }

    /// Waits until no stream was open for so long.
    pub(super) async fn wait_idle(&self, limit: Duration) {
        let mut open = self.open.subscribe();
        loop {
            let is_quiet = *open.borrow_and_update() == 0;
            // The sender is ours, so there is always another change to wait for.
            if is_quiet {
                if timeout(limit, open.changed()).await.is_err() {
                    return;
                }
            } else if open.changed().await.is_err() {
                return;
            }
        }
    }
}

impl<S> Executor<S> for ConnectionStreams
where
    S: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: S) {
        let open = StreamGuard::new(self.open.clone());
        let (core, end) = (self.core.clone(), self.end.clone());
        let task = async move {
            let _open = open;
            let turn = Arc::new(ReaderTurn::default());
            tokio::select! {
                () = turn.clone().carry_stream(stream) => {}
                () = turn.wait_stalled(core.config.write_time()) => core.meters.count_refusal(EdgeRefusal::SlowReader),
                () = end.cancelled() => {}
            }
        };
        self.core.ports.runtime.spawn.spawn(Box::pin(self.tasks.track_future(task)));
    }
}

/// Counts a stream as long as it lives.
struct StreamGuard(Arc<watch::Sender<usize>>);

impl StreamGuard {
    fn new(open: Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
