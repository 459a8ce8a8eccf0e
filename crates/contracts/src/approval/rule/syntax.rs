//! How a rule is spelled: what is read, and the canonical form, which is read as the same rule.
//!
//! One that would not be read again as it is shown is refused, with the place. Which calls it answers is not known here.

use std::fmt;

use serde_json::Value;

use super::{ArgumentPattern, ParsedRule};

/// The longest rule, in bytes.
const BYTES_MAX: usize = 1024;

/// The word at the end of a rule that answers no call with an argument that it does not name.
const ONLY: &str = "only";

/// The most arguments that a rule names.
const ARGUMENTS_MAX: usize = 16;

/// What is said of `count=3`.
const TWO_MEANINGS: &str =
    "write NAME:=VALUE for a number, true, false or null, and NAME=\"VALUE\" for a text that looks like one";

/// Says why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule cannot be read at byte {at}: {problem}")]
pub struct RuleError {
    /// Where, counted from 0.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl ParsedRule {
    /// Reads a rule. One that would not be read again as it is shown is refused.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let rule = Self::parse_once(text)?;
        if Self::parse_once(&rule.to_string()).as_ref() == Ok(&rule) {
            Ok(rule)
        } else {
            Err(RuleError { at: 0, problem: "in canonical form it is another rule, or too long" })
        }
    }

    fn parse_once(text: &str) -> Result<Self, RuleError> {
        let wrong = |at: usize, problem| RuleError { at, problem };
        if text.len() > BYTES_MAX {
            return Err(wrong(BYTES_MAX, "it is longer than 1024 bytes"));
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(wrong(at, "it contains a control character"));
        }
        let mut at = text.len() - text.trim_start().len();
        let rest = &text[at..];
        let end = rest.find(' ').unwrap_or(rest.len());
        let tool = &rest[..end];
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if tool.is_empty() || !tool.bytes().all(is_plain) {
            return Err(wrong(at, "it must begin with the name of one tool, such as file.write"));
        }
        at += end;
        let mut arguments: Vec<(String, ArgumentPattern)> = Vec::new();
        loop {
            let rest = &text[at..];
            at += rest.len() - rest.trim_start().len();
            let rest = &text[at..];
            if rest.is_empty() || rest.trim_end() == ONLY {
                return Ok(Self { tool: tool.to_owned(), arguments, only: !rest.is_empty() });
            }
            let Some((name, value)) = rest.split_once('=') else {
                return Err(wrong(at, "after the tool comes NAME=PATTERN or NAME:=JSON"));
            };
            let (name, is_typed) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || !name.bytes().all(is_word) {
                return Err(wrong(at, "before = comes the name of one argument"));
            }
            if arguments.iter().any(|(known, _)| known == name) {
                return Err(wrong(at, "an argument appears twice"));
            }
            if arguments.len() == ARGUMENTS_MAX {
                return Err(wrong(at, "it names more than 16 arguments"));
            }
            at += rest.len() - value.len();
            let read = if is_typed {
                parse_json(value).map(|(value, length)| (ArgumentPattern::Same(value), length))
            } else {
                parse_pattern(value)
            };
            let (wanted, length) = read.map_err(|problem| wrong(at, problem))?;
            at += length;
            if !text[at..].is_empty() && !text[at..].starts_with(' ') {
                return Err(wrong(at, "a space is missing between two arguments"));
            }
            arguments.push((name.to_owned(), wanted));
        }
    }
}

/// Writes the canonical form, which is read as the same rule.
impl fmt::Display for ParsedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tool)?;
        for (name, wanted) in &self.arguments {
            match wanted {
                ArgumentPattern::Like(text)
                    if !text.is_empty()
                        && !text.contains(|c: char| c == ' ' || c == '\\' || c.is_control())
                        && !text.starts_with(['"', '[', '{'])
                        && !is_scalar(text) =>
                {
                    write!(f, " {name}={text}")?;
                }
                ArgumentPattern::Like(text) => write!(f, " {name}={}", Value::from(text.as_str()))?,
                ArgumentPattern::Same(value @ (Value::Array(_) | Value::Object(_))) => {
                    write!(f, " {name}={value}")?;
                }
                ArgumentPattern::Same(value) => write!(f, " {name}:={value}")?,
            }
        }
        if self.only { write!(f, " {ONLY}") } else { Ok(()) }
    }
}

/// Reads what follows `=`, and returns how many bytes it takes.
fn parse_pattern(text: &str) -> Result<(ArgumentPattern, usize), &'static str> {
    if text.starts_with(['"', '[', '{']) {
        let (value, length) = parse_json(text)?;
        let wanted = match value {
            Value::String(text) => ArgumentPattern::Like(text),
            value => ArgumentPattern::Same(value),
        };
        return Ok((wanted, length));
    }
    let end = text.find(' ').unwrap_or(text.len());
    let bare = text[..end].to_owned();
    if is_scalar(&bare) { Err(TWO_MEANINGS) } else { Ok((ArgumentPattern::Like(bare), end)) }
}

/// Reads a value of JSON, and returns how many bytes it takes.
fn parse_json(text: &str) -> Result<(Value, usize), &'static str> {
    const WRONG: &str = "the value is not JSON";
    if text.starts_with(char::is_whitespace) {
        return Err(WRONG);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().and_then(Result::ok).ok_or(WRONG)?;
    Ok((value, values.byte_offset()))
}

/// Returns whether a text is JSON of a number, a truth value or null.
fn is_scalar(text: &str) -> bool {
    matches!(serde_json::from_str(text), Ok(Value::Null | Value::Bool(_) | Value::Number(_)))
}
