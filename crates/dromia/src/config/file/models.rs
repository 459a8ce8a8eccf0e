//! Servers of models, the models at them, and what their tokens cost.

use dromia_models::{OutputLimit, TokenPrice, WireFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum ProviderKind {
    /// OpenAI chat completions: OpenAI itself, Ollama, vLLM, llama.cpp and many gateways.
    Openai,
    /// OpenAI responses.
    OpenaiResponses,
    /// Anthropic messages.
    Anthropic,
    /// The built-in scripted model, which is not an LLM.
    #[default]
    Scripted,
}

impl ProviderKind {
    /// The word of the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::OpenaiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Scripted => "scripted",
        }
    }

    /// The wire format; the scripted model has none.
    pub(crate) const fn wire_format(self) -> Option<WireFormat> {
        match self {
            Self::Openai => Some(WireFormat::OpenAiChat),
            Self::OpenaiResponses => Some(WireFormat::OpenAiResponses),
            Self::Anthropic => Some(WireFormat::AnthropicMessages),
            Self::Scripted => None,
        }
    }

    /// The address where none is written.
    pub(crate) const fn base_url(self) -> &'static str {
        match self {
            Self::Openai | Self::OpenaiResponses => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Scripted => "",
        }
    }
}

/// A server of models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenProvider {
    /// What the server speaks.
    pub(crate) kind: ProviderKind,
    /// The address before `/chat/completions`, `/responses` or `/messages`; by default the one of OpenAI or
    /// Anthropic, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// The key, as `env:NAME`: it is taken from that environment variable; or as `secret:NAME`: it is that secret of
    /// the tenant `default`, bound to this server, and only the egress client ever has its value. A key in the file is
    /// refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Kind `openai` only: the field that carries the most tokens of an answer; by default
    /// `max_completion_tokens` at OpenAI itself and `max_tokens` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_limit: Option<WrittenOutputLimit>,
    /// Whether the server takes the JSON Schema of an answer in a field of its own; by default only OpenAI and Anthropic
    /// themselves do. The system text of every model contains the schema, and every answer is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer_schemas: Option<bool>,
    /// How long an answer may take from beginning to end, by default 600000 milliseconds. A fifth of it is for the first
    /// byte, and a tenth for one pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// The field that carries the most tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrittenOutputLimit {
    /// Every server of the format knows it.
    MaxTokens,
    /// OpenAI's reasoning models insist on it.
    MaxCompletionTokens,
}

impl From<WrittenOutputLimit> for OutputLimit {
    fn from(written: WrittenOutputLimit) -> Self {
        match written {
            WrittenOutputLimit::MaxTokens => Self::MaxTokens,
            WrittenOutputLimit::MaxCompletionTokens => Self::MaxCompletionTokens,
        }
    }
}

/// A model. It names its provider; or, in short, it says `kind`, `base_url` and `key` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenModel {
    /// The provider's name, as under `providers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// Without a provider: what the server speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<ProviderKind>,
    /// Without a provider: the server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// The model's id at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Without a provider: the key, as `env:NAME` or `secret:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Whether the answer is streamed, by default yes; without it there are no live tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<bool>,
    /// The fallback aliases, best first, while this model is overloaded, too slow or unreachable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) fallback: Vec<String>,
    /// What tokens cost; by default the built-in price of a well known model, else nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) price: Option<WrittenPrice>,
    /// The model's window: tokens of a request and its answer together. By default the built-in one of a well known
    /// model; without one nothing is left out of a request because of its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context_tokens: Option<u32>,
    /// The most tokens of an answer that the model gives, by default as built in; `engine.output_tokens_max` and half
    /// of the window bound it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_tokens_max: Option<u32>,
}

/// What tokens cost, in millionths of the currency unit per million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenPrice {
    /// A million tokens of requests, in millionths of the currency unit.
    pub(crate) input: u64,
    /// A million tokens of answers, in millionths of the currency unit.
    pub(crate) output: u64,
    /// A million tokens that the provider had in its cache, in millionths; by default as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_read: Option<u64>,
    /// A million tokens that the provider put into its cache, in millionths; by default as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_write: Option<u64>,
}

impl From<TokenPrice> for WrittenPrice {
    fn from(price: TokenPrice) -> Self {
        let TokenPrice { input, output, cache_read, cache_write } = price;
        Self { input, output, cache_read: Some(cache_read), cache_write: Some(cache_write) }
    }
}
