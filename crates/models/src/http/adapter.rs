//! One attempt over HTTP: send, watch the deadlines, gather the answer.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_contracts::BoxFuture;
use dromia_contracts::model::{Deltas, Model, ModelError, ModelReply, ModelRequest, Prepared};
use dromia_contracts::sent::Wording;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::timeout;

use super::config::{HttpConfig, HttpError};
use super::draft::{Draft, StreamReader};
use super::failure::{self, cut};
use crate::letter;
use crate::secret::Secret;
use crate::tokens;

/// The most bytes of an answer that is not streamed.
const BODY_BYTES_MAX: usize = 8 << 20;
/// The most bytes of an error's body that are read.
const ERROR_BYTES_MAX: usize = 16 << 10;
/// How long to wait for an error's body; the status says enough without it.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept. Many servers (Node.js, uvicorn) close theirs after five seconds, and a request
/// that meets the close is lost: nobody knows what became of it, so its reservation is charged.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// How long to wait for the end of a stream behind its last event.
const END_WAIT: Duration = Duration::from_millis(50);

/// The adapter to one model at one server. It is shared by every call and keeps connections open.
#[derive(Clone)]
pub struct HttpModel {
    config: HttpConfig,
    client: Client,
    url: Url,
}

impl HttpModel {
    /// Makes the adapter; nothing is connected yet. For `https` the process must have a rustls provider.
    pub fn new(config: HttpConfig) -> Result<Self, HttpError> {
        let url = config.url()?;
        let headers = config.format.headers(config.key.as_ref())?;
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(config.timeouts.connect)
            .pool_max_idle_per_host(config.idle_connections_max)
            .pool_idle_timeout(IDLE_MAX)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(HttpError::Client)?;
        Ok(Self { config, client, url })
    }

    async fn attempt(
        &self,
        request: &ModelRequest,
        prepared: &Prepared,
        deltas: &dyn Deltas,
    ) -> Result<ModelReply, ModelError> {
        let exchange = self.exchange(prepared.body.clone(), deltas);
        let draft = match timeout(self.config.timeouts.total, exchange).await {
            Ok(draft) => draft?,
            Err(_) => return Err(cut("the model did not finish its answer in time")),
        };
        let turns = letter::sent_turns(&prepared.wording, request).unwrap_or_default();
        let mut reply = draft.into_reply(|| tokens::estimate_sent(request, turns))?;
        let cost = self.config.price.of_usage(reply.usage, reply.detail);
        if cost > 0 {
            let reserved = prepared.reserved_micros;
            if cost > reserved {
                tracing::warn!(cost, reserved, "a provider counted more tokens than the request has bytes");
            }
            reply.cost_micros = cost.min(reserved);
        }
        Ok(reply)
    }

    async fn exchange(&self, body: Bytes, deltas: &dyn Deltas) -> Result<Draft, ModelError> {
        let sent = self.client.post(self.url.clone()).body(body).send();
        // Without streaming the first byte comes when the answer is complete, so only the whole has a deadline.
        let sent = if self.config.stream {
            timeout(self.config.timeouts.first_byte, sent)
                .await
                .map_err(|_| cut("the model did not begin its answer in time"))?
        } else {
            sent.await
        };
        let response = sent.map_err(|error| {
            let failed = if error.is_connect() {
                failure::unreachable_host()
            } else {
                // The request may have gone out, and the provider may be at work on it.
                cut("the connection to the model's server broke before it answered")
            };
            tracing::debug!(error = %error.without_url(), "a model request failed");
            failed
        })?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        if self.config.stream {
            self.stream(response, deltas).await
        } else {
            self.whole(response, deltas).await
        }
    }

    async fn stream(&self, mut response: Response, deltas: &dyn Deltas) -> Result<Draft, ModelError> {
        let mut reader = StreamReader::new(self.config.format);
        while let Some(chunk) = self.next_chunk(&mut response).await? {
            if reader.push(&chunk, deltas)? {
                // Only a body that was read to its end gives its connection back to the pool. The end is
                // nearly always here already; a server that dawdles over it costs the connection, not us.
                let end = async { while let Ok(Some(_)) = response.chunk().await {} };
                if timeout(END_WAIT, end).await.is_err() {
                    tracing::debug!("a model's stream did not end behind its last event");
                }
                break;
            }
        }
        Ok(reader.into_draft())
    }

    async fn whole(&self, mut response: Response, deltas: &dyn Deltas) -> Result<Draft, ModelError> {
        let mut draft = Draft::default();
        let Some(first) = self.next_chunk(&mut response).await? else {
            return Err(cut("the model's answer is empty"));
        };
        // Nearly every answer is one chunk, which need not be copied.
        let Some(second) = self.next_chunk(&mut response).await? else {
            self.config.format.take_whole(&mut draft, &first, deltas)?;
            return Ok(draft);
        };
        let mut body = BytesMut::from(&first[..]);
        body.extend_from_slice(&second);
        while let Some(chunk) = self.next_chunk(&mut response).await? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(cut("the model's answer is longer than any answer may be"));
            }
            body.extend_from_slice(&chunk);
        }
        self.config.format.take_whole(&mut draft, &body, deltas)?;
        Ok(draft)
    }

    async fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>, ModelError> {
        match timeout(self.config.timeouts.stall, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(_)) => Err(cut("the connection broke in the middle of the model's answer")),
            Err(_) => Err(cut("the model's answer stalled")),
        }
    }

    async fn refused(&self, mut response: Response) -> ModelError {
        let mut body = BytesMut::new();
        let gather = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = ERROR_BYTES_MAX.saturating_sub(body.len());
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if room == 0 {
                    break;
                }
            }
        };
        if timeout(ERROR_BODY_WAIT, gather).await.is_err() {
            tracing::debug!("the body of a model server's error did not end in time");
        }
        let key = self.config.key.as_ref().map(Secret::expose);
        failure::status(response.status(), response.headers(), &body, key)
    }
}

impl Model for HttpModel {
    /// Answers to the name at the provider; aliases are the registry's business.
    fn knows(&self, alias: &str) -> bool {
        alias == self.config.model
    }

    fn prepare(&self, request: &ModelRequest) -> Result<Prepared, ModelError> {
        let HttpConfig { model, window, price, format, .. } = &self.config;
        format.carries(&request.wishes)?;
        let fitted = window.fit(request).map_err(|long| long.of(model))?;
        let output_tokens_max = fitted.output_tokens_max;
        let wording = self.config.wording(u32::try_from(fitted.left_out).unwrap_or(u32::MAX));
        Ok(Prepared {
            body: letter::write(&wording, request, output_tokens_max)?,
            wording,
            input_tokens: fitted.input_tokens(),
            output_tokens_max,
            // The counted bytes as tokens: no tokenizer makes more, so no report comes to more money.
            reserved_micros: price.at_most(fitted.bytes as u64, output_tokens_max.into()),
        })
    }

    fn write(&self, wording: &Wording, request: &ModelRequest) -> Result<Bytes, ModelError> {
        letter::write(wording, request, request.output_tokens_max)
    }

    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a Prepared,
        deltas: &'a dyn Deltas,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(self.attempt(request, prepared, deltas))
    }
}

// Neither the client, whose headers hold the key, nor the address is shown.
impl fmt::Debug for HttpModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpModel").field("config", &self.config).finish_non_exhaustive()
    }
}
