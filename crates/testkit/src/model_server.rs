//! The scripted model behind the chat completions format, over plain HTTP/1.1.
//!
//! It replaces a provider in tests and measurements. In a measurement it shares two cores with what is measured, so it
//! does little per request: one read, one pass over the JSON, one write, connections kept open. It knows `POST
//! …/chat/completions` and `GET /stats`, and no TLS, no chunked requests and no authentication. Requests of more than 8
//! MiB and connections beyond 4,096 are turned away.

mod http;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use self::http::{ClientConnection, ServerRequest};
use self::wire::WireAnswer;

/// The most connections at once.
const CONNECTIONS_MAX: usize = 4096;
/// How long a kept connection may rest.
const IDLE_MAX: Duration = Duration::from_mins(5);

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub struct ModelServerOptions {
    /// A wait before each answer, on top of what `@slow` asks for.
    pub delay: Duration,
    /// What it counts; keep a clone to read it.
    pub counters: Arc<ModelServerCounters>,
}

/// What the server did.
#[derive(Debug, Default)]
pub struct ModelServerCounters {
    /// Connections that were accepted.
    pub connections: AtomicU64,
    /// Completions that were asked for.
    pub requests: AtomicU64,
    /// Bytes of their bodies.
    pub request_bytes: AtomicU64,
    /// Bytes of the last one's body.
    pub request_bytes_last: AtomicU64,
    /// Bytes of the system messages in the last one.
    pub system_bytes_last: AtomicU64,
}

impl ModelServerCounters {
    fn to_json(&self) -> String {
        let Self { connections, requests, request_bytes, request_bytes_last, system_bytes_last } = self;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        serde_json::json!({
            "connections": read(connections),
            "requests": read(requests),
            "request_bytes": read(request_bytes),
            "request_bytes_last": read(request_bytes_last),
            "system_bytes_last": read(system_bytes_last),
        })
        .to_string()
    }
}

/// A server inside the test's process; dropping it ends it and every connection.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    counters: Arc<ModelServerCounters>,
    task: AbortHandle,
}

impl ModelServer {
    /// Starts a server on a free port of the loopback.
    pub async fn start_server(options: ModelServerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let counters = Arc::clone(&options.counters);
        let task = tokio::spawn(async move { serve_connections(listener, options).await }).abort_handle();
        Ok(Self { address, counters, task })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what an adapter takes as its base address.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns what it counts.
    pub fn counters(&self) -> &ModelServerCounters {
        &self.counters
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves until the future is dropped, which ends every connection, or until the listener breaks.
pub async fn serve_connections(listener: TcpListener, options: ModelServerOptions) -> io::Error {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The peer gave up in the queue; the listener is fine.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        // Over the limit the stream is dropped, which the client sees as a closed connection.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        options.counters.connections.fetch_add(1, Ordering::Relaxed);
        let options = options.clone();
        connections.spawn(async move {
            // A client that goes away or breaks the protocol ends its own connection and nothing else.
            let _ended = serve_connection(stream, &options).await;
            drop(place);
        });
    }
}

async fn serve_connection(stream: TcpStream, options: &ModelServerOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = ClientConnection::new(stream);
    loop {
        let Ok(request) = tokio::time::timeout(IDLE_MAX, connection.next_request()).await else {
            return Ok(());
        };
        let Some(request) = request? else { return Ok(()) };
        let keep = match request {
            ServerRequest::Completion { body } => answer_completion(&mut connection, body, options).await?,
            ServerRequest::Stats => {
                let stats = options.counters.to_json();
                connection.tcp_stream().write_all(&http::response_bytes(200, stats.as_bytes())).await?;
                true
            }
            ServerRequest::Other => {
                let body = wire::error_body("no such route");
                connection.tcp_stream().write_all(&http::response_bytes(404, &body)).await?;
                true
            }
        };
        if !keep {
            return Ok(());
        }
    }
}

/// Answers one completion; tells whether the connection stays.
async fn answer_completion(
    connection: &mut ClientConnection,
    body: std::ops::Range<usize>,
    options: &ModelServerOptions,
) -> io::Result<bool> {
    let counters = &options.counters;
    counters.requests.fetch_add(1, Ordering::Relaxed);
    counters.request_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    counters.request_bytes_last.store(body.len() as u64, Ordering::Relaxed);
    let Some(heard) = wire::plan_answer(connection.buffered_bytes(body)) else {
        connection
            .tcp_stream()
            .write_all(&http::response_bytes(400, &wire::error_body("the body is not a request")))
            .await?;
        return Ok(true);
    };
    counters.system_bytes_last.store(heard.system_bytes as u64, Ordering::Relaxed);
    let slow = Duration::from_millis(heard.slow_ms);
    let wait = options.delay + slow;
    let stream = connection.tcp_stream();
    match heard.answer {
        WireAnswer::Whole(body) => {
            sleep_unless_zero(wait).await;
            stream.write_all(&http::response_bytes(200, &body)).await?;
            Ok(true)
        }
        WireAnswer::Refused { status, body } => {
            sleep_unless_zero(wait).await;
            stream.write_all(&http::response_bytes(status, &body)).await?;
            Ok(true)
        }
        WireAnswer::Torn(body) => {
            sleep_unless_zero(wait).await;
            stream.write_all(&http::torn_response(&body)).await?;
            Ok(false)
        }
        WireAnswer::Events { events, complete } => {
            if wait.is_zero() {
                let all = http::stream_all(&events, complete);
                stream.write_all(&all).await?;
            } else {
                sleep_unless_zero(options.delay).await;
                stream.write_all(http::STREAM_HEAD).await?;
                let share = slow / u32::try_from(events.len()).unwrap_or(u32::MAX).max(1);
                for event in &events {
                    stream.write_all(&http::event_chunk(event)).await?;
                    sleep_unless_zero(share).await;
                }
                if complete {
                    stream.write_all(http::STREAM_END).await?;
                }
            }
            Ok(complete)
        }
    }
}

async fn sleep_unless_zero(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
