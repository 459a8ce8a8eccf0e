//! Where an answer does not satisfy the JSON Schema it was asked for.

use schemars::JsonSchema;
use serde::Serialize;

/// Where an answer does not satisfy the schema it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SchemaViolation {
    /// The place in the answer, as a JSON pointer; empty for the whole answer.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

/// Says in one line what is wrong with an answer.
pub(crate) fn violations_line(problems: &[SchemaViolation]) -> String {
    let Some((first, rest)) = problems.split_first() else { return String::new() };
    let place = if first.path.is_empty() { String::new() } else { format!("at {}: ", first.path) };
    match rest.len() {
        0 => format!("{place}{}", first.problem),
        more => format!("{place}{} (and {more} more)", first.problem),
    }
}
