//! Resolved settings of one provider, and what a token costs there.

use std::fmt;
use std::time::Duration;

use dromia_contracts::model::Usage;

use crate::secret::Secret;

/// Where and how to reach one model.
#[derive(Clone)]
pub struct OpenAiConfig {
    /// The address before `/chat/completions`, such as `https://api.openai.com/v1`. It may hold no user name.
    pub base_url: String,
    /// The model's name at the provider.
    pub model: String,
    /// The key, where the provider wants one.
    pub key: Option<Secret>,
    /// Whether the answer is streamed; without it there are no live deltas.
    pub stream: bool,
    /// Which field carries the output limit.
    pub output_limit: OutputLimit,
    /// What tokens cost.
    pub price: Price,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// The most idle connections that are kept open.
    pub idle_connections_max: usize,
}

impl OpenAiConfig {
    /// Settings with every default: streamed, free, no key.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key: None,
            stream: true,
            output_limit: OutputLimit::MaxTokens,
            price: Price::default(),
            timeouts: Timeouts::default(),
            idle_connections_max: 1024,
        }
    }
}

// The address is left out: gateways carry tokens in paths and query strings.
impl fmt::Debug for OpenAiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiConfig")
            .field("model", &self.model)
            .field("key", &self.key)
            .field("stream", &self.stream)
            .field("output_limit", &self.output_limit)
            .field("price", &self.price)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
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

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// From sending to the first byte of a streamed answer.
    pub first_byte: Duration,
    /// Between two chunks of an answer.
    pub stall: Duration,
    /// From beginning to end.
    pub total: Duration,
}

impl Default for Timeouts {
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
pub struct Price {
    /// A million tokens of requests.
    pub input_micros_per_million: u64,
    /// A million tokens of answers.
    pub output_micros_per_million: u64,
}

impl Price {
    /// What so many tokens cost, rounded up.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let input = u128::from(input_tokens) * u128::from(self.input_micros_per_million);
        let output = u128::from(output_tokens) * u128::from(self.output_micros_per_million);
        u64::try_from((input + output).div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// What an attempt used, at list price.
    pub(super) fn of_usage(&self, usage: Usage) -> u64 {
        self.of(usage.input_tokens.into(), usage.output_tokens.into())
    }
}

/// Says which setting does not make an adapter.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// The address is no plain http or https address.
    #[error("base_url must be an http:// or https:// address without user name, query or fragment")]
    BaseUrl,
    /// The key cannot be a header value.
    #[error("the key holds characters that no header can carry")]
    Key,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}
