//! The scripted model server: always the same short answer, after a wait; it does little, because it shares the
//! cores with what is measured.
//!
//! `GET /stats` tells how many completions were asked for and how large the last request was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::http::{HttpConnection, encode_response};

#[derive(Debug, Default)]
struct ModelCounters {
    requests: AtomicU64,
    request_bytes_last: AtomicU64,
    system_bytes_last: AtomicU64,
}

#[derive(Debug, Deserialize)]
struct CompletionRequest {
    messages: Vec<CompletionMessage>,
}

#[derive(Debug, Deserialize)]
struct CompletionMessage {
    role: String,
    #[serde(default)]
    content: Option<String>,
}

/// Serves for ever.
pub(crate) async fn serve_model(delay: Duration, refuse_seconds: Option<u64>) -> anyhow::Result<()> {
    let listener = super::listen_on_loopback().await?;
    let counters = Arc::new(ModelCounters::default());
    let answer: Arc<[u8]> = match refuse_seconds {
        Some(seconds) => encode_refusal(seconds).into(),
        None => scripted_answer().into(),
    };
    loop {
        let (stream, _) = listener.accept().await?;
        let (counters, answer) = (Arc::clone(&counters), Arc::clone(&answer));
        tokio::spawn(async move {
            // A client that breaks the protocol ends its own connection only.
            let _ended = serve_connection(HttpConnection::new(stream)?, &counters, &answer, delay).await;
            std::io::Result::Ok(())
        });
    }
}

/// What a provider says that has too many requests.
fn encode_refusal(seconds: u64) -> Vec<u8> {
    let body = json!({"error": {"message": "too many requests", "type": "rate_limit_error"}}).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn scripted_answer() -> Vec<u8> {
    encode_response(
        json!({
            "id": "scripted",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "I am a scripted model, and I heard you."},
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
        })
        .to_string()
        .as_bytes(),
    )
}

async fn serve_connection(
    mut connection: HttpConnection,
    counters: &ModelCounters,
    answer: &[u8],
    delay: Duration,
) -> std::io::Result<()> {
    while let Some(message) = connection.read_message().await? {
        if connection.first_line(&message).starts_with(b"GET /stats") {
            let stats = json!({
                "requests": counters.requests.load(Ordering::Relaxed),
                "request_bytes_last": counters.request_bytes_last.load(Ordering::Relaxed),
                "system_bytes_last": counters.system_bytes_last.load(Ordering::Relaxed),
            });
            connection.write_message(&encode_response(stats.to_string().as_bytes())).await?;
            continue;
        }
        let body = connection.message_body(&message);
        // Reading the request is part of what a model server does, for the probe and for Dromia alike.
        let request: CompletionRequest = serde_json::from_slice(body)?;
        let system = request.messages.iter().filter(|message| message.role == "system");
        let system_bytes: usize =
            system.map(|message| message.content.as_deref().unwrap_or_default().len()).sum();
        counters.requests.fetch_add(1, Ordering::Relaxed);
        counters.request_bytes_last.store(body.len() as u64, Ordering::Relaxed);
        counters.system_bytes_last.store(system_bytes as u64, Ordering::Relaxed);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        connection.write_message(answer).await?;
    }
    Ok(())
}
