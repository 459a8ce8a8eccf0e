//! Servers of models, the models at them, and what their tokens cost.

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::identity_document::PromptKind;
use dromia_contracts::model_route::ModelRouteRule;
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
    /// API of the server. `openai`: chat completions, for OpenAI, Ollama, vLLM, llama.cpp and most gateways.
    /// `openai_responses`: OpenAI responses. `anthropic`: Anthropic messages. `scripted`: the built-in test model,
    /// which is not an LLM.
    pub(crate) kind: ProviderKind,
    /// URL before `/chat/completions`, `/responses` or `/messages`. Default: the public server of OpenAI or Anthropic,
    /// depending on `kind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// Reference to the API key: `env:NAME` for an environment variable, or `secret:NAME` for a secret in the vault of
    /// the tenant `default` that is bound to this server. The key itself in the file is an error. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Request field that carries the token limit of an answer, for kind `openai` only: `max_tokens` or
    /// `max_completion_tokens`. Default: `max_completion_tokens` for OpenAI itself, `max_tokens` for other servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_limit: Option<WrittenOutputLimit>,
    /// Whether the server accepts the JSON Schema of an answer as a request field. Default: only OpenAI and Anthropic
    /// themselves. Every model gets the schema in its system text as well, and every answer is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer_schemas: Option<bool>,
    /// Time that one answer may take, in milliseconds. The first byte must arrive within a fifth of it, and no pause
    /// may be longer than a tenth. Default: 600000. Raise it for slow local models.
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
    /// Name of an entry of `providers`. Without it, `kind`, `base_url` and `key` describe the server here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// API of the server, for a model without `provider`. `openai`: chat completions, for OpenAI, Ollama, vLLM,
    /// llama.cpp and most gateways. `openai_responses`: OpenAI responses. `anthropic`: Anthropic messages. `scripted`:
    /// the built-in test model, which is not an LLM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<ProviderKind>,
    /// URL of the server, for a model without `provider`. Default: as for `providers.NAME.base_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// The provider's id of the model, such as `gpt-5-mini`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Reference to the API key, for a model without `provider`: `env:NAME` or `secret:NAME`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Whether answers are streamed. Default: true. Set it to false for a server that cannot stream; clients then get
    /// an answer in one piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<bool>,
    /// Aliases of models that answer while this one is overloaded, too slow or unreachable; the first that can is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) fallback: Vec<String>,
    /// Price of tokens, for costs and money budgets. Default: the built-in price of well-known models; other models
    /// cost 0 and are shown as `unpriced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) price: Option<WrittenPrice>,
    /// Context window: most tokens of a request and its answer together. Default: the built-in value of well-known
    /// models; for others no history is left out because of its length. Set it for local models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context_tokens: Option<u32>,
    /// Most tokens of an answer that the model can produce. Default: the built-in value of well-known models.
    /// `engine.output_tokens_max` and half of the context window limit an answer too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_tokens_max: Option<u32>,
    /// Rules by which other models answer some runs of agents that name this alias: the first rule of which all holds
    /// chooses, and the run keeps that model. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<WrittenRoute>,
}

/// When another model answers. A rule names at least one condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRoute {
    /// Alias of the model that answers.
    pub(crate) model: String,
    /// Kind of the run: `turn`, `worker` or `compaction`. A branch is answered by the model of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<PromptKind>,
    /// Role of a worker, such as `coder`: only workers that were given this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) role: Option<HandleSlug>,
    /// Platform of the session, such as `webhook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<String>,
    /// Least size of the run's inputs, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input_bytes_min: Option<u64>,
    /// Whether the run's inputs have pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pictures: Option<bool>,
    /// Whether the conversation holds something untrusted, such as a web page or a file of unknown origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) untrusted: Option<bool>,
}

impl From<&WrittenRoute> for ModelRouteRule {
    fn from(written: &WrittenRoute) -> Self {
        let WrittenRoute { model, kind, role, platform, input_bytes_min, pictures, untrusted } =
            written.clone();
        Self { kind, role, platform, input_bytes_min, pictures, untrusted, model }
    }
}

/// What tokens cost, in millionths of the currency unit per million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenPrice {
    /// Price of one million request tokens, in millionths of the currency unit: 250000 is 0.25.
    pub(crate) input: u64,
    /// Price of one million answer tokens, in millionths of the currency unit.
    pub(crate) output: u64,
    /// Price of one million request tokens that the provider read from its cache, in millionths of the currency unit.
    /// Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_read: Option<u64>,
    /// Price of one million request tokens that the provider wrote to its cache, in millionths of the currency unit.
    /// Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_write: Option<u64>,
}

impl From<TokenPrice> for WrittenPrice {
    fn from(price: TokenPrice) -> Self {
        let TokenPrice { input, output, cache_read, cache_write } = price;
        Self { input, output, cache_read: Some(cache_read), cache_write: Some(cache_write) }
    }
}
