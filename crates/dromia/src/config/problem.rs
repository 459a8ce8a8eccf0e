//! What is wrong with a configuration: where, what, and the name that was probably meant.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file with line and column, the environment variable, or the flag.
    pub(crate) at: String,
    /// What is wrong, and with which key.
    pub(crate) message: String,
    /// The variable that the environment of this process does not have, where that is all.
    pub(crate) unset: Option<String>,
}

impl Problem {
    /// A mistake at a place.
    pub(crate) fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: at.into(), message: message.into(), unset: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// Every mistake that was found, one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{problem}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Finds the name that was probably meant.
pub(crate) fn nearest<'known>(
    unknown: &str,
    known: impl IntoIterator<Item = &'known str>,
) -> Option<&'known str> {
    let bound = 3.min(unknown.chars().count().saturating_sub(1)).max(1);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .min()
        .filter(|(distance, _)| *distance <= bound)
        .map(|(_, known)| known)
}

/// Writes the nearest name as the end of a message; nothing where none is near.
pub(crate) fn did_you_mean<'known>(unknown: &str, known: impl IntoIterator<Item = &'known str>) -> String {
    nearest(unknown, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        assert_eq!(did_you_mean("opnai", ["anthropic", "openai"]), "; did you mean `openai`?");
        assert_eq!(did_you_mean("x", ["openai"]), "");
        assert_eq!(did_you_mean("ab", ["xy"]), "");
        assert_eq!(did_you_mean("anything", []), "");
    }
}
