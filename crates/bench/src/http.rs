//! As much HTTP/1.1 as a measuring client and two bare servers need: messages with a known length, connections
//! that stay open, one buffer each.
//!
//! It refuses chunked messages, heads above 64 KiB and bodies above 16 MiB. It is no general client.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 16 << 20;
/// The longest one call of an HTTP request may take.
const CALL_TIME_MAX: Duration = Duration::from_mins(1);

/// A connection, at either end.
pub(crate) struct HttpConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
}

/// A whole message; its bytes lie in the connection's buffer until the next one is read.
#[derive(Debug, Clone)]
pub(crate) struct HttpMessage {
    first_line: Range<usize>,
    body: Range<usize>,
}

impl HttpConnection {
    /// Connects as a client.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Wraps an open stream.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), used: 0 })
    }

    /// Writes a whole message.
    pub(crate) async fn write_message(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the next message; `None` when the other end has closed.
    pub(crate) async fn read_message(&mut self) -> io::Result<Option<HttpMessage>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut searched: usize = 0;
        let head_end = loop {
            let from = searched.saturating_sub(3);
            if let Some(at) = self.buffer[from..].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break from + at + 4;
            }
            searched = self.buffer.len();
            if searched > HEAD_BYTES_MAX {
                return Err(protocol_error("the head is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(protocol_error("the head breaks off"))
                };
            }
        };
        let (first_line, length) = parse_head(&self.buffer[..head_end])?;
        let end = head_end + length;
        while self.buffer.len() < end {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(protocol_error("the body breaks off"));
            }
        }
        self.used = end;
        Ok(Some(HttpMessage { first_line: 0..first_line, body: head_end..end }))
    }

    /// Returns the request line or the status line.
    pub(crate) fn first_line(&self, message: &HttpMessage) -> &[u8] {
        &self.buffer[message.first_line.clone()]
    }

    /// Returns the status of a response, 0 if the line holds none.
    pub(crate) fn response_status(&self, message: &HttpMessage) -> u16 {
        let line = std::str::from_utf8(self.first_line(message)).unwrap_or_default();
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Returns the body.
    pub(crate) fn message_body(&self, message: &HttpMessage) -> &[u8] {
        &self.buffer[message.body.clone()]
    }
}

fn parse_head(head: &[u8]) -> io::Result<(usize, usize)> {
    let text = std::str::from_utf8(head).map_err(|_| protocol_error("the head is no text"))?;
    let first_line = text.find("\r\n").unwrap_or(text.len());
    let mut length = 0;
    for (name, value) in text[first_line..].split("\r\n").filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| protocol_error("the length is no number"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(protocol_error("the message is chunked"));
        }
    }
    if length > BODY_BYTES_MAX {
        Err(protocol_error("the body is too long"))
    } else {
        Ok((first_line, length))
    }
}

fn protocol_error(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes a response that holds JSON.
pub(crate) fn encode_response(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Writes a request that holds JSON, with a bearer token if there is one.
pub(crate) fn encode_request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{authorization}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends one request on a connection of its own and returns the answer's JSON; any other status than 2xx is an error.
pub(crate) async fn call_json(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> anyhow::Result<Value> {
    let exchange = async {
        let mut connection = HttpConnection::open(address).await?;
        connection.write_message(&encode_request(method, path, token, body)).await?;
        let message = connection.read_message().await?.context("the server closed the connection")?;
        let status = connection.response_status(&message);
        let body = connection.message_body(&message);
        if !(200..300).contains(&status) {
            bail!("status {status}: {}", String::from_utf8_lossy(body));
        }
        anyhow::Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(body)? })
    };
    tokio::time::timeout(CALL_TIME_MAX, exchange)
        .await
        .unwrap_or_else(|_| bail!("no answer within {CALL_TIME_MAX:?}"))
        .with_context(|| format!("failed to {method} {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_its_first_line_and_length() {
        let head = b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-LENGTH:  12\r\n\r\n";
        assert_eq!(parse_head(head).expect("a head"), (15, 12));
        for bad in [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
            b"\xff\r\n\r\n",
        ] {
            assert!(parse_head(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
