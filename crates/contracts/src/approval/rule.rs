//! Which calls a rule answers: a tool, and what some of its arguments look like.
//!
//! `file.write path=notes/**` is the tool and patterns for arguments: `*` stands for anything but a `/`, `**` for
//! anything. A pattern is tried on texts only; one that begins with `"` stands in JSON's quotes. Behind `:=`, as in
//! `count:=3`, stands JSON that must be the argument itself, of the same type; a list or an object may stand behind `=` too.
//! An argument that is not named may be anything, unless the word `only` stands at the end: then a call with another argument
//! is another call. What is written is what will match: the canonical form is shown to whoever makes the rule.
//!
//! `count=3` could be the text or the number, so nobody writes it: it is `count="3"` or `count:=3`. Programs of before stored
//! it, and there it keeps its meaning, which is both ([`Rule::stored`]).
//!
//! Which rules may stand is not decided here: who adds one knows which tools run programs.

mod typed;

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::tool::ArgumentRole;

/// The longest rule, in bytes.
const BYTES_MAX: usize = 1024;

/// The word at the end of a rule that answers no call with an argument that it does not name.
const ONLY: &str = "only";

/// The most arguments that a rule names.
const ARGUMENTS_MAX: usize = 16;

/// The longest text that a pattern with stars is tried on, in bytes. A longer one matches none.
const TEXT_BYTES_MAX: usize = 4096;

/// Programs that run what they are told: a rule for one would be a rule for everything.
const INTERPRETERS: &[&str] = &[
    "sh", "ash", "bash", "dash", "zsh", "fish", "ksh", "mksh", "csh", "tcsh", "pwsh", "busybox", "env",
    "xargs", "nohup", "nice", "ionice", "taskset", "timeout", "setsid", "stdbuf", "parallel", "flock",
    "unshare", "chroot", "strace", "gdb", "sudo", "su", "doas", "ssh", "awk", "gawk", "mawk", "nawk", "find",
    "make", "ninja", "cargo", "npm", "npx", "pnpm", "yarn", "deno", "bun", "expect", "tclsh",
];

/// The same, of which there are many versions under names of their own.
const VERSIONED: &[&str] = &["python", "perl", "ruby", "node", "php", "lua"];

/// A rule, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    tool: String,
    arguments: Vec<(String, Wanted)>,
    /// Whether a call has no other arguments.
    only: bool,
}

/// What an argument must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// A text that fits the pattern.
    Like(String),
    /// This very value.
    Same(Value),
    /// This text, or the number, truth value or null that is written so; of stored rules only.
    Either(String),
}

/// Whose spelling a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Of whoever writes a rule.
    Written,
    /// Of this or an earlier program.
    Stored,
}

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

impl Rule {
    /// Reads a rule. One that would not be read again as it is shown is refused.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Self::spelled(text, Spelling::Written)
    }

    /// Reads a rule that was stored, by this program or by one of before, as it was meant then.
    pub fn stored(text: &str) -> Result<Self, RuleError> {
        Self::spelled(text, Spelling::Stored)
    }

    fn spelled(text: &str, spelling: Spelling) -> Result<Self, RuleError> {
        let rule = Self::read(text, spelling)?;
        if Self::read(&rule.to_string(), spelling).as_ref() == Ok(&rule) {
            Ok(rule)
        } else {
            Err(RuleError { at: 0, problem: "written out it is another rule, or too long" })
        }
    }

    fn read(text: &str, spelling: Spelling) -> Result<Self, RuleError> {
        let wrong = |at: usize, problem| RuleError { at, problem };
        if text.len() > BYTES_MAX {
            return Err(wrong(BYTES_MAX, "it is longer than 1024 bytes"));
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(wrong(at, "it holds a control character"));
        }
        let mut at = text.len() - text.trim_start().len();
        let rest = &text[at..];
        let end = rest.find(' ').unwrap_or(rest.len());
        let tool = &rest[..end];
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if tool.is_empty() || !tool.bytes().all(is_plain) {
            return Err(wrong(at, "it begins with the name of one tool, such as file.write"));
        }
        at += end;
        let mut arguments: Vec<(String, Wanted)> = Vec::new();
        loop {
            let rest = &text[at..];
            at += rest.len() - rest.trim_start().len();
            let rest = &text[at..];
            if rest.is_empty() || rest.trim_end() == ONLY {
                return Ok(Self { tool: tool.to_owned(), arguments, only: !rest.is_empty() });
            }
            let Some((name, value)) = rest.split_once('=') else {
                return Err(wrong(at, "behind the tool stand NAME=PATTERN or NAME:=JSON"));
            };
            let (name, is_typed) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || !name.bytes().all(is_word) {
                return Err(wrong(at, "before = stands the name of one argument"));
            }
            if arguments.iter().any(|(known, _)| known == name) {
                return Err(wrong(at, "an argument is named twice"));
            }
            if arguments.len() == ARGUMENTS_MAX {
                return Err(wrong(at, "it names more than 16 arguments"));
            }
            at += rest.len() - value.len();
            let read = if is_typed {
                json(value).map(|(value, length)| (Wanted::Same(value), length))
            } else {
                pattern(value, spelling)
            };
            let (wanted, length) = read.map_err(|problem| wrong(at, problem))?;
            at += length;
            if !text[at..].is_empty() && !text[at..].starts_with(' ') {
                return Err(wrong(at, "between two arguments stands a space"));
            }
            arguments.push((name.to_owned(), wanted));
        }
    }

    /// The rule that answers a call's arguments, all of them as they are, and nothing else. Nothing for arguments that
    /// are no JSON object, which no tool prepares, and for those that no rule can hold.
    pub fn exact(tool: &str, arguments: &str) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_str(arguments).ok()? else { return None };
        let same = |(name, value): (String, Value)| match value {
            Value::String(text) if !text.contains('*') => (name, Wanted::Like(text)),
            // Behind := a star is a star.
            value => (name, Wanted::Same(value)),
        };
        let arguments = fields.into_iter().map(same).collect();
        let rule = Self { tool: tool.to_owned(), arguments, only: true };
        Self::parse(&rule.to_string()).ok().filter(|read| *read == rule)
    }

    /// The rule for a tool with these patterns for arguments; nothing if no rule is spelled so.
    pub(super) fn like(tool: &str, arguments: Vec<(String, String)>) -> Option<Self> {
        let arguments = arguments.into_iter().map(|(name, text)| (name, Wanted::Like(text))).collect();
        let rule = Self { tool: tool.to_owned(), arguments, only: false };
        Self::parse(&rule.to_string()).ok().filter(|read| *read == rule)
    }

    /// Returns the tool.
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// Returns the names of the arguments that it looks at.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the argument that says where a call aims and that may be anything, by the roles of its tool's arguments. A rule
    /// that ends with `only` leaves none open: what it does not name is not there.
    pub fn leaves_open<'r>(&self, roles: &'r [(String, ArgumentRole)]) -> Option<&'r str> {
        let is_open = |name: &str| !self.only && !self.names().any(|known| known == name);
        let mut roles = roles.iter();
        roles.find(|(name, role)| role.aims() && is_open(name)).map(|(name, _)| name.as_str())
    }

    /// Says why it answers no call of its tool, by the JSON Schema of the tool's arguments: it looks at one that the tool does
    /// not take, or ends with `only` and leaves out one that every call has. A schema that leaves room for others has none that
    /// it does not take.
    pub fn never_answers(&self, parameters: &Value) -> Option<String> {
        let is_closed = parameters.get("additionalProperties") == Some(&Value::Bool(false))
            && parameters.get("patternProperties").is_none();
        let taken: Vec<&str> = match parameters.get("properties").and_then(Value::as_object) {
            Some(properties) => properties.keys().map(String::as_str).collect(),
            None => Vec::new(),
        };
        if is_closed && let Some(name) = self.names().find(|name| !taken.contains(name)) {
            let takes = if taken.is_empty() { "none".to_owned() } else { taken.join(", ") };
            return Some(format!(
                "{} takes no argument {name}, so the rule would answer no call; it takes {takes}",
                self.tool
            ));
        }
        let required = parameters.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut required = required.filter_map(Value::as_str).filter(|_| self.only);
        let name = required.find(|name| !self.names().any(|known| known == *name))?;
        Some(format!(
            "every call of {} has {name}, and `only` leaves it out, so the rule would answer no call; add \
             {name}=PATTERN, or leave `only` out",
            self.tool
        ))
    }

    /// Tells whether it has a star, so that it matches more than one value of an argument.
    pub(super) fn is_wide(&self) -> bool {
        self.arguments.iter().any(|(_, wanted)| matches!(wanted, Wanted::Like(text) if text.contains('*')))
    }

    /// Lists every text that it names, those within JSON included.
    fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for (_, wanted) in &self.arguments {
            match wanted {
                Wanted::Like(text) | Wanted::Either(text) => texts.push(text.as_str()),
                Wanted::Same(value) => leaves(value, &mut texts),
            }
        }
        texts
    }

    /// Says why it allows too much, if it is of a tool that runs programs.
    pub fn allows_too_much(&self) -> Option<&'static str> {
        if self.is_wide() || self.arguments.is_empty() {
            return Some("a rule that allows a program names it with all its words, without stars");
        }
        let is_interpreter = |text: &&str| {
            let program = text.split_whitespace().next().unwrap_or_default();
            let program = program.rsplit('/').next().unwrap_or_default();
            INTERPRETERS.contains(&program) || VERSIONED.iter().any(|name| program.starts_with(name))
        };
        if !self.names().any(|name| name == "argv") || self.texts().iter().any(is_interpreter) {
            return Some("no rule allows a shell, an interpreter or what starts other programs");
        }
        if self.program().is_some_and(depends_on_cwd) && !self.names().any(|name| name == "cwd") {
            return Some(
                "a rule that allows a program by a relative path says from where; add cwd=DIRECTORY",
            );
        }
        None
    }

    /// Returns the first word of a program that it names.
    fn program(&self) -> Option<&str> {
        let argv = self.arguments.iter().find(|(name, _)| name == "argv");
        argv.and_then(|(_, wanted)| match wanted {
            Wanted::Same(Value::Array(words)) => words.first()?.as_str(),
            Wanted::Same(_) | Wanted::Like(_) | Wanted::Either(_) => None,
        })
    }

    /// Tells whether it answers a call with these canonical arguments. What is no JSON object is answered by none.
    pub fn matches(&self, tool: &str, arguments: &str) -> bool {
        let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else { return false };
        let fits = |(name, wanted): &(String, Wanted)| match (fields.get(name), wanted) {
            (Some(Value::String(text)), Wanted::Like(pattern)) => like(pattern, text),
            (Some(Value::String(text)), Wanted::Either(known)) => text == known,
            (Some(value @ (Value::Null | Value::Bool(_) | Value::Number(_))), Wanted::Either(known)) => {
                let written = value.to_string();
                *known == written
            }
            (Some(value), Wanted::Same(same)) => are_same(value, same),
            (Some(Value::Array(_) | Value::Object(_)), Wanted::Either(_))
            | (Some(_), Wanted::Like(_))
            | (None, _) => false,
        };
        // Each is named once, so as many are the same ones.
        let has_others = fields.len() > self.arguments.len();
        self.tool == tool && !(self.only && has_others) && self.arguments.iter().all(fits)
    }
}

/// Tells whether two values are the same; 3 and 3.0 are one number, however they are written.
fn are_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let whole = |number: &serde_json::Number| {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            };
            match (whole(one), whole(other)) {
                (Some(one), Some(other)) => one == other,
                _ => one.as_f64().partial_cmp(&other.as_f64()) == Some(Ordering::Equal),
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let fits =
                |(name, one): (&String, &Value)| other.get(name).is_some_and(|other| are_same(one, other));
            one.len() == other.len() && one.iter().all(fits)
        }
        _ => one == other,
    }
}

/// Writes the canonical form, which is read as the same rule.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tool)?;
        for (name, wanted) in &self.arguments {
            match wanted {
                Wanted::Like(text)
                    if !text.is_empty()
                        && !text.contains(|c: char| c == ' ' || c == '\\' || c.is_control())
                        && !text.starts_with(['"', '[', '{'])
                        && !is_scalar(text) =>
                {
                    write!(f, " {name}={text}")?;
                }
                Wanted::Like(text) => write!(f, " {name}={}", Value::from(text.as_str()))?,
                Wanted::Same(value @ (Value::Array(_) | Value::Object(_))) => write!(f, " {name}={value}")?,
                Wanted::Same(value) => write!(f, " {name}:={value}")?,
                Wanted::Either(text) => write!(f, " {name}={text}")?,
            }
        }
        if self.only { write!(f, " {ONLY}") } else { Ok(()) }
    }
}

/// Tells whether the directory in which a program is started decides which file it is. A plain name is looked for in the
/// directories of the system only, and an absolute path is one file, but for those that lead back to the directory.
fn depends_on_cwd(program: &str) -> bool {
    program.contains('/') && (!program.starts_with('/') || program.contains("/proc/"))
}

/// Reads what stands behind `=`, and tells how many bytes it takes.
fn pattern(text: &str, spelling: Spelling) -> Result<(Wanted, usize), &'static str> {
    if text.starts_with(['"', '[', '{']) {
        let (value, length) = json(text)?;
        let wanted = match value {
            Value::String(text) => Wanted::Like(text),
            value => Wanted::Same(value),
        };
        return Ok((wanted, length));
    }
    let end = text.find(' ').unwrap_or(text.len());
    let bare = text[..end].to_owned();
    match spelling {
        _ if !is_scalar(&bare) => Ok((Wanted::Like(bare), end)),
        Spelling::Stored => Ok((Wanted::Either(bare), end)),
        Spelling::Written => Err(TWO_MEANINGS),
    }
}

/// Reads a value of JSON, and tells how many bytes it takes.
fn json(text: &str) -> Result<(Value, usize), &'static str> {
    const WRONG: &str = "the value is no JSON";
    if text.starts_with(char::is_whitespace) {
        return Err(WRONG);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().and_then(Result::ok).ok_or(WRONG)?;
    Ok((value, values.byte_offset()))
}

/// Tells whether a text is JSON of a number, a truth value or null.
fn is_scalar(text: &str) -> bool {
    matches!(serde_json::from_str(text), Ok(Value::Null | Value::Bool(_) | Value::Number(_)))
}

fn leaves<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| leaves(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| leaves(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Tells whether a text fits a pattern. Its cost is bounded by the product of both lengths, which are bounded.
fn like(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == text;
    }
    if text.len() > TEXT_BYTES_MAX {
        return false;
    }
    let text = text.as_bytes();
    // For each place of the text, whether the pattern so far fits what is before it.
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    let mut rest = pattern.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'*' {
            let deep = after.first() == Some(&b'*');
            rest = if deep { &after[1..] } else { after };
            let mut before = fits[0];
            for (fit, byte) in fits.iter_mut().skip(1).zip(text) {
                *fit = *fit || (before && (deep || *byte != b'/'));
                before = *fit;
            }
        } else {
            rest = after;
            let mut before = std::mem::take(&mut fits[0]);
            for (fit, byte) in fits.iter_mut().skip(1).zip(text) {
                before = std::mem::replace(fit, before && byte == first);
            }
        }
    }
    fits.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests;
