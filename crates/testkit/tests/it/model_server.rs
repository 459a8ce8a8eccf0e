//! The model server over a bare socket: keep-alive, counters, and what it turns away.

use std::sync::atomic::Ordering;

use dromia_testkit::model_server::{ModelServer, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn post(body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads one answer with a known length.
async fn answer(stream: &mut TcpStream) -> (String, serde_json::Value) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap());
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the server hung up after {bytes:?}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_in_any_pieces() {
    let server = ModelServer::start(Options::default()).await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let body =
        r#"{"messages":[{"role":"system","content":"You are Ada."},{"role":"user","content":"hello"}]}"#;
    let request = post(body);
    for at in [1, 20, request.len() - 1] {
        let (head, tail) = request.as_bytes().split_at(at);
        stream.write_all(head).await.unwrap();
        stream.write_all(tail).await.unwrap();
        let (status, json) = answer(&mut stream).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let said = json["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(said.contains("hello") && said.contains("not an LLM"), "{said}");
        assert_eq!(json["choices"][0]["finish_reason"], "stop");
    }
    // Two requests in one piece are answered in order.
    stream.write_all(format!("{request}GET /stats HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    answer(&mut stream).await;
    let (_, stats) = answer(&mut stream).await;
    let bytes = body.len();
    let expected = serde_json::json!({
        "connections": 1, "requests": 4, "request_bytes": 4 * bytes, "request_bytes_last": bytes, "system_bytes_last": 12,
    });
    assert_eq!(stats, expected);
    assert_eq!(server.counters().requests.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_connection_stays() {
    let server = ModelServer::start(Options::default()).await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(post("{}").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, "HTTP/1.1 400 Bad Request");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.0, "HTTP/1.1 404 Not Found");
    stream.write_all(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "a chunked request ends the connection");
}
