//! What is wrong with a policy, with the place.

use std::fmt;

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file, or the name of the layer where no file is to blame.
    pub file: String,
    /// Line and column, counted from 1, where they are known.
    pub place: Option<(u32, u32)>,
    /// What is wrong.
    pub problem: String,
}

impl PolicyProblem {
    pub(super) fn of(file: &str, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, problem: problem.into() }
    }

    /// Reads what the interpreter says: `--> FILE:LINE:COLUMN`, the line with a mark, and `error: WHAT`.
    pub(super) fn read(file: &str, said: &str) -> Self {
        let place = said.lines().find_map(|line| place(line.strip_prefix("--> ")?));
        let problem = said
            .lines()
            .find_map(|line| line.strip_prefix("error: "))
            .or_else(|| said.lines().find(|line| !line.trim().is_empty()))
            .unwrap_or("it cannot be read")
            .chars()
            .take(300)
            .collect();
        match place {
            Some((file, line, column)) => {
                Self { file: file.to_owned(), place: Some((line, column)), problem }
            }
            None => Self { file: file.to_owned(), place: None, problem },
        }
    }
}

fn place(text: &str) -> Option<(&str, u32, u32)> {
    let (rest, column) = text.trim_end().rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for PolicyProblem {}
