//! One connection: HTTP/1.1 with a deadline for whatever the client owes us, closed in the phases of a drain.

mod deadline;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use self::deadline::WriteDeadline;
use crate::caller::Peer;
use crate::core::Shared;
use crate::request::answer;

/// Serves a connection to its end; raises `cut` if the drain ended before it did.
pub(crate) async fn serve<S>(core: Shared, router: Router, peer: Peer, stream: S, cut: &AtomicUsize)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(WriteDeadline::new(stream, core.config.write_time()));
    let service = service_fn(|request| {
        let core = core.clone();
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(&core, router, peer, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(core.config.header_time());
    let mut connection = pin!(builder.serve_connection(io, service));
    let closed = tokio::select! {
        closed = connection.as_mut() => closed,
        () = core.phase.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                closed = connection.as_mut() => closed,
                () = core.phase.cut.cancelled() => {
                    cut.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    if let Err(error) = closed {
        tracing::debug!(%error, "connection ended");
    }
}
