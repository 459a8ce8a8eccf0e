//! P13: what a person at a terminal waits for: the first word of an answer, counted from when the provider sent it, and the
//! prompt of a chat.
//!
//! The provider is served from here, so that both moments are of one clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::dromia::InstanceHome;
use crate::http::HttpConnection;
use crate::measure::median;
use crate::report::BenchGoal;
use crate::run::PhaseContext;
use crate::terminal::TerminalProgram;

const SAMPLES: usize = 20;
/// How long the provider thinks before its first word, and how long after it.
const THINKING: Duration = Duration::from_millis(100);
/// The first word, without a blank behind it: a client that waits for the next one is late.
const FIRST: &str = "Certainly";
const REST: &str = ", here is the rest.";
/// How a prompt begins and ends: the name of the agent that `init` makes.
const PROMPT: &str = "assistant > ";
const FIRST_TOKEN_MAX_MS: f64 = 30.0;
const CHAT_MAX_MS: f64 = 80.0;

/// When the provider sent its first word, of the last answer.
type SentMoment = Arc<Mutex<Option<Instant>>>;

/// Measures the phase.
pub(crate) async fn measure_person_waits(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base_url = format!("http://{}/v1", listener.local_addr()?);
    let sent = SentMoment::default();
    let provider = tokio::spawn(serve_slow_words(listener, Arc::clone(&sent)));
    let model = json!({"kind": "openai", "base_url": base_url, "model": "slow"});
    let config = json!({"models": {"default": model}});
    let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &config).await?;
    let server = home.start_server(&scene.dir).await?;
    let (mut first, mut prompts) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let mut ask = TerminalProgram::start(&home.command(&["ask", "hello"]))?;
        let seen = ask.await_text(FIRST).await?;
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.push(millis_between(sent.context("the provider was not asked")?, seen));
        ask.await_end().await?;
        let began = Instant::now();
        let mut chat = TerminalProgram::start(&home.command(&["chat"]))?;
        prompts.push(millis_between(began, chat.await_text(PROMPT).await?));
        chat.kill().await?;
    }
    server.child.stop_gracefully().await?;
    provider.abort();
    let (first, prompt) = (median(&first), median(&prompts));
    Ok(vec![
        BenchGoal::with_target(
            "P13.first_token",
            first,
            "ms",
            "first word of `ask` at a terminal after the provider sent it, p50: <= 30 ms",
            first <= FIRST_TOKEN_MAX_MS,
        ),
        BenchGoal::with_target(
            "P13.chat",
            prompt,
            "ms",
            "spawn of `chat` to its prompt, p50: < 80 ms",
            prompt < CHAT_MAX_MS,
        ),
    ])
}

fn millis_between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

/// Serves a model that sends one word, and the others later.
async fn serve_slow_words(listener: TcpListener, sent: SentMoment) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut connection = HttpConnection::new(stream)?;
        // Its clients take no new connection before the last answer has ended.
        if connection.read_message().await?.is_none() {
            continue;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        connection.write_message(head.as_bytes()).await?;
        sleep(THINKING).await;
        *sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        connection.write_message(&encode_chunk(&json!({"content": FIRST}), None)).await?;
        sleep(THINKING).await;
        connection.write_message(&encode_chunk(&json!({"content": REST}), None)).await?;
        connection.write_message(&encode_chunk(&json!({}), Some("stop"))).await?;
        connection.write_message(b"data: [DONE]\n\n").await?;
    }
}

fn encode_chunk(delta: &serde_json::Value, finish_reason: Option<&str>) -> Vec<u8> {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    let chunk = json!({
        "id": "slow", "object": "chat.completion.chunk", "created": 0, "model": "slow", "choices": [choice],
    });
    format!("data: {chunk}\n\n").into_bytes()
}
