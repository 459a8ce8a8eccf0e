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

use crate::http::{self, Connection};
use crate::measure::{Latencies, Summary};

/// A request without an answer after this long has failed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A connection that fails so often in a row gives up.
const FAILURES_MAX: u32 = 100;

/// What to send to whom.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
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
pub(crate) enum Extent {
    /// After so long.
    For(Duration),
    /// After so many requests, or so long if that comes first.
    Count(u64, Duration),
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
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
pub(crate) async fn print(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { address, path, token, body, connections, seconds, count, bursts } = arguments;
    let request = http::request("POST", &path, token.as_deref(), &body);
    let plan = Plan { address, requests: [request].into(), expected: "", connections };
    let time = Duration::from_secs(seconds);
    let summary = match (bursts, count) {
        (Some(bursts), _) => send_bursts(&plan, bursts).await?,
        (None, Some(count)) => closed_loop(&plan, Extent::Count(count, time)).await?,
        (None, None) => closed_loop(&plan, Extent::For(time)).await?,
    };
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

/// Sends on every connection, each as soon as its last answer is there.
pub(crate) async fn closed_loop(plan: &Plan, extent: Extent) -> anyhow::Result<Summary> {
    let clients = connect(plan).await?;
    let next = Arc::new(AtomicU64::new(0));
    let (count, time) = match extent {
        Extent::For(time) => (u64::MAX, time),
        Extent::Count(count, time) => (count, time),
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
                client.exchange(number).await;
            }
            client.latencies
        });
    }
    collect(tasks, began).await
}

/// Sends one request on every connection at once, and again when all are answered.
pub(crate) async fn send_bursts(plan: &Plan, bursts: usize) -> anyhow::Result<Summary> {
    let clients = connect(plan).await?;
    let all = Arc::new(Barrier::new(clients.len()));
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (all, next) = (Arc::clone(&all), Arc::clone(&next));
        tasks.spawn(async move {
            for _ in 0..bursts {
                // Each exchange has a deadline, so everybody comes back to the barrier.
                all.wait().await;
                client.exchange(next.fetch_add(1, Ordering::Relaxed)).await;
            }
            client.latencies
        });
    }
    collect(tasks, began).await
}

async fn collect(mut tasks: JoinSet<Latencies>, began: Instant) -> anyhow::Result<Summary> {
    let mut latencies = Latencies::default();
    while let Some(of_one) = tasks.join_next().await {
        latencies.merge(of_one.context("a connection's task broke down")?);
    }
    Ok(latencies.summary(began.elapsed()))
}

async fn connect(plan: &Plan) -> anyhow::Result<Vec<Client>> {
    if plan.requests.is_empty() {
        bail!("there is nothing to send");
    }
    let mut clients = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        let opened = timeout(ANSWER_TIME_MAX, Connection::open(plan.address)).await;
        let connection = opened.context("no connection in time").and_then(|opened| Ok(opened?));
        let connection = Some(connection.with_context(|| format!("failed to open connection {number}"))?);
        clients.push(Client {
            plan: plan.clone(),
            connection,
            latencies: Latencies::default(),
            failures_in_a_row: 0,
        });
    }
    Ok(clients)
}

struct Client {
    plan: Plan,
    connection: Option<Connection>,
    latencies: Latencies,
    failures_in_a_row: u32,
}

impl Client {
    /// Sends one request and counts what became of it. After a failure the connection is a new one.
    async fn exchange(&mut self, number: u64) {
        let began = Instant::now();
        if matches!(timeout(ANSWER_TIME_MAX, self.attempt(number)).await, Ok(Ok(true))) {
            self.latencies.answered(began.elapsed());
            self.failures_in_a_row = 0;
        } else {
            self.connection = None;
            self.latencies.failed();
            self.failures_in_a_row += 1;
        }
    }

    async fn attempt(&mut self, number: u64) -> std::io::Result<bool> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            lost @ None => lost.insert(Connection::open(self.plan.address).await?),
        };
        let place = number % self.plan.requests.len() as u64;
        let request = &self.plan.requests[usize::try_from(place).unwrap_or(0)];
        connection.write(request).await?;
        let Some(message) = connection.read().await? else { return Ok(false) };
        let good = (200..300).contains(&connection.status(&message));
        Ok(good && holds(connection.body(&message), self.plan.expected))
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes())
}
