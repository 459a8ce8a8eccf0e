//! As much of HTTP/1.1 as a client with known-length bodies needs. One buffer per connection is used again for
//! every request.

use std::io;
use std::ops::Range;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 8 << 20;

/// A request, as far as the server tells them apart.
pub(super) enum ServerRequest {
    /// A completion; its body lies in the connection's buffer.
    Completion {
        /// Where.
        body: Range<usize>,
    },
    /// The counters.
    Stats,
    /// Anything else.
    Other,
}

/// One client's connection.
pub(super) struct ClientConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The end of the request that was given out last.
    used: usize,
}

impl ClientConnection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(4096), used: 0 }
    }

    pub(super) fn tcp_stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn buffered_bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Reads the next request; `None` when the client has closed the connection.
    pub(super) async fn next_request(&mut self) -> io::Result<Option<ServerRequest>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut searched = 0;
        let head_end = loop {
            let from = usize::saturating_sub(searched, 3);
            if let Some(at) = self.buffer[from..].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break from + at + 4;
            }
            searched = self.buffer.len();
            if searched > HEAD_BYTES_MAX {
                return Err(protocol_error("the head is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        let head = std::str::from_utf8(&self.buffer[..head_end])
            .map_err(|_| protocol_error("the head is no text"))?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut length = 0;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| protocol_error("the length is no number"))?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(protocol_error("the body is chunked"));
            }
        }
        if length > BODY_BYTES_MAX {
            return Err(protocol_error("the body is too long"));
        }
        let completion = first.starts_with("POST ") && first.contains("/chat/completions ");
        let stats = first.starts_with("GET /stats ");
        let end = head_end + length;
        self.buffer.reserve(end.saturating_sub(self.buffer.len()));
        while self.buffer.len() < end {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
        self.used = end;
        Ok(Some(match (completion, stats) {
            (true, _) => ServerRequest::Completion { body: head_end..end },
            (false, true) => ServerRequest::Stats,
            (false, false) => ServerRequest::Other,
        }))
    }
}

fn protocol_error(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes a whole answer.
pub(super) fn response_bytes(status: u16, body: &[u8]) -> Vec<u8> {
    head_and_body(status, body.len(), body)
}

/// Writes an answer that promises more bytes than it holds.
pub(super) fn torn_response(body: &[u8]) -> Vec<u8> {
    head_and_body(200, body.len() + 1, body)
}

fn head_and_body(status: u16, length: usize, body: &[u8]) -> Vec<u8> {
    let (reason, more) = match status {
        200 => ("OK", ""),
        400 => ("Bad Request", ""),
        503 => ("Service Unavailable", "retry-after: 1\r\n"),
        _ => ("Not Found", ""),
    };
    let mut bytes = Vec::with_capacity(160 + body.len());
    bytes.extend_from_slice(
        format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n"
        )
        .as_bytes(),
    );
    bytes.extend_from_slice(body);
    bytes
}

/// The head of a streamed answer.
pub(super) const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// The last chunk of a streamed answer.
pub(super) const STREAM_END: &[u8] = b"0\r\n\r\n";

/// Writes one event as one chunk.
pub(super) fn event_chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// Writes a streamed answer at once.
pub(super) fn stream_all(events: &[String], complete: bool) -> Vec<u8> {
    let mut bytes = STREAM_HEAD.to_vec();
    bytes.extend(events.iter().flat_map(|event| event_chunk(event)));
    if complete {
        bytes.extend_from_slice(STREAM_END);
    }
    bytes
}
