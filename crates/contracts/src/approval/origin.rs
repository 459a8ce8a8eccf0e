//! Where the arguments of a call came from, as a person who is asked is told it.
//!
//! Nobody looks for it here, and nothing is decided by it: it is what was found when the call was judged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::tool::ArgumentRole;

/// Where an argument's value came from, as far as the conversation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is what the tool takes where nobody says anything, whoever wrote it.
    Default,
    /// It stands, as whole words, in what an authenticated actor typed.
    Said,
    /// The model wrote it, and it stands nowhere else.
    Written,
    /// It stands in something that nobody vouches for: a tool's result, a file, a claim.
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
    pub origin: Origin,
    /// The label of the text in which it stands, or of everything that led to it.
    pub label: Label,
    /// What stands around it there, [`QUOTE_BYTES_MAX`](super::QUOTE_BYTES_MAX) at most and marked where it is cut off.
    /// Nothing where it stands nowhere else or nobody looked, and in rows of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
}
