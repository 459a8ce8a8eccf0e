//! What is wrong with a policy, with the place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// The file, or the name of the layer where no file is to blame.
    pub file: String,
    /// Line and column, counted from 1, where they are known.
    pub place: Option<(u32, u32)>,
    /// What is wrong.
    pub problem: String,
}

impl PolicyProblem {
    /// Where it is: the file, with line and column where they are known.
    pub fn position_text(&self) -> String {
        match self.place {
            Some((line, column)) => format!("{}:{line}:{column}", self.file),
            None => self.file.clone(),
        }
    }

    pub(super) fn in_file(file: &str, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, problem: problem.into() }
    }

    /// Reads what the interpreter says: `--> FILE:LINE:COLUMN`, the line with a mark, and `error: WHAT`.
    pub(super) fn from_interpreter(file: &str, said: &str) -> Self {
        let place = said.lines().find_map(|line| parse_position(line.strip_prefix("--> ")?));
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

fn parse_position(text: &str) -> Option<(&str, u32, u32)> {
    let (rest, column) = text.trim_end().rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position_text(), self.problem)
    }
}

impl std::error::Error for PolicyProblem {}
