//! The cheapest question to a server of models: which models it has. It is one GET, bounded in time and bytes.
//!
//! As the adapters do, it reads no proxy variables and follows no redirects: a key reaches only the host that the
//! operator named.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::redirect::Policy;
use serde::Deserialize;

use crate::config::Kind;

/// The most bytes of a list that are read.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Whom to ask.
#[derive(Debug)]
pub(crate) struct Question<'question> {
    /// What is spoken there.
    pub(crate) kind: Kind,
    /// Where.
    pub(crate) base_url: &'question str,
    /// The key's value.
    pub(crate) key: Option<&'question str>,
    /// How long to wait for all of it.
    pub(crate) wait: Duration,
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The ids of its models.
    pub(crate) models: Vec<String>,
    /// How long that took.
    pub(crate) took: Duration,
}

/// Why there is no list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection.
    #[error("nothing answers there")]
    Unreachable,
    /// No answer in time.
    #[error("it did not answer in time")]
    Late,
    /// The connection broke.
    #[error("the connection broke before the answer was complete")]
    Broken,
    /// The key, or its absence, was refused.
    #[error("it refused the credentials ({0})")]
    Refused(u16),
    /// There is no such route.
    #[error("it has no list of models under this address (404)")]
    NoList,
    /// Any other status.
    #[error("it answered {0}")]
    Status(u16),
    /// Something else answers there.
    #[error("it answered something that is no list of models")]
    NotAList,
}

/// Asks a server for its models.
pub(crate) async fn models(question: &Question<'_>) -> Result<Answer, Failure> {
    let began = Instant::now();
    match tokio::time::timeout(question.wait, ask(question)).await {
        Ok(models) => Ok(Answer { models: models?, took: began.elapsed() }),
        Err(_) => Err(Failure::Late),
    }
}

async fn ask(question: &Question<'_>) -> Result<Vec<String>, Failure> {
    let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build();
    let client = client.map_err(|_| Failure::Unreachable)?;
    let address = format!("{}/models", question.base_url.trim_end_matches('/'));
    let mut request = client.get(address);
    if question.kind == Kind::Anthropic {
        request = request.header("anthropic-version", "2023-06-01");
    }
    if let Some(key) = question.key {
        request = match question.kind {
            Kind::Anthropic => request.header("x-api-key", key),
            Kind::Openai | Kind::OpenaiResponses | Kind::Scripted => request.bearer_auth(key),
        };
    }
    let sent = request.send().await;
    let mut response =
        sent.map_err(|error| if error.is_connect() { Failure::Unreachable } else { Failure::Broken })?;
    match response.status() {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            return Err(Failure::Refused(status.as_u16()));
        }
        StatusCode::NOT_FOUND => return Err(Failure::NoList),
        status => return Err(Failure::Status(status.as_u16())),
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Failure::Broken)? {
        if body.len() + chunk.len() > LIST_BYTES_MAX {
            return Err(Failure::NotAList);
        }
        body.extend_from_slice(&chunk);
    }
    read(&body).ok_or(Failure::NotAList)
}

/// Reads a list of models, in the form that both APIs share.
fn read(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let list: List = serde_json::from_slice(body).ok()?;
    Some(list.data.into_iter().map(|model| model.id).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Serves one answer for every request, for as long as the runtime lives.
    pub(crate) async fn server(status: &'static str, body: &'static str) -> SocketAddr {
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 2048];
                let _read = stream.read(&mut request).await;
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                let _written = stream.write_all((head + body).as_bytes()).await;
            }
        });
        address
    }

    pub(crate) const LIST: &str =
        r#"{"object":"list","data":[{"id":"qwen3:8b","object":"model"},{"id":"x"}]}"#;

    async fn asked(address: SocketAddr) -> Result<Vec<String>, Failure> {
        let base_url = format!("http://{address}/v1");
        let wait = Duration::from_secs(5);
        let question = Question { kind: Kind::Openai, base_url: &base_url, key: None, wait };
        models(&question).await.map(|answer| answer.models)
    }

    #[tokio::test]
    async fn only_a_list_of_models_is_an_answer() {
        assert_eq!(
            asked(server("200 OK", LIST).await).await,
            Ok(vec!["qwen3:8b".to_owned(), "x".to_owned()])
        );
        for (status, body, failure) in [
            ("200 OK", "<html>hello</html>", Failure::NotAList),
            ("200 OK", r#"{"data":["a"]}"#, Failure::NotAList),
            ("401 Unauthorized", "", Failure::Refused(401)),
            ("404 Not Found", "", Failure::NoList),
            ("302 Found", "", Failure::Status(302)),
            ("503 Service Unavailable", "", Failure::Status(503)),
        ] {
            assert_eq!(asked(server(status, body).await).await, Err(failure), "{status} {body}");
        }
    }

    #[tokio::test]
    async fn silence_and_absence_are_told_apart() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base_url = format!("http://{}/v1", silent.local_addr().expect("an address"));
        drop(rustls::crypto::ring::default_provider().install_default());
        let wait = Duration::from_millis(50);
        let question = Question { kind: Kind::Openai, base_url: &base_url, key: None, wait };
        assert_eq!(models(&question).await.map(|answer| answer.models), Err(Failure::Late));
        drop(silent);
        let wait = Duration::from_secs(5);
        let question = Question { kind: Kind::Openai, base_url: &base_url, key: None, wait };
        assert_eq!(models(&question).await.map(|answer| answer.models), Err(Failure::Unreachable));
    }
}
