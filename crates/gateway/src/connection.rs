//! One connection: HTTP/1.1, or HTTP/2 where TLS agreed on it, with a deadline for whatever the client owes us, closed
//! in the phases of a drain.
//!
//! HTTP/2 is spoken over TLS only. Everything that a client can make the server keep has a bound here: the bytes of
//! headers, the streams of a connection, the streams that were opened and taken back (rapid reset), the time in which
//! nothing is asked, and what is sent to a reader that takes nothing.

mod deadline;
mod pace;
mod streams;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use self::deadline::WriteDeadline;
use self::pace::{PacedBody, ReaderTurn};
use self::streams::ConnectionStreams;
use crate::caller::Peer;
use crate::core::Shared;
use crate::edge_refusal::EdgeRefusal;
use crate::request::answer_request;

/// The most bytes of the headers of one request, its target included.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// The most bytes that an HTTP/1 connection buffers of what it reads.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// The most streams that a client may open and take back before they are looked at; more end the connection.
const RESETS_WAITING_MAX: usize = 32;

/// The most streams that the server resets for a client's mistakes; more end the connection.
const RESETS_FOR_MISTAKES_MAX: usize = 256;

/// The most bytes that an HTTP/2 stream buffers of what it sends, and the most that it takes unread.
const STREAM_BYTES_MAX: u32 = 256 << 10;

/// The most that an HTTP/2 connection takes unread.
const CONNECTION_BYTES_MAX: u32 = 1 << 20;

/// How often a peer is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);

/// How long an HTTP/2 connection may idle after the server sent GOAWAY, before it is dropped.
const GONE: Duration = Duration::from_millis(500);

/// What a connection is served with.
pub(crate) struct ConnectionContext {
    pub(crate) core: Shared,
    pub(crate) router: Router,
    pub(crate) peer: Peer,
    /// Where the streams of a connection are counted, for the drain.
    pub(crate) tasks: TaskTracker,
    /// Counts the connections that the drain cut.
    pub(crate) cut: Arc<AtomicUsize>,
}

impl ConnectionContext {
    /// Serves a connection to its end.
    pub(crate) async fn serve_plain<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = self.with_write_deadline(stream);
        self.serve_http1(stream).await;
    }

    /// Agrees on a key and a version of HTTP, and serves the connection to its end.
    pub(crate) async fn serve_encrypted<S>(self, stream: S, acceptor: TlsAcceptor)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake =
            timeout(self.core.config.header_time(), acceptor.accept(self.with_write_deadline(stream)));
        let stream = tokio::select! {
            agreed = handshake => match agreed {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => {
                    self.core.meters.count_refusal(EdgeRefusal::Handshake);
                    tracing::debug!(%error, "the TLS handshake failed");
                    return;
                }
                Err(_) => {
                    self.core.meters.count_refusal(EdgeRefusal::Handshake);
                    return;
                }
            },
            // Nothing was asked yet.
            () = self.core.phase.closing.cancelled() => return,
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
        if is_http2 {
            self.serve_http2(stream).await;
        } else {
            self.serve_http1(stream).await;
        }
    }

    fn with_write_deadline<S>(&self, stream: S) -> WriteDeadline<S> {
        let stalls = self.core.meters.refusal_counter(EdgeRefusal::SlowReader);
        WriteDeadline::new(stream, self.core.config.write_time(), stalls)
    }

    async fn serve_http1<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { core, router, peer, cut, .. } = self;
        let service = service_fn(|request| {
            let core = core.clone();
            let router = router.clone();
            async move { Ok::<_, Infallible>(answer_request(&core, router, peer, request).await) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(core.config.header_time())
            .max_header_size(HEADER_BYTES_MAX as usize)
            .max_buf_size(BUFFER_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
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
        log_connection_end(closed);
    }

    async fn serve_http2<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { core, router, peer, tasks, cut } = self;
        let streams = ConnectionStreams::new(core.clone(), tasks);
        // However the connection ends, what its streams do ends with it.
        let _end = streams.end_with();
        let shared = core.clone();
        let service = service_fn(move |request| {
            let core = shared.clone();
            let router = router.clone();
            async move {
                let turn = ReaderTurn::of_this_stream();
                let response = answer_request(&core, router, peer, request).await;
                Ok::<_, Infallible>(response.map(|body| Body::new(PacedBody::new(body, turn))))
            }
        });
        let mut builder = http2::Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(core.config.capacity.http2_streams_max)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
            .max_local_error_reset_streams(RESETS_FOR_MISTAKES_MAX)
            .max_send_buf_size(STREAM_BYTES_MAX as usize)
            .initial_stream_window_size(STREAM_BYTES_MAX)
            .initial_connection_window_size(CONNECTION_BYTES_MAX)
            .keep_alive_interval(PING)
            .keep_alive_timeout(core.config.write_time());
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
        let closed = tokio::select! {
            closed = connection.as_mut() => Some(closed),
            () = core.phase.closing.cancelled() => None,
            () = streams.wait_idle(core.config.header_time()) => None,
        };
        if let Some(closed) = closed {
            log_connection_end(closed);
            return;
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            closed = connection.as_mut() => log_connection_end(closed),
            () = streams.wait_idle(GONE) => {}
            () = core.phase.cut.cancelled() => {
                cut.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn log_connection_end(closed: hyper::Result<()>) {
    if let Err(error) = closed {
        tracing::debug!(%error, "connection ended");
    }
}
