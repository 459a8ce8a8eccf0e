//! The probe: the limit of the machine for a durable turn.
//!
//! HTTP in, one group commit, one model call, one group commit, HTTP out; the same HTTP framework, HTTP client and
//! database engine as Dromia, and nothing else: no authentication, no tenants, no context, no journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// The most commits of one transaction, and the most that wait.
const GROUP_MAX: usize = 256;
const QUEUE_MAX: usize = 4096;
/// The bytes of one row.
const ROW_BYTES: usize = 200;

struct ProbeRow {
    body: Vec<u8>,
    durable: oneshot::Sender<()>,
}

struct ProbeServer {
    client: reqwest::Client,
    completions: String,
    rows: mpsc::Sender<ProbeRow>,
}

/// Serves for ever.
pub(crate) async fn serve_probe(model: String, database: PathBuf) -> anyhow::Result<()> {
    // The client is built for TLS, as Dromia's is, though it talks in the clear here.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok()
        .context("a TLS provider is installed already")?;
    let client = reqwest::Client::builder().pool_max_idle_per_host(1024).tcp_nodelay(true).build()?;
    let rows = start_writer(&database)?;
    let probe = Arc::new(ProbeServer { client, completions: format!("{model}/chat/completions"), rows });
    let router = Router::new().route("/v1/events", post(handle_turn)).with_state(probe);
    axum::serve(super::listen_on_loopback().await?, router).await.context("the probe broke down")
}

async fn handle_turn(
    State(probe): State<Arc<ProbeServer>>,
    Json(event): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let text = event["text"].as_str().unwrap_or_default();
    commit_text(&probe, text).await?;
    let request = json!({"model": "scripted", "messages": [{"role": "user", "content": text}]});
    let answer = probe.client.post(&probe.completions).json(&request).send().await.map_err(failed)?;
    let answer: Value = answer.json().await.map_err(failed)?;
    let reply = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    commit_text(&probe, reply).await?;
    Ok(Json(json!({"status": "completed", "reply": reply})))
}

async fn commit_text(probe: &ProbeServer, text: &str) -> Result<(), StatusCode> {
    let (durable, done) = oneshot::channel();
    let mut body = text.as_bytes().to_vec();
    body.resize(ROW_BYTES, b' ');
    probe.rows.send(ProbeRow { body, durable }).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    done.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn start_writer(database: &Path) -> anyhow::Result<mpsc::Sender<ProbeRow>> {
    let connection = Connection::open(database).context("failed to open the probe's database")?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
         CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;",
    )?;
    let (rows, queue) = mpsc::channel(QUEUE_MAX);
    std::thread::Builder::new()
        .name("probe-writer".to_owned())
        .spawn(move || write_batches(&connection, queue))?;
    Ok(rows)
}

/// One transaction for all rows that wait, then one answer each: no request is answered before the sync. Ends at the
/// first failure, which every later request sees as a closed queue.
fn write_batches(connection: &Connection, mut queue: mpsc::Receiver<ProbeRow>) -> rusqlite::Result<()> {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while queue.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut insert = connection.prepare_cached("INSERT INTO rows (body) VALUES (?1)")?;
        for row in &group {
            insert.execute([&row.body])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        for row in group.drain(..) {
            // A client that went away needs no answer; its row is durable all the same.
            let _gone = row.durable.send(());
        }
    }
    Ok(())
}
