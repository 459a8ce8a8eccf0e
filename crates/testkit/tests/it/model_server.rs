//! The model server over a bare socket: keep-alive, counters, and what it turns away.

use std::sync::atomic::Ordering;

use dromia_testkit::model_server::{ModelServer, ModelServerOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn post(body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A client that keeps what came beyond the answer it reads.
struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    async fn of(server: &ModelServer) -> Self {
        Self { stream: TcpStream::connect(server.address()).await.unwrap(), bytes: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer with a known length.
    async fn answer(&mut self) -> (String, serde_json::Value) {
        loop {
            let text = String::from_utf8_lossy(&self.bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let length: usize = length.parse().unwrap();
                if let Some(body) = body.get(..length) {
                    let answer =
                        (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap());
                    let used = head.len() + 4 + length;
                    self.bytes.drain(..used);
                    return answer;
                }
            }
            let more = self.stream.read_buf(&mut self.bytes).await.unwrap();
            assert_ne!(more, 0, "the server hung up after {:?}", self.bytes);
        }
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_in_any_pieces() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    let mut client = Client::of(&server).await;
    let body =
        r#"{"messages":[{"role":"system","content":"You are Ada."},{"role":"user","content":"hello"}]}"#;
    let request = post(body);
    for at in [1, 20, request.len() - 1] {
        let (head, tail) = request.as_bytes().split_at(at);
        client.send(head).await;
        client.send(tail).await;
        let (status, json) = client.answer().await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let said = json["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(said.contains("hello") && said.contains("not an LLM"), "{said}");
        assert_eq!(json["choices"][0]["finish_reason"], "stop");
    }
    // Two requests in one piece are answered in order.
    client.send(format!("{request}GET /stats HTTP/1.1\r\n\r\n").as_bytes()).await;
    client.answer().await;
    let (_, stats) = client.answer().await;
    let bytes = body.len();
    let expected = serde_json::json!({
        "connections": 1, "requests": 4, "request_bytes": 4 * bytes, "request_bytes_last": bytes, "system_bytes_last": 12,
    });
    assert_eq!(stats, expected);
    assert_eq!(server.counters().requests.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_the_connection_stays() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    let mut client = Client::of(&server).await;
    client.send(post("{}").as_bytes()).await;
    assert_eq!(client.answer().await.0, "HTTP/1.1 400 Bad Request");
    client.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.0, "HTTP/1.1 404 Not Found");
    client.send(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap(), 0, "a chunked request ends the connection");
}
