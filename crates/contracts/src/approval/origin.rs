//! Where the arguments of a call came from, as the approver sees it.
//!
//! This module looks nothing up and decides nothing: it holds what was found when the call was judged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::tool::ArgumentRole;

/// Where an argument's value came from, as far as the conversation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OriginKind {
    /// It is the tool's default value, even where the model wrote it.
    Default,
    /// It occurs, as whole words, in what an authenticated actor typed.
    Said,
    /// The model wrote it, and it occurs nowhere else.
    Written,
    /// It occurs in untrusted content: a tool's result, a file, a claim.
    Found,
}

/// What is known of one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgumentOrigin {
    /// The argument's name.
    pub name: String,
    /// What it means to the gate, if the tool says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ArgumentRole>,
    /// Where its value came from.
    pub origin: OriginKind,
    /// The label of the text that contains it, or of everything that led to it.
    pub label: Label,
    /// The text around it there, [`QUOTE_BYTES_MAX`](super::QUOTE_BYTES_MAX) at most and marked where it is cut off.
    /// Absent where no text contains it, and where it was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
}
