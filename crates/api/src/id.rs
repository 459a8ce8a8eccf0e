//! Ids by a part of them: what the part may name.

use dromia_contracts::id_fragment::IdKind;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most ids that an answer names.
pub const MATCHES_MAX: usize = 10;

/// The ids of one noun that begin or end with the digits asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdMatches {
    /// The noun.
    pub kind: IdKind,
    /// The newest of them, at most 10 and at least one.
    pub matches: Vec<IdMatch>,
    /// Whether there are more.
    pub more: bool,
}

/// One id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdMatch {
    /// The id.
    pub id: String,
    /// When what it names was made.
    pub at: Timestamp,
    /// What people know it by: the first words of an input, a call, a target, rights or a name.
    pub text: String,
}
