//! A server that answers each connection with bytes from a table, for answers that no real server should give.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What happens after the bytes.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// The connection ends.
    Close,
    /// Nothing more comes, and the connection stays.
    Stall,
}

/// Answers one request; gives the request's bytes, and then tells when the client has gone.
pub(crate) async fn answer_once(
    bytes: impl Into<Vec<u8>>,
    then: Then,
) -> (SocketAddr, oneshot::Receiver<String>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, request) = oneshot::channel();
    let (left, gone) = oneshot::channel();
    let bytes = bytes.into();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !is_whole(&request) {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the client sends a whole request");
        }
        heard.send(String::from_utf8(request).unwrap()).ok();
        stream.write_all(&bytes).await.unwrap();
        if let Then::Stall = then {
            let mut rest = [0; 64];
            let client_leaves = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
            tokio::time::timeout(Duration::from_secs(20), client_leaves).await.unwrap();
        }
        left.send(()).ok();
    });
    (address, request, gone)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    body.len() >= length.expect("the length is known").parse().unwrap()
}

/// A whole answer with a status, more head lines and a body.
pub(crate) fn http(status: &str, head: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{head}content-length: {}\r\n\r\n{body}", body.len())
}

/// A stream of the given events without its last chunk, so that the end of the connection tears it.
pub(crate) fn events(events: &[&str]) -> String {
    let chunks = events.iter().map(|event| {
        let data = format!("data: {event}\n\n");
        format!("{:x}\r\n{data}\r\n", data.len())
    });
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunks.collect::<String>())
}
