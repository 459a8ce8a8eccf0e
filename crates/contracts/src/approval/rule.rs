//! Which calls a rule answers: a tool, and what some of its arguments look like.
//!
//! `file.write path=notes/**` is the tool and patterns for arguments: `*` matches anything but a `/`, `**` anything. A
//! pattern is tried on texts only; one that begins with `"` is quoted as in JSON. Behind `:=`, as in `count:=3`, comes
//! JSON that must equal the argument, of the same type; a list or an object may come behind `=` too. An argument that
//! is not named may be anything, unless the rule ends with the word `only`: then it answers no call with another
//! argument. What is written is what will match: the rule's author sees the canonical form.
//!
//! `count=3` could be the text or the number, so it is rejected: write `count="3"` or `count:=3`.
//!
//! Which rules are admissible is not decided here: the code that adds one knows which tools run programs.

mod matching;
mod program;
mod syntax;
mod types;

use serde_json::Value;

use crate::tool::ArgumentRole;

pub use self::syntax::RuleError;

/// A rule, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedRule {
    tool: String,
    arguments: Vec<(String, ArgumentPattern)>,
    /// Whether a call has no other arguments.
    only: bool,
}

/// What an argument must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ArgumentPattern {
    /// A text that fits the pattern.
    Like(String),
    /// This very value.
    Same(Value),
}

impl ParsedRule {
    /// The rule that answers a call's arguments, all of them as they are, and nothing else. Nothing for arguments that
    /// are no JSON object, which no tool prepares, and for those that no rule can hold.
    pub fn for_exact_call(tool: &str, arguments: &str) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_str(arguments).ok()? else { return None };
        let same = |(name, value): (String, Value)| match value {
            Value::String(text) if !text.contains('*') => (name, ArgumentPattern::Like(text)),
            // Behind := a star is a star.
            value => (name, ArgumentPattern::Same(value)),
        };
        let arguments = fields.into_iter().map(same).collect();
        Self { tool: tool.to_owned(), arguments, only: true }.read_again()
    }

    /// The rule for a tool with these patterns for arguments; nothing if no rule is spelled so.
    pub(super) fn from_patterns(tool: &str, arguments: Vec<(String, String)>) -> Option<Self> {
        let arguments =
            arguments.into_iter().map(|(name, text)| (name, ArgumentPattern::Like(text))).collect();
        Self { tool: tool.to_owned(), arguments, only: false }.read_again()
    }

    /// Returns it as it is read from its canonical form; nothing if that is no rule, or another one.
    fn read_again(&self) -> Option<Self> {
        Self::parse(&self.to_string()).ok().filter(|read| read == self)
    }

    /// Returns the tool.
    pub fn tool_name(&self) -> &str {
        &self.tool
    }

    /// Returns the names of the arguments that it looks at.
    pub fn argument_names(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(|(name, _)| name.as_str())
    }

    /// Returns whether it looks at an argument.
    fn looks_at(&self, name: &str) -> bool {
        self.argument_names().any(|known| known == name)
    }

    /// Returns the argument that says where a call aims and that may be anything, by the roles of its tool's arguments. A rule
    /// that ends with `only` leaves none open: what it does not name is not there.
    pub fn leaves_open<'r>(&self, roles: &'r [(String, ArgumentRole)]) -> Option<&'r str> {
        let is_open = |name: &str| !self.only && !self.looks_at(name);
        let mut roles = roles.iter();
        roles.find(|(name, role)| role.selects_target() && is_open(name)).map(|(name, _)| name.as_str())
    }

    /// Says why it answers no call of its tool, by the JSON Schema of the tool's arguments: it looks at one that the
    /// tool does not take, or ends with `only` and leaves out one that every call has. A schema that allows others
    /// takes all.
    pub fn never_answers(&self, parameters: &Value) -> Option<String> {
        let is_closed = parameters.get("additionalProperties") == Some(&Value::Bool(false))
            && parameters.get("patternProperties").is_none();
        let taken: Vec<&str> = match parameters.get("properties").and_then(Value::as_object) {
            Some(properties) => properties.keys().map(String::as_str).collect(),
            None => Vec::new(),
        };
        if is_closed && let Some(name) = self.argument_names().find(|name| !taken.contains(name)) {
            let takes = if taken.is_empty() { "none".to_owned() } else { taken.join(", ") };
            return Some(format!(
                "{} has no argument {name}, so the rule would match no call; it has {takes}",
                self.tool
            ));
        }
        let required = parameters.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut required = required.filter_map(Value::as_str).filter(|_| self.only);
        let name = required.find(|name| !self.looks_at(name))?;
        Some(format!(
            "every call of {} has {name}, and `only` excludes it, so the rule would match no call; add \
             {name}=PATTERN, or leave `only` out",
            self.tool
        ))
    }

    /// Returns whether it has a star, so that it matches more than one value of an argument.
    fn is_wide(&self) -> bool {
        self.arguments
            .iter()
            .any(|(_, wanted)| matches!(wanted, ArgumentPattern::Like(text) if text.contains('*')))
    }
}

#[cfg(test)]
mod tests;
