//! What is wrong with a configuration: where, what, and the name that was probably meant.

use std::fmt;

use super::positions::TextPosition;

/// The most problems that are printed at once; of the others only the number is printed.
const TOLD_MAX: usize = 20;

/// The most mistakes of form that are looked for in one text.
pub(super) const FOUND_MAX: usize = 100;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    /// The file with line and column, the environment variable, or the flag.
    pub(crate) at: String,
    /// What is wrong, and with which key.
    pub(crate) message: String,
    /// The variable that the environment of this process lacks or has no key in, where that is all.
    pub(crate) unset: Option<String>,
    /// The key whose meaning is wrong; none where it is the form.
    pub(super) key: Option<String>,
    /// The place in the file, where it has one.
    pub(super) place: Option<TextPosition>,
}

impl ConfigProblem {
    /// A mistake at a place.
    pub(crate) fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: at.into(), message: message.into(), unset: None, key: None, place: None }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// Every mistake that was found. The first of them are printed, one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblems(pub(crate) Vec<ConfigProblem>);

impl ConfigProblems {
    /// Lists mistakes in the order of the file; what has no line comes first.
    pub(super) fn from_list(mut problems: Vec<ConfigProblem>) -> Self {
        problems.sort_by_key(|problem| problem.place.map(|TextPosition { line, column }| (line, column)));
        Self(problems)
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(TOLD_MAX).enumerate() {
            let start = if index > 0 { "\n" } else { "" };
            write!(f, "{start}{problem}")?;
        }
        match self.0.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more if self.0.len() >= FOUND_MAX => write!(f, "\nand at least {more} more"),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for ConfigProblems {}

/// Finds the name that was probably meant.
pub(crate) fn nearest_name<'known>(
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
    nearest_name(unknown, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_problems_are_listed_in_file_order_and_others_counted() {
        let at = |line| ConfigProblem {
            place: Some(TextPosition { line, column: 1 }),
            ..ConfigProblem::new(format!("dromia.yaml:{line}:1"), "is wrong")
        };
        let told = |count| ConfigProblems::from_list((1..=count).rev().map(at).collect()).to_string();
        assert_eq!(told(2), "dromia.yaml:1:1: is wrong\ndromia.yaml:2:1: is wrong");
        assert_eq!(told(20).lines().count(), 20);
        let many = told(23);
        assert_eq!(many.lines().count(), 21);
        assert!(many.ends_with("dromia.yaml:20:1: is wrong\nand 3 more"), "{many}");
        assert!(told(100).ends_with("\nand at least 80 more"));
        let mixed = ConfigProblems::from_list(vec![at(1), ConfigProblem::new("DROMIA_LISTEN", "is wrong")])
            .to_string();
        assert_eq!(mixed, "DROMIA_LISTEN: is wrong\ndromia.yaml:1:1: is wrong");
    }

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        assert_eq!(did_you_mean("opnai", ["anthropic", "openai"]), "; did you mean `openai`?");
        assert_eq!(did_you_mean("x", ["openai"]), "");
        assert_eq!(did_you_mean("ab", ["xy"]), "");
        assert_eq!(did_you_mean("anything", []), "");
    }
}
