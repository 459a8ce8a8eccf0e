//! HTTP over the server's Unix socket, or over the network: one connection per request, a deadline per answer.
//!
//! On the socket its owner and mode are the credential, and a command starts without reading certificates. On the network it is
//! a token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_api::{EXPECTED_HEADER, IDEMPOTENCY_HEADER, ProblemDetails, TENANT_HEADER};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Outcome};
use crate::output::CommandOutput;
use crate::remote::{ByteStream, RemoteServer};

/// How long an ordinary answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The longest answer that is kept whole; the request of a model call is the largest.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// How often a server that went away is tried while nothing is heard of it.
pub(crate) const ATTEMPTS: u32 = 8;

/// How long to rest before the second attempt; each further rest is twice as long.
pub(crate) const FIRST_REST: Duration = Duration::from_millis(100);

/// Speaks to one server about one tenant.
#[derive(Debug, Clone)]
pub struct ApiClient {
    address: ServerAddress,
    tenant: String,
    patience: Duration,
}

impl ApiClient {
    /// Makes a client of a socket and a tenant; nothing is sent yet.
    pub fn new(socket: PathBuf, tenant: String, patience: Option<Duration>) -> Self {
        Self { address: ServerAddress::Socket(socket), tenant, patience: patience.unwrap_or(ANSWER) }
    }

    /// Makes a client of a server on the network, whose token says which tenant is meant.
    pub(crate) fn of_remote(server: RemoteServer, patience: Option<Duration>) -> Self {
        let address = ServerAddress::Network(server);
        Self { address, tenant: String::new(), patience: patience.unwrap_or(ANSWER) }
    }

    /// The same client for another tenant, which an operator may name on the socket.
    pub(crate) fn for_tenant(&self, tenant: String) -> Self {
        Self { tenant, ..self.clone() }
    }

    /// Names the server, where it is on the network.
    pub(crate) fn network_address(&self) -> Option<String> {
        match &self.address {
            ServerAddress::Socket(_) => None,
            ServerAddress::Network(server) => Some(server.url.to_string()),
        }
    }

    /// Asks for a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        parse_answer(&self.send_for_bytes(self.new_request(Method::GET, path), self.patience).await?.1)
    }

    /// Gets a resource like `get` while the command waits for it: retries while the server is away for a moment, which
    /// changes nothing there, and prints that it is away.
    pub(crate) async fn poll_json<T: DeserializeOwned>(
        &self,
        path: &str,
        output: &mut CommandOutput<'_>,
    ) -> Outcome<T> {
        let mut attempt = 1;
        loop {
            match self.get(path).await {
                Err(Error::Unreachable { .. } | Error::Away { .. }) if attempt < ATTEMPTS => {
                    output.note_server_away()?;
                }
                Err(why) if why.is_away() && attempt < ATTEMPTS => {}
                Err(why) => return Err(why),
                Ok(answer) => {
                    output.note_server_back();
                    return Ok(answer);
                }
            }
            sleep(FIRST_REST * 2_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    /// Tells whether a server is there, without a word to it.
    pub(crate) async fn check_connection(&self) -> Outcome {
        self.within_timeout(self.patience, self.address.connect()).await.map(drop)
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        parse_answer(&self.send_for_bytes(self.new_request(Method::DELETE, path), self.patience).await?.1)
    }

    /// Posts without a body.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        parse_answer(&self.send_for_bytes(self.new_request(Method::POST, path), self.patience).await?.1)
    }

    pub(crate) async fn put_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Outcome<T> {
        parse_answer(
            &self
                .send_for_bytes(self.new_request(Method::PUT, path).json_body(body)?, self.patience)
                .await?
                .1,
        )
    }

    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Outcome<T> {
        parse_answer(
            &self
                .send_for_bytes(self.new_request(Method::POST, path).json_body(body)?, self.patience)
                .await?
                .1,
        )
    }

    /// Changes a resource under a key; of the one revision that the caller saw, if it names one.
    pub(crate) async fn change_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        key: &str,
        expected: Option<u64>,
    ) -> Outcome<T> {
        let mut request = self.new_request(method, path).json_body(body)?;
        request.headers.push((IDEMPOTENCY_HEADER, key.to_owned()));
        request.headers.extend(expected.map(|revision| (EXPECTED_HEADER, format!("\"{revision}\""))));
        parse_answer(&self.send_for_bytes(request, self.patience).await?.1)
    }

    /// Posts what may be repeated under a key, and tells the status too, which says whether a wait was long enough.
    pub(crate) async fn post_keyed(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &str,
        patience: Duration,
    ) -> Outcome<(StatusCode, Bytes)> {
        let mut request = self.new_request(Method::POST, path).json_body(body)?;
        request.headers.push((IDEMPOTENCY_HEADER, key.to_owned()));
        self.send_for_bytes(request, patience).await
    }

    pub(crate) async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Outcome<T> {
        let mut request = self.new_request(Method::POST, path);
        request.body = body.into();
        parse_answer(&self.send_for_bytes(request, patience).await?.1)
    }

    pub(crate) async fn put_bytes<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Outcome<T> {
        let mut request = self.new_request(Method::PUT, path);
        request.body = body.into();
        parse_answer(&self.send_for_bytes(request, self.patience).await?.1)
    }

    pub(crate) async fn get_bytes(&self, path: &str) -> Outcome<Bytes> {
        Ok(self.send_for_bytes(self.new_request(Method::GET, path), self.patience).await?.1)
    }

    /// Asks for an answer whose body is read piece by piece.
    pub(crate) async fn get_streaming(&self, path: &str) -> Outcome<Response<Incoming>> {
        self.send_for_response(self.new_request(Method::GET, path)).await
    }

    /// Reads the next piece of a body, which has the deadline of an ordinary answer; `None` at its end.
    pub(crate) async fn next_body_chunk(&self, body: &mut Incoming) -> Outcome<Option<Bytes>> {
        self.within_timeout(self.patience, next_piece(body)).await
    }

    /// Opens a stream of events behind a place, or wherever the server begins; the answer's headers have the ordinary
    /// deadline, its events have none.
    pub(crate) async fn open_event_stream(&self, path: &str, after: Option<String>) -> Outcome<Incoming> {
        let mut request = self.new_request(Method::GET, path);
        request.headers.push((ACCEPT.as_str(), "text/event-stream".to_owned()));
        request.headers.extend(after.map(|after| ("last-event-id", after)));
        Ok(self.send_for_response(request).await?.into_body())
    }

    async fn send_for_response(&self, request: RequestDraft) -> Outcome<Response<Incoming>> {
        let response = self.within_timeout(self.patience, self.send_request(request)).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, bytes) = self.within_timeout(self.patience, collect_body(response)).await?;
        Err(refusal_error(status, &bytes))
    }

    fn new_request(&self, method: Method, path: &str) -> RequestDraft {
        let headers = match &self.address {
            ServerAddress::Socket(_) => vec![(TENANT_HEADER, self.tenant.clone())],
            ServerAddress::Network(server) => vec![(AUTHORIZATION.as_str(), server.authorization())],
        };
        RequestDraft { method, path: path.to_owned(), headers, body: Bytes::new() }
    }

    async fn send_for_bytes(&self, draft: RequestDraft, patience: Duration) -> Outcome<(StatusCode, Bytes)> {
        let answer = async { collect_body(self.send_request(draft).await?).await };
        let (status, bytes) = self.within_timeout(patience, answer).await?;
        if status.is_success() { Ok((status, bytes)) } else { Err(refusal_error(status, &bytes)) }
    }

    async fn within_timeout<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        timeout(patience, work).await.unwrap_or(Err(Error::Late { seconds: patience.as_secs() }))
    }

    async fn send_request(&self, draft: RequestDraft) -> Outcome<Response<Incoming>> {
        let broken = |error: hyper::Error| Error::Severed(error.to_string());
        let stream = self.address.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the answer's body; nothing waits for it.
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(draft.method).uri(draft.path).header(HOST, self.address.host());
        for (name, value) in draft.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(draft.body)).map_err(|error| Error::Usage(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }
}

/// Where the server is.
#[derive(Debug, Clone)]
enum ServerAddress {
    /// Behind a socket of this machine.
    Socket(PathBuf),
    /// On the network.
    Network(RemoteServer),
}

impl ServerAddress {
    async fn connect(&self) -> Outcome<Box<dyn ByteStream>> {
        match self {
            Self::Socket(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(source) => Err(unreachable_error(socket, source)),
            },
            Self::Network(server) => server.connect().await,
        }
    }

    fn host(&self) -> String {
        match self {
            Self::Socket(_) => "localhost".to_owned(),
            Self::Network(server) => server.url.authority(),
        }
    }
}

/// A request before it is sent.
struct RequestDraft {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl RequestDraft {
    fn json_body(mut self, body: &impl Serialize) -> Outcome<Self> {
        self.body = serde_json::to_vec(body).map_err(|error| Error::Usage(error.to_string()))?.into();
        self.headers.push((CONTENT_TYPE.as_str(), "application/json".to_owned()));
        Ok(self)
    }
}

fn unreachable_error(socket: &Path, source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            Error::Unreachable { socket: socket.display().to_string() }
        }
        _ => Error::io_error(format!("connect to the server at {}", socket.display()))(source),
    }
}

async fn collect_body(response: Response<Incoming>) -> Outcome<(StatusCode, Bytes)> {
    let status = response.status();
    let mut body = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(piece) = next_piece(&mut body).await? {
        if whole.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(Error::Broken(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok((status, whole.freeze()))
}

/// Reads the next piece of a body; `None` at its end.
pub(crate) async fn next_piece(body: &mut Incoming) -> Outcome<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Severed(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn refusal_error(status: StatusCode, bytes: &[u8]) -> Error {
    match serde_json::from_slice::<ProblemDetails>(bytes) {
        Ok(problem) => Error::Problem(Box::new(problem)),
        Err(_) => Error::Broken(format!("status {status} without a problem")),
    }
}

/// Reads an answer.
pub(crate) fn parse_answer<T: DeserializeOwned>(bytes: &[u8]) -> Outcome<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Broken(error.to_string()))
}

/// Writes a text as one path segment or query value.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.extend(["%", &format!("{byte:02X}")]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_path_segment() {
        assert_eq!(percent_encode("../runs?x=1#y"), "..%2Fruns%3Fx%3D1%23y");
        assert_eq!(percent_encode("ops-2_b"), "ops-2_b");
    }
}
