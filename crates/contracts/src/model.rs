//! The port to models.
//!
//! The messages are ours; an adapter turns them into its provider's wire format. An adapter makes exactly one
//! attempt: retries, fallback and charging belong to the engine, because each attempt is journaled.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::client::SamplingOptions;
use crate::encoded_request::RequestEncoding;
use crate::fault::ErrorCode;
use crate::model_route::RouteFacts;
use crate::tool::ToolDescriptor;
use crate::transcript::Transcript;

/// One request: everything that the provider is sent.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// The alias under which the operator configured the model.
    pub model: String,
    /// The system text.
    pub system: Arc<str>,
    /// The conversation, ending with what must be answered.
    pub transcript: Transcript,
    /// The tools that may be called.
    pub tools: Arc<[ToolDescriptor]>,
    /// The most tokens the answer may have.
    pub output_tokens_max: u32,
    /// How the client wishes the answer to be; its wish for a length is in `output_tokens_max` already. A format that
    /// cannot carry a wish refuses the request.
    pub wishes: SamplingOptions,
    /// The run and the step; the same for every attempt.
    pub key: String,
}

/// One attempt, ready to be sent: who is asked, in which words, and what it may cost at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedAttempt {
    /// How the request is written.
    pub wording: RequestEncoding,
    /// The request as it is written; it holds no key.
    pub body: Bytes,
    /// Counted input tokens of what is sent, as they count against the model's window.
    pub input_tokens: u32,
    /// The most tokens the answer may have: what was asked for, or less where the model gives less.
    pub output_tokens_max: u32,
    /// The reservation in millionths of the price table's currency unit: the most that the input and the longest answer
    /// can cost at list price.
    pub reserved_micros: u64,
    /// Whether the list price is known. What is free on purpose has a known price.
    pub priced: bool,
    /// The window of the model, in tokens, if it is known.
    pub window: Option<u32>,
}

/// Tokens that an attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenUsage {
    /// Tokens of the request.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
}

/// What the tokens of an attempt were, as far as the provider says: parts of [`TokenUsage`], not beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageDetail {
    /// Tokens of the request that the provider had in its cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_read_tokens: u32,
    /// Tokens of the request that the provider put into its cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u32,
    /// Tokens of the answer that the model thought and did not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u32,
}

impl UsageDetail {
    /// Returns whether the provider said nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(tokens: &u32) -> bool {
    *tokens == 0
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It said all it wanted to say.
    Stop,
    /// It waits for the results of its calls.
    ToolCalls,
    /// It reached the most tokens it was allowed.
    Length,
}

/// A call that the model proposes; the engine gives it its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedCall {
    /// The tool's name as the model wrote it.
    pub tool: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReply {
    /// What it said.
    pub text: String,
    /// The calls it asks for.
    pub calls: Vec<ProposedCall>,
    /// What it used.
    pub usage: TokenUsage,
    /// What the tokens were.
    pub detail: UsageDetail,
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// Why it stopped.
    pub finish: FinishReason,
    /// The stop text at which it ended, where the provider says so.
    pub stopped_at: Option<String>,
}

/// An attempt that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// `model_unavailable`, `model_rejected` or `model_cut`; before an attempt also `context_exceeded`, and `action_denied`
    /// where the gate let none be made.
    pub code: ErrorCode,
    /// What happened, without keys or addresses.
    pub message: String,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
}

/// Where live text goes while an attempt runs. It may drop text; the reply is the truth.
pub trait DeltaSink: Send + Sync {
    /// Takes the next piece of text.
    fn push_delta(&self, text: &str);
}

/// The port to models.
///
/// Guarantee: [`LanguageModel::prepare_attempt`] sends nothing, and what it prepares is written by [`LanguageModel::encode_request`]. [`LanguageModel::call_model`]
/// makes one attempt with exactly the bytes that were prepared and ends by its own deadlines; dropping the future
/// cancels the attempt. The cost that it reports is never above the reservation.
pub trait LanguageModel: Send + Sync + fmt::Debug {
    /// Returns whether an alias is configured.
    fn knows_alias(&self, alias: &str) -> bool;

    /// Lists the aliases that are configured, in order.
    fn list_aliases(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the window of the model behind an alias, in tokens, if it is known.
    fn context_window(&self, _alias: &str) -> Option<u32> {
        None
    }

    /// Returns the alias that answers a run in the place of the one that its agent names, if a rule of that one says so.
    fn route_alias(&self, _alias: &str, _facts: &RouteFacts<'_>) -> Option<String> {
        None
    }

    /// Chooses who is asked now, leaves out what does not fit, and writes the request.
    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError>;

    /// Writes a request in given words. Pure: the same request and wording give the same bytes in any process of this
    /// version. A form that is not known is an error.
    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError>;

    /// Makes the attempt that was prepared from the request.
    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>>;
}
