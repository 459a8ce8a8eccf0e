//! Resolved settings of one provider, and what a token costs there.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::egress::{EgressClientConfig, EgressPurpose, LineLimits};
use dromia_contracts::encoded_request::{RequestEncoding, TaintedPast};
use dromia_contracts::model::{ModelError, TokenUsage, UsageDetail};
use dromia_contracts::vault::{GRANT, SecretUse};
use dromia_contracts::{ErrorCode, Scope};
use url::Url;

use super::error::HttpError;
use super::format::WireFormat;
use crate::context_window::ContextWindow;
use crate::secret::ProviderApiKey;

/// The most bytes of an answer that is not streamed.
const WHOLE_BYTES_MAX: u64 = 8 << 20;
/// The most bytes of a streamed answer, whose framing is many times its text; what is kept of it is bounded further.
const STREAM_BYTES_MAX: u64 = 512 << 20;
/// The most bytes of a request; what is sent of a conversation is bounded long before.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// The most bytes of headers.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// The most requests to one server at once; the runs at work are bounded long before.
const REQUESTS_MAX: usize = 16_384;

/// Where and how to reach one model.
#[derive(Clone)]
pub struct HttpConfig {
    /// What the server speaks.
    pub format: WireFormat,
    /// The address before `/chat/completions`, `/responses` or `/messages`, such as `https://api.openai.com/v1`. It
    /// may hold no user name.
    pub base_url: String,
    /// The provider's name in the configuration, for failures; addresses may be private to the operator.
    pub provider: Option<String>,
    /// The model's name at the provider.
    pub model: String,
    /// The key, where the provider wants one.
    pub key: Option<ProviderApiKey>,
    /// The key, where it is in the vault: only the way out has its value.
    pub vault_key: Option<VaultKey>,
    /// Whether the answer is streamed; without it there are no live deltas.
    pub stream: bool,
    /// Which field carries the output limit.
    pub output_limit: OutputLimit,
    /// Whether the server takes the form of an answer in a field of its own.
    pub answer_schemas: bool,
    /// What tokens cost.
    pub price: TokenPrice,
    /// Whether the price is known, also if it is nothing.
    pub priced: bool,
    /// What the model takes and gives at most.
    pub window: ContextWindow,
    /// How long to wait for what.
    pub timeouts: HttpTimeouts,
    /// The most idle connections that are kept open.
    pub idle_connections_max: usize,
}

impl HttpConfig {
    /// Settings with every default: streamed, free, no key.
    pub fn new(format: WireFormat, base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            format,
            base_url: base_url.into(),
            provider: None,
            model: model.into(),
            key: None,
            vault_key: None,
            stream: true,
            output_limit: OutputLimit::MaxTokens,
            answer_schemas: false,
            price: TokenPrice::default(),
            priced: false,
            window: ContextWindow::default(),
            timeouts: HttpTimeouts::default(),
            idle_connections_max: 1024,
        }
    }

    /// Says how a request to this model is written, with nothing left out.
    pub(super) fn request_encoding(&self, answer: Option<&AnswerFormat>) -> RequestEncoding {
        // Only chat completions leave a choice.
        let limit =
            (self.format == WireFormat::OpenAiChat).then(|| self.output_limit.encoding_field()).flatten();
        RequestEncoding {
            by: None,
            form: self.format.format_version().to_owned(),
            model: self.model.clone(),
            whole: !self.stream,
            limit: limit.map(str::to_owned),
            left_out: 0,
            shortened: 0,
            tainted_past: TaintedPast::Whole,
            answer_field: self.answer_schemas
                && answer.is_some_and(|answer| self.format.enforces_answer(answer)),
            concludes: false,
        }
    }

    /// Says which secret its requests use, and the grant for it; nothing where the key is not in the vault.
    pub(super) fn secret_uses(&self) -> Result<(Vec<String>, Vec<SecretUse>), ModelError> {
        let Some(VaultKey { name, of }) = &self.vault_key else { return Ok((Vec::new(), Vec::new())) };
        let Some(scope) = of.scope() else {
            let message = format!(
                "the key of the model's server is the secret {name:?}, which only a running server opens; nothing was sent"
            );
            return Err(ModelError { code: ErrorCode::ModelRejected, message, retry_after: None });
        };
        let used = SecretUse { scope: scope.clone(), name: name.clone(), slot: self.format.key_slot() };
        Ok((vec![format!("{GRANT}{name}")], vec![used]))
    }

    /// Says what line its requests need: to this server, with these deadlines, and no redirects, because a key must reach
    /// only the host that the operator named.
    pub(super) fn egress_client_config(&self) -> EgressClientConfig {
        let HttpTimeouts { connect, first_byte, stall, total } = self.timeouts;
        let limits = LineLimits {
            connect,
            // Without streaming the first byte comes when the answer is complete, so only the whole has a deadline.
            first_byte: if self.stream { first_byte } else { total },
            stall,
            total,
            request_bytes_max: REQUEST_BYTES_MAX,
            header_bytes_max: HEADER_BYTES_MAX,
            response_bytes_max: if self.stream { STREAM_BYTES_MAX } else { WHOLE_BYTES_MAX },
            redirects_max: 0,
            https_only: false,
            requests_max: REQUESTS_MAX,
            idle_connections_max: self.idle_connections_max,
        };
        let base_url = self.base_url.clone();
        let route = if self.vault_key.is_some() {
            EgressPurpose::Keyed(base_url)
        } else {
            EgressPurpose::Named(base_url)
        };
        EgressClientConfig { route, limits }
    }

    /// Reads the base address and adds the format's path; connects to nothing.
    pub fn endpoint_url(&self) -> Result<Url, HttpError> {
        let base = Url::parse(&self.base_url).map_err(|_| HttpError::BaseUrl)?;
        let plain = matches!(base.scheme(), "http" | "https")
            && base.host().is_some()
            && base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !plain {
            return Err(HttpError::BaseUrl);
        }
        let address = format!("{}{}", base.as_str().trim_end_matches('/'), self.format.endpoint_path());
        Url::parse(&address).map_err(|_| HttpError::BaseUrl)
    }
}

// The address is left out: gateways carry tokens in paths and query strings.
impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("format", &self.format)
            .field("model", &self.model)
            .field("key", &self.key)
            .field("vault_key", &self.vault_key)
            .field("stream", &self.stream)
            .field("output_limit", &self.output_limit)
            .field("price", &self.price)
            .field("window", &self.window)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// A provider's key in the vault.
#[derive(Debug, Clone)]
pub struct VaultKey {
    /// The secret's name.
    pub name: String,
    /// Whose it is.
    pub of: KeysOf,
}

/// The scope that owns the secrets of providers' keys. A server sets it once it has found its tenant; until then no
/// request is sent to a provider whose key is in the vault.
#[derive(Debug, Clone, Default)]
pub struct KeysOf(Arc<OnceLock<Scope>>);

impl KeysOf {
    /// Sets the scope; the first one stays.
    pub fn set_scope(&self, scope: Scope) {
        self.0.get_or_init(|| scope);
    }

    /// Returns the scope, once it is set.
    pub fn scope(&self) -> Option<&Scope> {
        self.0.get()
    }
}

/// The field that carries the most tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputLimit {
    /// `max_tokens`, which every server of the format knows.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models insist on.
    MaxCompletionTokens,
}

impl OutputLimit {
    /// The field as a request encoding stores it: `None` for the default.
    const fn encoding_field(self) -> Option<&'static str> {
        match self {
            Self::MaxTokens => None,
            Self::MaxCompletionTokens => Some("max_completion_tokens"),
        }
    }

    /// Reads what a wording keeps.
    pub(crate) fn of_field(field: Option<&str>) -> Option<Self> {
        [Self::MaxTokens, Self::MaxCompletionTokens].into_iter().find(|limit| limit.encoding_field() == field)
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// Until the connection is established.
    pub connect: Duration,
    /// From sending to the first byte of a streamed answer.
    pub first_byte: Duration,
    /// Between two chunks of an answer.
    pub stall: Duration,
    /// From beginning to end.
    pub total: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_mins(2),
            stall: Duration::from_mins(1),
            total: Duration::from_mins(10),
        }
    }
}

/// List price, in millionths of the currency unit per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenPrice {
    /// A million tokens of requests.
    pub input: u64,
    /// A million tokens of answers.
    pub output: u64,
    /// A million tokens of requests that the provider had in its cache.
    pub cache_read: u64,
    /// A million tokens of requests that the provider put into its cache.
    pub cache_write: u64,
}

impl TokenPrice {
    /// What so many tokens cost at most, rounded up.
    pub fn at_most(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let dearest = self.input.max(self.cache_write).max(self.cache_read);
        rounded_cost(&[(input_tokens, dearest), (output_tokens, self.output)])
    }

    /// What an attempt used, rounded up.
    pub fn of_usage(&self, usage: TokenUsage, detail: UsageDetail) -> u64 {
        // Parts of the input, even if the provider reports more: no token is paid for twice.
        let read = detail.cache_read_tokens.min(usage.input_tokens);
        let written = detail.cache_write_tokens.min(usage.input_tokens - read);
        let plain = usage.input_tokens - read - written;
        rounded_cost(&[
            (plain.into(), self.input),
            (read.into(), self.cache_read),
            (written.into(), self.cache_write),
            (usage.output_tokens.into(), self.output),
        ])
    }
}

fn rounded_cost(parts: &[(u64, u64)]) -> u64 {
    let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
    u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
