//! The HTTP client of the outbox: one POST over the guarded egress, sent once.
//!
//! The line reads no proxy variables, follows no redirect and keeps no connection, and no more of an answer is read than
//! its beginning, so a message reaches only the address that the operator wrote, and a failed one is known to be sent or not
//! sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    Egress, EgressBody, EgressClient, EgressClientConfig, EgressError, EgressFault, EgressPurpose,
    EgressRequest, HttpMethod, LineError, LineLimits, find_header,
};
use dromia_gateway::{WebhookOutcome, WebhookRequest, WebhookSender};
use jiff::Timestamp;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The most bytes of a message; what is prepared is shorter.
const LETTER_BYTES_MAX: usize = 8 << 20;
/// The most bytes of headers, of which an answer may have more than we need.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// The most bytes of an answer's body that are read; the rest is discarded.
const KEPT_BYTES_MAX: usize = 4 << 10;
/// How long they are waited for.
const BODY_TIME: Duration = Duration::from_secs(1);
/// The most bytes of an answer's body, as the line counts them.
const ANSWER_BYTES_MAX: u64 = 1 << 40;
/// The most messages to one address at once; the outbox has its own, lower bounds.
const LETTERS_MAX: usize = 256;

/// Posts over HTTP.
#[derive(Debug)]
pub(crate) struct HttpPost {
    egress: Arc<dyn Egress>,
    /// A line for each address; addresses come from the configuration's channels only.
    lines: Mutex<BTreeMap<(String, Duration), Arc<dyn EgressClient>>>,
}

impl HttpPost {
    /// Sets it up; nothing is resolved.
    pub(crate) fn new(egress: Arc<dyn Egress>) -> Self {
        Self { egress, lines: Mutex::default() }
    }

    fn egress_line(&self, url: &str, timeout: Duration) -> Result<Arc<dyn EgressClient>, LineError> {
        // No code panics while it holds the lock.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let address = (url.to_owned(), timeout);
        if let Some(line) = lines.get(&address) {
            return Ok(Arc::clone(line));
        }
        let limits = LineLimits {
            connect: CONNECT.min(timeout),
            first_byte: timeout,
            stall: timeout,
            total: timeout,
            request_bytes_max: LETTER_BYTES_MAX,
            header_bytes_max: HEADER_BYTES_MAX,
            response_bytes_max: ANSWER_BYTES_MAX,
            redirects_max: 0,
            https_only: false,
            requests_max: LETTERS_MAX,
            idle_connections_max: 0,
        };
        let line = self
            .egress
            .open_client(EgressClientConfig { route: EgressPurpose::Named(url.to_owned()), limits })?;
        lines.insert(address, Arc::clone(&line));
        Ok(line)
    }
}

impl WebhookSender for HttpPost {
    fn send_webhook(&self, letter: WebhookRequest) -> BoxFuture<'static, WebhookOutcome> {
        let WebhookRequest { url, headers, body, timeout } = letter;
        let line = self.egress_line(&url, timeout);
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Box::pin(async move {
            let line = match line {
                Ok(line) => line,
                Err(error) => return WebhookOutcome::NotSent { cause: error.to_string() },
            };
            let (method, grants, share, secrets) = (HttpMethod::Post, Vec::new(), String::new(), Vec::new());
            match line
                .send_request(EgressRequest { method, url, headers, body, grants, share, secrets })
                .await
            {
                Ok(answer) => {
                    let (status, retry_after) = (answer.status, retry_after(&answer.headers));
                    WebhookOutcome::Answered { status, retry_after, body: read_beginning(answer.body).await }
                }
                Err(error) => not_answered(&error),
            }
        })
    }
}

/// Reads how long a receiver asks to be left alone: seconds, or a date, which counts from the answer's own.
fn retry_after(headers: &[(String, String)]) -> Option<Duration> {
    let value = find_header(headers, "retry-after")?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (parse_date(value)?, parse_date(find_header(headers, "date")?)?);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// Reads a date of HTTP.
fn parse_date(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

/// Reads the beginning of an answer's body, as far as it comes soon. The status says what became of the message, so a body
/// that breaks changes nothing.
async fn read_beginning(mut body: Box<dyn EgressBody>) -> Bytes {
    let mut kept = BytesMut::new();
    let read = async {
        while kept.len() < KEPT_BYTES_MAX {
            let Ok(Some(chunk)) = body.next_chunk().await else { return };
            kept.extend_from_slice(&chunk[..chunk.len().min(KEPT_BYTES_MAX - kept.len())]);
        }
    };
    // What came until then is kept.
    drop(tokio::time::timeout(BODY_TIME, read).await);
    kept.freeze()
}

/// Says what became of a message without an answer. The words hold nothing of the address: who reads them may not be
/// who wrote it.
fn not_answered(error: &EgressError) -> WebhookOutcome {
    if !error.is_sent {
        return WebhookOutcome::NotSent { cause: error.to_string() };
    }
    let cause = match &error.failure {
        EgressFault::Late(_) => "the receiver did not answer in time",
        _ => "the connection broke before a complete answer came",
    };
    WebhookOutcome::Unanswered { cause: cause.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use dromia_guard::EgressConfig;

    use super::*;

    /// As long as a busy machine may need.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// Answers one connection with these bytes, after it has read the request's head.
    fn receiver(answer: &'static [u8], rest: Duration) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (mut heard, mut piece) = (Vec::new(), [0; 1024]);
            while !heard.windows(6).any(|end| end == b"\"hi\"}}") {
                let count = stream.read(&mut piece).expect("a request");
                assert!(count > 0, "it is cut");
                heard.extend_from_slice(&piece[..count]);
            }
            std::thread::sleep(rest);
            // Who waits no longer hears nothing of it.
            drop(stream.write_all(answer));
            String::from_utf8_lossy(&heard).into_owned()
        });
        (url, served)
    }

    fn posted(url: String, timeout: Duration) -> WebhookOutcome {
        drop(rustls::crypto::ring::default_provider().install_default());
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let letter = WebhookRequest {
            url,
            headers: vec![("webhook-id", "dlv_1".to_owned())],
            body: Bytes::from_static(br#"{"data":{"text":"hi"}}"#),
            timeout,
        };
        let egress = crate::egress_client::guarded_egress(EgressConfig::default());
        tokio.block_on(async { HttpPost::new(Arc::new(egress)).send_webhook(letter).await })
    }

    #[test]
    fn a_receivers_status_is_reported_and_redirects_are_not_followed() {
        for (answer, status, pause, said) in [
            (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], 204, None, &b""[..]),
            (
                b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
                302,
                None,
                b"",
            ),
            (b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", 503, Some(7), b""),
            (
                b"HTTP/1.1 429 Busy\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                  retry-after: Sun, 06 Nov 1994 08:51:37 GMT\r\ncontent-length: 0\r\n\r\n",
                429,
                Some(120),
                b"",
            ),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"id\":\"7\"}", 200, None, b"{\"id\":\"7\"}"),
            (b"HTTP/1.1 410 Gone\r\ncontent-length: 9999999999\r\n\r\nx", 410, None, b"x"),
        ] {
            let (url, served) = receiver(answer, Duration::ZERO);
            let retry_after = pause.map(Duration::from_secs);
            let body = Bytes::from_static(said);
            assert_eq!(posted(url, PATIENCE), WebhookOutcome::Answered { status, retry_after, body });
            let heard = served.join().expect("it was asked");
            assert!(heard.starts_with("POST /hook HTTP/1.1\r\n"), "{heard}");
            assert!(heard.contains("webhook-id: dlv_1\r\n"), "{heard}");
        }
    }

    #[test]
    fn garbage_silence_and_a_closed_connection_are_unanswered() {
        for (answer, rest, timeout) in [
            (&b"hello\r\n\r\n"[..], Duration::ZERO, PATIENCE),
            (b"", Duration::ZERO, PATIENCE),
            (b"HTTP/1.1 200 OK\r\n\r\n", Duration::from_secs(8), Duration::from_secs(4)),
        ] {
            let (url, served) = receiver(answer, rest);
            let found = posted(url, timeout);
            assert!(matches!(found, WebhookOutcome::Unanswered { .. }), "{found:?}");
            served.join().expect("it was asked");
        }
    }

    #[test]
    fn a_closed_port_and_a_wrong_address_are_not_sent() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        for url in [format!("http://{free}/"), "nowhere".to_owned(), "http://".to_owned()] {
            let found = posted(url.clone(), PATIENCE);
            let WebhookOutcome::NotSent { cause } = found else { panic!("{url}: {found:?}") };
            assert!(!cause.contains("127.0.0.1"), "{cause}");
        }
    }
}
