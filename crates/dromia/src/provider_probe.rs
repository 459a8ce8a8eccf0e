//! The cheapest question to a server of models: which models it has. It is one GET, bounded in time and bytes.
//!
//! It goes over the egress client, as the adapters do: no proxy variables, no redirects, and a key reaches only the
//! host that the operator named.

use std::time::{Duration, Instant};

use dromia_contracts::egress::{self, Egress, EgressError};
use serde::Deserialize;

use crate::config::ProviderKind;
use crate::egress_client;

/// Whom to ask.
#[derive(Debug)]
pub(crate) struct ProbeRequest<'question> {
    /// What is spoken there.
    pub(crate) kind: ProviderKind,
    /// Where.
    pub(crate) base_url: &'question str,
    /// The key's value.
    pub(crate) key: Option<&'question str>,
    /// How long to wait for all of it.
    pub(crate) wait: Duration,
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct ProbeAnswer {
    /// The ids of its models.
    pub(crate) models: Vec<String>,
    /// How long that took.
    pub(crate) took: Duration,
}

/// Why there is no list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProbeError {
    /// No connection.
    #[error("no server answers there")]
    Unreachable,
    /// It leads to where nothing of this process may go.
    #[error("the egress rules refuse it: {0}")]
    Forbidden(String),
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
    #[error("it has no list of models at this address (404)")]
    NoList,
    /// Any other status.
    #[error("it answered {0}")]
    Status(u16),
    /// Something else answers there.
    #[error("its answer is not a list of models")]
    NotAList,
}

/// Asks a server for its models.
pub(crate) async fn probe_models(
    egress: &dyn Egress,
    question: &ProbeRequest<'_>,
) -> Result<ProbeAnswer, ProbeError> {
    let began = Instant::now();
    match tokio::time::timeout(question.wait, fetch_models(egress, question)).await {
        Ok(models) => Ok(ProbeAnswer { models: models?, took: began.elapsed() }),
        Err(_) => Err(ProbeError::Late),
    }
}

async fn fetch_models(egress: &dyn Egress, question: &ProbeRequest<'_>) -> Result<Vec<String>, ProbeError> {
    let line = egress.open_client(egress_client::probe_plan(question.base_url, question.wait));
    let line = line.map_err(|error| ProbeError::Forbidden(error.to_string()))?;
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let mut headers = Vec::new();
    if question.kind == ProviderKind::Anthropic {
        headers.push(pair("anthropic-version", "2023-06-01".to_owned()));
    }
    if let Some(key) = question.key {
        headers.push(match question.kind {
            ProviderKind::Anthropic => pair("x-api-key", key.to_owned()),
            ProviderKind::Openai | ProviderKind::OpenaiResponses | ProviderKind::Scripted => {
                pair("authorization", format!("Bearer {key}"))
            }
        });
    }
    let address = format!("{}/models", question.base_url.trim_end_matches('/'));
    let mut response =
        line.send_request(egress_client::get_request(address, headers)).await.map_err(error_from_egress)?;
    match response.status {
        200 => {}
        status @ (401 | 403) => return Err(ProbeError::Refused(status)),
        404 => return Err(ProbeError::NoList),
        status => return Err(ProbeError::Status(status)),
    }
    let mut body = Vec::new();
    while let Some(chunk) =
        response.body.next_chunk().await.map_err(|failure| error_from_broken_body(&failure))?
    {
        body.extend_from_slice(&chunk);
    }
    parse_model_list(&body).ok_or(ProbeError::NotAList)
}

fn error_from_egress(error: EgressError) -> ProbeError {
    match error.failure {
        egress::EgressFault::Refused { reason, .. } => ProbeError::Forbidden(reason),
        failure if error.is_sent => error_from_broken_body(&failure),
        egress::EgressFault::Late(_) => ProbeError::Late,
        _ => ProbeError::Unreachable,
    }
}

fn error_from_broken_body(failure: &egress::EgressFault) -> ProbeError {
    match failure {
        egress::EgressFault::Late(_) => ProbeError::Late,
        egress::EgressFault::TooLarge { .. } | egress::EgressFault::Packed => ProbeError::NotAList,
        _ => ProbeError::Broken,
    }
}

/// Reads a list of models, in the form that both APIs share.
fn parse_model_list(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct ModelListBody {
        data: Vec<ListedModel>,
    }
    #[derive(Deserialize)]
    struct ListedModel {
        id: String,
    }
    let list: ModelListBody = serde_json::from_slice(body).ok()?;
    Some(list.data.into_iter().map(|model| model.id).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use dromia_guard::{EgressConfig, GuardedEgress};
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

    async fn asked(address: SocketAddr) -> Result<Vec<String>, ProbeError> {
        let base_url = format!("http://{address}/v1");
        let wait = Duration::from_secs(5);
        let question = ProbeRequest { kind: ProviderKind::Openai, base_url: &base_url, key: None, wait };
        probe_models(&plain(), &question).await.map(|answer| answer.models)
    }

    fn plain() -> GuardedEgress {
        egress_client::guarded_egress(EgressConfig::default())
    }

    #[tokio::test]
    async fn only_a_list_of_models_is_an_answer() {
        assert_eq!(
            asked(server("200 OK", LIST).await).await,
            Ok(vec!["qwen3:8b".to_owned(), "x".to_owned()])
        );
        for (status, body, failure) in [
            ("200 OK", "<html>hello</html>", ProbeError::NotAList),
            ("200 OK", r#"{"data":["a"]}"#, ProbeError::NotAList),
            ("401 Unauthorized", "", ProbeError::Refused(401)),
            ("404 Not Found", "", ProbeError::NoList),
            ("302 Found", "", ProbeError::Status(302)),
            ("503 Service Unavailable", "", ProbeError::Status(503)),
        ] {
            assert_eq!(asked(server(status, body).await).await, Err(failure), "{status} {body}");
        }
    }

    #[tokio::test]
    async fn a_silent_and_an_absent_provider_give_different_errors() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base_url = format!("http://{}/v1", silent.local_addr().expect("an address"));
        drop(rustls::crypto::ring::default_provider().install_default());
        let wait = Duration::from_millis(50);
        let question = ProbeRequest { kind: ProviderKind::Openai, base_url: &base_url, key: None, wait };
        assert_eq!(
            probe_models(&plain(), &question).await.map(|answer| answer.models),
            Err(ProbeError::Late)
        );
        drop(silent);
        let wait = Duration::from_secs(5);
        let question = ProbeRequest { kind: ProviderKind::Openai, base_url: &base_url, key: None, wait };
        assert_eq!(
            probe_models(&plain(), &question).await.map(|answer| answer.models),
            Err(ProbeError::Unreachable)
        );
    }
}
