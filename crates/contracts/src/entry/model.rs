//! What the entries about models say: attempts at a step of a run, and second opinions about a call.
//!
//! What was said to a model and by it is no field: it lies beside the entry as a body, or is named by its digest.

use serde::{Deserialize, Serialize};

use crate::answer_format::AnswerFormat;
use crate::digest::Digest;
use crate::encoded_request::SentEncoding;
use crate::fault::ErrorCode;
use crate::id::CallId;
use crate::model::{FinishReason, TokenUsage, UsageDetail};
use crate::opinion::ModelOpinion;

/// Fields of [`Entry::ModelCalled`](super::Entry::ModelCalled). With the pinned prompt they rebuild the request exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCalled {
    /// The model step, counted from 1.
    pub step: u32,
    /// The attempt at this step, counted from 1.
    pub attempt: u32,
    /// The alias of the model.
    pub model: String,
    /// The position of the first inbox item in the transcript that was sent.
    pub history_from: u64,
    /// Counted input tokens.
    pub input_tokens: u32,
    /// The most tokens the answer may have.
    pub output_tokens_max: u32,
    /// What is reserved for the attempt.
    pub reserved_micros: u64,
    /// Whether the price of the model is not known, so that the amounts say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpriced: bool,
    /// What was sent.
    pub sent: SentEncoding,
    /// By which rule, and under which policy, the gate let the request out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<JudgedBy>,
}

impl ModelCalled {
    /// The alias of the model that was asked: [`model`](Self::model) or its fallback.
    pub fn asked_alias(&self) -> &str {
        self.sent.wording.by.as_deref().unwrap_or(&self.model)
    }
}

/// What decided about a request to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedBy {
    /// The rule.
    pub rule: String,
    /// The policy that was asked, as the digest of its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
}

/// Fields of [`Entry::ModelReplied`](super::Entry::ModelReplied).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReplied {
    /// The model step.
    pub step: u32,
    /// The attempt.
    pub attempt: u32,
    /// What it used.
    pub usage: TokenUsage,
    /// What the tokens were.
    #[serde(default, skip_serializing_if = "UsageDetail::is_empty")]
    pub detail: UsageDetail,
    /// What it cost.
    pub cost_micros: u64,
    /// Why it stopped.
    pub finish: FinishReason,
    /// The stop text at which it ended; absent from most providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
    /// The tools it asks for, by name, in order; the body has the arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Whether all that was sent for it was trusted, so that what it asks for is planned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
    /// Why nothing of what it said is shown as an answer, if so. It is decided here for every reader of the journal;
    /// the body is the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<WithheldReply>,
    /// The calls that begin in no case, because their arguments in the body are not those that the model wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<MaskedCall>,
}

/// Why nothing of what a model said in a step is shown as an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldReply {
    /// The rule that refused it.
    pub rule: String,
    /// The reason, for people.
    pub reason: String,
}

impl WithheldReply {
    /// Returns whether the reply is withheld because it does not satisfy its schema, so that it may be repaired.
    pub fn is_unfit(&self) -> bool {
        self.rule == AnswerFormat::RULE
    }
}

/// A call whose arguments hold the value of a secret, or may: stars replace it, or nothing does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedCall {
    /// The call.
    pub call: CallId,
    /// What the model gets in place of a result.
    pub reason: String,
}

/// Fields of [`Entry::ModelFailed`](super::Entry::ModelFailed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFailed {
    /// The model step.
    pub step: u32,
    /// The attempt.
    pub attempt: u32,
    /// How many attempts a step has at most, where this one was not lost or abandoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// What happened; `outcome_unknown` for an attempt that a crash cut off.
    pub code: ErrorCode,
    /// What happened, in words.
    pub message: String,
    /// What stays charged: the reservation where the outcome is unknown, else nothing.
    pub charged_micros: u64,
    /// By which rule, and under which policy, the gate kept the request back, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<JudgedBy>,
}

/// Fields of [`Entry::OpinionCalled`](super::Entry::OpinionCalled). The model is sent the same so many times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpinionCalled {
    /// The call.
    pub call: CallId,
    /// The digest of its canonical action.
    pub action: Digest,
    /// The alias of the model.
    pub model: String,
    /// How many times it is asked.
    pub samples: u32,
    /// Counted input tokens of one request.
    pub input_tokens: u32,
    /// The most tokens that one answer may have.
    pub output_tokens_max: u32,
    /// What is reserved for all of them.
    pub reserved_micros: u64,
    /// Whether the price of the model is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpriced: bool,
    /// What is sent each time.
    pub sent: SentEncoding,
    /// By which rule, and under which policy, the gate let the requests out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<JudgedBy>,
}

impl OpinionCalled {
    /// The alias of the model that was asked: [`model`](Self::model) or its fallback.
    pub fn asked_alias(&self) -> &str {
        self.sent.wording.by.as_deref().unwrap_or(&self.model)
    }
}

/// Fields of [`Entry::OpinionGiven`](super::Entry::OpinionGiven).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpinionGiven {
    /// The call.
    pub call: CallId,
    /// The digest of its canonical action.
    pub action: Digest,
    /// What was said; absent where a crash, or the end of the run, cut it off. Without an `OpinionCalled` before it, no
    /// model could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<ModelOpinion>,
    /// What the answers used, as far as it was reported.
    pub usage: TokenUsage,
    /// The tokens that count: those that were reported, and the reserved ones of answers without a report.
    pub tokens: u64,
    /// What the answers cost, those without a report at their reservation.
    pub cost_micros: u64,
}
