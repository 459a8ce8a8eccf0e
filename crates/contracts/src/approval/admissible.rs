//! Which rules are admissible: the one check of a rule before it is added or proposed.
//!
//! It says why one is not admissible, and finds no tool: the caller knows the tools.

use serde_json::Value;

use super::{ParsedRule, RuleAnswer};
use crate::tool::ArgumentRole;

/// The tool of a rule, as far as it decides which rules are admissible.
#[derive(Debug, Clone, Copy)]
pub struct RuleTool<'t> {
    /// The JSON Schema of its arguments.
    pub parameters: &'t Value,
    /// What its arguments mean, by their names.
    pub roles: &'t [(String, ArgumentRole)],
    /// Whether it runs programs.
    pub runs_programs: bool,
}

/// Why a rule is not admissible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRejection {
    /// The reason.
    pub problem: String,
    /// What would make it admissible, where that is known.
    pub hint: Option<String>,
}

impl ParsedRule {
    /// Says why it is not admissible: it would answer no call, or allow more than its author can see.
    pub fn find_rejection(&self, answer: RuleAnswer, tool: &RuleTool<'_>) -> Option<RuleRejection> {
        let barred = |problem: String| Some(RuleRejection { problem, hint: None });
        // One that refuses would be trusted, and keep nothing out.
        if let Some(problem) = self.never_answers(tool.parameters) {
            return barred(problem);
        }
        if let Some(mistyped) = self.find_mistyped(tool.parameters) {
            return Some(mistyped);
        }
        if answer == RuleAnswer::Deny {
            return None;
        }
        if tool.runs_programs {
            return self.allows_too_much().and_then(|problem| barred(problem.to_owned()));
        }
        let name = self.leaves_open(tool.roles)?;
        Some(RuleRejection {
            problem: format!("a rule that allows {} needs a pattern for {name}", self.tool_name()),
            hint: Some(format!("add {name}=PATTERN; {name}=** matches anything")),
        })
    }
}
