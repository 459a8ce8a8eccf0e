//! The client: many connections that stay open, requests built beforehand, one thread.
//!
//! It shares the cores with what it measures, so it does as little as it can per request: one write, one read, one
//! look for the text that a good answer holds. Closed loop: each connection sends when its last answer is there.
//! Bursts: all connections send at once, and again when all have their answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::http::{self, HttpConnection};
use crate::measure::{LatencyRecorder, LoadSummary};

/// A request without an answer after this long has failed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A connection that is without an answer so often in a row gives up.
const FAILURES_MAX: u32 = 100;

/// What to send to whom.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The requests, sent one after the other and from the beginning again.
    pub(crate) requests: Arc<[Vec<u8>]>,
    /// What the body of a good answer holds.
    pub(crate) expected: &'static str,
    /// The connections.
    pub(crate) connections: usize,
}

/// When a closed loop ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LoadExtent {
    /// After so long.
    For(Duration),
    /// After so many requests, or so long if that comes first.
    Count(u64, Duration),
}

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// Where the server listens, such as 127.0.0.1:8000.
    #[arg(long)]
    address: SocketAddr,
    /// The path to send to.
    #[arg(long, default_value = "/v1/events")]
    path: String,
    /// The bearer token.
    #[arg(long)]
    token: Option<String>,
    /// The body of each request.
    #[arg(long, default_value = r#"{"text":"hello","wait":true}"#)]
    body: String,
    /// The connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long to send, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many requests to send at most.
    #[arg(long)]
    count: Option<u64>,
    /// Sends so many bursts of one request per connection, instead of a closed loop.
    #[arg(long)]
    bursts: Option<usize>,
}

/// Loads a server and prints the summary.
#[expect(clippy::print_stdout, reason = "the summary is what the command is for")]
pub(crate) async fn print_load_summary(arguments: LoadArguments) -> anyhow::Result<()> {
    let LoadArguments { address, path, token, body, connections, seconds, count, bursts } = arguments;
    let request = http::encode_request("POST", &path, token.as_deref(), &body);
    let plan = LoadPlan { address, requests: [request].into(), expected: "", connections };
    let time = Duration::from_secs(seconds);
    let summary = match (bursts, count) {
        (Some(bursts), _) => send_bursts(&plan, bursts).await?,
        (None, Some(count)) => closed_loop(&plan, LoadExtent::Count(count, time)).await?,
        (None, None) => closed_loop(&plan, LoadExtent::For(time)).await?,
    };
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

/// Sends on every connection, each as soon as its last answer is there.
pub(crate) async fn closed_loop(plan: &LoadPlan, extent: LoadExtent) -> anyhow::Result<LoadSummary> {
    let clients = connect_clients(plan).await?;
    let next = Arc::new(AtomicU64::new(0));
    let (count, time) = match extent {
        LoadExtent::For(time) => (u64::MAX, time),
        LoadExtent::Count(count, time) => (count, time),
    };
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            while began.elapsed() < time && client.failures_in_a_row < FAILURES_MAX {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                client.exchange_and_count(number).await;
            }
            client.latencies
        });
    }
    collect_latencies(tasks, began).await
}

/// Does the same on a thread of its own, so that what this client has to do slows no measurement of another one. Its summary is
/// not kept.
pub(crate) fn spawn_load_thread(plan: LoadPlan, time: Duration) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        drop(runtime.block_on(closed_loop(&plan, LoadExtent::For(time))));
    })?;
    Ok(())
}

/// Sends one request on every connection at once, and again when all are answered.
pub(crate) async fn send_bursts(plan: &LoadPlan, bursts: usize) -> anyhow::Result<LoadSummary> {
    let clients = connect_clients(plan).await?;
    let all = Arc::new(Barrier::new(clients.len()));
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (all, next) = (Arc::clone(&all), Arc::clone(&next));
        tasks.spawn(async move {
            for _ in 0..bursts {
                // Each exchange has a deadline, so every connection comes back to the barrier.
                all.wait().await;
                client.exchange_and_count(next.fetch_add(1, Ordering::Relaxed)).await;
            }
            client.latencies
        });
    }
    collect_latencies(tasks, began).await
}

async fn collect_latencies(
    mut tasks: JoinSet<LatencyRecorder>,
    began: Instant,
) -> anyhow::Result<LoadSummary> {
    let mut latencies = LatencyRecorder::default();
    while let Some(of_one) = tasks.join_next().await {
        latencies.merge_from(of_one.context("a connection's task broke down")?);
    }
    Ok(latencies.into_summary(began.elapsed()))
}

async fn connect_clients(plan: &LoadPlan) -> anyhow::Result<Vec<LoadClient>> {
    if plan.requests.is_empty() {
        bail!("there is nothing to send");
    }
    let mut clients = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        let opened = timeout(ANSWER_TIME_MAX, HttpConnection::open(plan.address)).await;
        let connection = opened.context("no connection in time").and_then(|opened| Ok(opened?));
        let connection = Some(connection.with_context(|| format!("failed to open connection {number}"))?);
        clients.push(LoadClient {
            plan: plan.clone(),
            connection,
            latencies: LatencyRecorder::default(),
            failures_in_a_row: 0,
        });
    }
    Ok(clients)
}

struct LoadClient {
    plan: LoadPlan,
    connection: Option<HttpConnection>,
    latencies: LatencyRecorder,
    failures_in_a_row: u32,
}

impl LoadClient {
    /// Sends one request and counts what became of it. What is refused is asked again on the same connection; where no answer
    /// came, the connection is a new one.
    async fn exchange_and_count(&mut self, number: u64) {
        let began = Instant::now();
        match timeout(ANSWER_TIME_MAX, self.attempt_exchange(number)).await {
            Ok(Ok(Some(true))) => {
                self.failures_in_a_row = 0;
                self.latencies.record_answer(began.elapsed());
            }
            Ok(Ok(Some(false))) => {
                self.failures_in_a_row = 0;
                self.latencies.record_failure();
            }
            Ok(Ok(None) | Err(_)) | Err(_) => {
                self.connection = None;
                self.latencies.record_failure();
                self.failures_in_a_row += 1;
            }
        }
    }

    /// Tells whether the answer was a good one; nothing where the server closed the connection.
    async fn attempt_exchange(&mut self, number: u64) -> std::io::Result<Option<bool>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            lost @ None => lost.insert(HttpConnection::open(self.plan.address).await?),
        };
        let place = number % self.plan.requests.len() as u64;
        let request = &self.plan.requests[usize::try_from(place).unwrap_or(0)];
        connection.write_message(request).await?;
        let Some(message) = connection.read_message().await? else { return Ok(None) };
        let good = (200..300).contains(&connection.response_status(&message));
        Ok(Some(good && contains_text(connection.message_body(&message), self.plan.expected)))
    }
}

fn contains_text(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes())
}
