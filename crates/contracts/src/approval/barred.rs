//! Which rules may stand: what is asked of one before it is added or proposed, so that the two cannot differ.
//!
//! It says why one may not stand, and finds no tool: whoever asks knows the tools.

use serde_json::Value;

use super::{Rule, RuleAnswer};
use crate::tool::ArgumentRole;

/// The tool of a rule, as far as it decides which rules may stand.
#[derive(Debug, Clone, Copy)]
pub struct RuleTool<'t> {
    /// The JSON Schema of its arguments.
    pub parameters: &'t Value,
    /// What its arguments mean, by their names.
    pub roles: &'t [(String, ArgumentRole)],
    /// Whether it runs programs.
    pub runs_programs: bool,
}

/// Why a rule may not stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// The reason.
    pub problem: String,
    /// What would make it stand, where that is known.
    pub hint: Option<String>,
}

impl Rule {
    /// Says why it may not stand: it would answer no call, or allow more than whoever writes it can see.
    pub fn barred(&self, answer: RuleAnswer, tool: &RuleTool<'_>) -> Option<Barred> {
        let barred = |problem: String| Some(Barred { problem, hint: None });
        // One that refuses would be trusted, and keep nothing out.
        if let Some(problem) = self.never_answers(tool.parameters) {
            return barred(problem);
        }
        if let Some(mistyped) = self.mistyped(tool.parameters) {
            return Some(mistyped);
        }
        if answer == RuleAnswer::Deny {
            return None;
        }
        if tool.runs_programs {
            return self.allows_too_much().and_then(|problem| barred(problem.to_owned()));
        }
        let name = self.leaves_open(tool.roles)?;
        Some(Barred {
            problem: format!("a rule that allows {} says what {name} must be", self.tool()),
            hint: Some(format!("add {name}=PATTERN; {name}=** is anything")),
        })
    }
}
