//! One attempt over HTTP: send, watch the deadlines, gather the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_contracts::egress::{Egress, EgressClient, EgressRequest, EgressResponse, HttpMethod};
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::model::{
    DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
};
use dromia_contracts::{BoxFuture, ErrorCode};
use tokio::time::timeout;

use super::config::HttpConfig;
use super::draft::ReplyDraft;
use super::error::HttpError;
use super::failure::{self, cut_error, interrupted_error};
use super::reader::StreamReader;
use crate::secret::ProviderApiKey;
use crate::sent_turns::sent_turns;
use crate::tokens;
use crate::{encoded_request, names};

/// The most bytes of an error's body that are read.
const ERROR_BYTES_MAX: usize = 16 << 10;
/// How long to wait for an error's body; the status says enough without it.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// How long to wait for the end of a stream behind its last event.
const END_WAIT: Duration = Duration::from_millis(50);

/// The adapter to one model at one server. It is shared by every call; its line keeps connections open.
#[derive(Clone)]
pub struct HttpModel {
    config: HttpConfig,
    line: Arc<dyn EgressClient>,
    url: String,
    headers: Vec<(String, String)>,
}

impl HttpModel {
    /// Makes the adapter; nothing is connected yet. For `https` the process must have a rustls provider.
    pub fn new(config: HttpConfig, egress: &dyn Egress) -> Result<Self, HttpError> {
        let url = config.endpoint_url()?.into();
        let headers = config.format.request_headers(config.key.as_ref())?;
        let line = egress.open_client(config.egress_client_config()).map_err(HttpError::Line)?;
        Ok(Self { config, line, url, headers })
    }

    async fn make_attempt(
        &self,
        request: &ModelRequest,
        prepared: &PreparedAttempt,
        deltas: &dyn DeltaSink,
    ) -> Result<ModelReply, ModelError> {
        let draft = self.exchange_request(prepared.body.clone(), deltas).await?;
        let turns = sent_turns(&prepared.wording, request.transcript.turns()).unwrap_or_default();
        let mut reply = draft.into_reply(|| tokens::estimate_sent(request, &turns))?;
        names::restore_names(&mut reply.calls, &request.tools);
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

    async fn exchange_request(&self, body: Bytes, deltas: &dyn DeltaSink) -> Result<ReplyDraft, ModelError> {
        let (grants, secrets) = self.config.secret_uses()?;
        let request = EgressRequest {
            method: HttpMethod::Post,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            grants,
            share: String::new(),
            secrets,
        };
        let response = self.line.send_request(request).await.map_err(|error| {
            tracing::debug!(failure = %error, decisions = ?error.decisions, "a model request failed");
            failure::unanswered_error(&error)
        })?;
        if response.status != 200 {
            return Err(self.read_error(response).await);
        }
        let read = if self.config.stream {
            self.read_stream(response, deltas).await
        } else {
            self.read_whole(response, deltas).await
        };
        read.map_err(|error| {
            let HttpConfig { model, window, key, vault_key, .. } = &self.config;
            let key = key.as_ref().map(ProviderApiKey::expose_key);
            let holds_key = |words: &str| vault_key.is_some() || key.is_some_and(|key| words.contains(key));
            let error = failure::bound_words(error, holds_key);
            match error.code {
                ErrorCode::ContextExceeded => failure::too_long_error(&error, model, window.context_tokens),
                _ => error,
            }
        })
    }

    async fn read_stream(
        &self,
        mut response: EgressResponse,
        deltas: &dyn DeltaSink,
    ) -> Result<ReplyDraft, ModelError> {
        let mut reader = StreamReader::new(self.config.format);
        while let Some(chunk) = next_chunk(&mut response).await? {
            if reader.push_chunk(&chunk, deltas)? {
                // Only a body that was read to its end gives its connection back to the pool. The end is
                // nearly always here already; a server that dawdles over it costs the connection, not us.
                let end = async { while let Ok(Some(_)) = response.body.next_chunk().await {} };
                if timeout(END_WAIT, end).await.is_err() {
                    tracing::debug!("a model's stream did not end after its last event");
                }
                break;
            }
        }
        Ok(reader.into_draft())
    }

    async fn read_whole(
        &self,
        mut response: EgressResponse,
        deltas: &dyn DeltaSink,
    ) -> Result<ReplyDraft, ModelError> {
        let mut draft = ReplyDraft::default();
        let Some(first) = next_chunk(&mut response).await? else {
            return Err(cut_error("the model's answer is empty"));
        };
        // Nearly every answer is one chunk, which need not be copied.
        let Some(second) = next_chunk(&mut response).await? else {
            self.config.format.take_whole(&mut draft, &first, deltas)?;
            return Ok(draft);
        };
        let mut body = BytesMut::from(&first[..]);
        body.extend_from_slice(&second);
        while let Some(chunk) = next_chunk(&mut response).await? {
            body.extend_from_slice(&chunk);
        }
        self.config.format.take_whole(&mut draft, &body, deltas)?;
        Ok(draft)
    }

    async fn read_error(&self, mut response: EgressResponse) -> ModelError {
        let mut body = BytesMut::new();
        let gather = async {
            while let Ok(Some(chunk)) = response.body.next_chunk().await {
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
        let is_too_long = failure::says_too_long(response.status, &body);
        if self.config.vault_key.is_some() {
            // The vault sets the key, so the adapter cannot remove it from the provider's error text.
            body.clear();
        }
        let key = self.config.key.as_ref().map(ProviderApiKey::expose_key);
        let refused = failure::status_error(response.status, &response.headers, &body, key);
        let HttpConfig { model, window, .. } = &self.config;
        if is_too_long { failure::too_long_error(&refused, model, window.context_tokens) } else { refused }
    }
}

async fn next_chunk(response: &mut EgressResponse) -> Result<Option<Bytes>, ModelError> {
    response.body.next_chunk().await.map_err(|failure| interrupted_error(&failure))
}

impl LanguageModel for HttpModel {
    /// Answers to the name at the provider; aliases are the registry's business.
    fn knows_alias(&self, alias: &str) -> bool {
        alias == self.config.model
    }

    fn context_window(&self, _: &str) -> Option<u32> {
        self.config.window.context_tokens
    }

    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        let HttpConfig { model, window, price, priced, format, .. } = &self.config;
        format.check_sampling_options(&request.wishes)?;
        let fitted = window.fit_request(request).map_err(|long| long.into_model_error(model))?;
        let output_tokens_max = fitted.output_tokens_max;
        let wording = RequestEncoding {
            left_out: fitted.left_out,
            shortened: fitted.shortened,
            ..self.config.request_encoding(request.wishes.answer.as_ref())
        };
        Ok(PreparedAttempt {
            body: encoded_request::encode_request(&wording, request, output_tokens_max)?,
            wording,
            input_tokens: fitted.input_tokens(),
            output_tokens_max,
            // The counted bytes as tokens: no tokenizer makes more, so no report comes to more money.
            reserved_micros: price.at_most(fitted.bytes as u64, output_tokens_max.into()),
            priced: *priced,
            window: window.context_tokens,
        })
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        encoded_request::encode_request(wording, request, request.output_tokens_max)
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let sent = &prepared.wording;
            let own = self.config.request_encoding(request.wishes.answer.as_ref());
            if (&own.form, &own.model, own.whole) != (&sent.form, &sent.model, sent.whole) {
                // What was journaled for one model must not be sent to another; the next attempt is prepared again.
                return Err(ModelError {
                    code: ErrorCode::ModelUnavailable,
                    message: "the configuration of the model changed before the request was sent".to_owned(),
                    retry_after: Some(Duration::ZERO),
                });
            }
            self.make_attempt(request, prepared, deltas).await
        })
    }
}

// Neither the headers, which hold the key, nor the address is shown.
impl fmt::Debug for HttpModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpModel").field("config", &self.config).finish_non_exhaustive()
    }
}
