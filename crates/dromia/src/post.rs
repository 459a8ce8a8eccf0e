//! The way out of the outbox: one POST over HTTP, sent once.
//!
//! It reads no proxy variables, follows no redirect, reuses no connection and reads no more of an answer than its head,
//! so a message reaches only the address that the operator wrote, and a failed one is known to be sent or not sent.

use std::time::Duration;

use dromia_contracts::BoxFuture;
use dromia_gateway::{Letter, Post, Posted};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);

/// Posts over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct HttpPost {
    client: reqwest::Client,
}

impl HttpPost {
    /// Makes the client; nothing is sent.
    pub(crate) fn new() -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("dromia/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }
}

impl Post for HttpPost {
    fn post(&self, letter: Letter) -> BoxFuture<'static, Posted> {
        let Letter { url, headers, body, timeout } = letter;
        let mut request = self.client.post(url).timeout(timeout).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Box::pin(async move {
            match request.send().await {
                Ok(response) => {
                    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    let seconds = header.and_then(|value| value.parse().ok());
                    Posted::Answered {
                        status: response.status().as_u16(),
                        retry_after: seconds.map(Duration::from_secs),
                    }
                }
                Err(error) => not_answered(&error),
            }
        })
    }
}

/// Says what became of a message without an answer. The words hold nothing of the address: who reads them may not be
/// who wrote it.
fn not_answered(error: &reqwest::Error) -> Posted {
    if error.is_builder() {
        return Posted::NotSent { cause: "the address or a header cannot be used".to_owned() };
    }
    if error.is_connect() {
        return Posted::NotSent { cause: "no connection".to_owned() };
    }
    if error.is_timeout() {
        return Posted::Unanswered { cause: "the receiver did not answer in time".to_owned() };
    }
    Posted::Unanswered { cause: "the connection broke before an answer that can be read".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use bytes::Bytes;

    use super::*;

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

    fn posted(url: String) -> Posted {
        drop(rustls::crypto::ring::default_provider().install_default());
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let letter = Letter {
            url,
            headers: vec![("webhook-id", "dlv_1".to_owned())],
            body: Bytes::from_static(br#"{"data":{"text":"hi"}}"#),
            timeout: Duration::from_millis(500),
        };
        tokio.block_on(async { HttpPost::new().expect("a client").post(letter).await })
    }

    #[test]
    fn an_answer_is_its_status_and_a_redirect_is_not_followed() {
        for (answer, status, pause) in [
            (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], 204, None),
            (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n", 302, None),
            (b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", 503, Some(7)),
            (b"HTTP/1.1 410 Gone\r\ncontent-length: 9999999999\r\n\r\nx", 410, None),
        ] {
            let (url, served) = receiver(answer, Duration::ZERO);
            let retry_after = pause.map(Duration::from_secs);
            assert_eq!(posted(url), Posted::Answered { status, retry_after });
            let heard = served.join().expect("it was asked");
            assert!(heard.starts_with("POST /hook HTTP/1.1\r\n"), "{heard}");
            assert!(heard.contains("webhook-id: dlv_1\r\n"), "{heard}");
        }
    }

    #[test]
    fn garbage_silence_and_a_closed_connection_are_unanswered() {
        for (answer, rest) in [
            (&b"hello\r\n\r\n"[..], Duration::ZERO),
            (b"", Duration::ZERO),
            (b"HTTP/1.1 200 OK\r\n\r\n", Duration::from_secs(1)),
        ] {
            let (url, served) = receiver(answer, rest);
            let found = posted(url);
            assert!(matches!(found, Posted::Unanswered { .. }), "{found:?}");
            served.join().expect("it was asked");
        }
    }

    #[test]
    fn a_closed_port_and_a_wrong_address_are_not_sent() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        for url in [format!("http://{free}/"), "nowhere".to_owned(), "http://".to_owned()] {
            let found = posted(url.clone());
            let Posted::NotSent { cause } = found else { panic!("{url}: {found:?}") };
            assert!(!cause.contains("127.0.0.1"), "{cause}");
        }
    }
}
