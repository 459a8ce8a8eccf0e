//! The arguments of the tools that look into text files: `file.search` and `file.edit`.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{WRITE_BYTES_MAX, deserialize_bounded};
use crate::path::{FilePath, WorkspacePath};

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 10;
/// The most memory that a pattern may take, for itself and while it looks.
const PATTERN_MEMORY_MAX: usize = 256 << 10;
/// The most places that one edit changes.
const EDITS_MAX: u32 = 1000;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEdit {
    /// How often old occurs; 1 by default.
    #[serde(default = "once", deserialize_with = "edits")]
    pub(crate) count: u32,
    #[serde(deserialize_with = "edited")]
    pub(crate) new: String,
    #[serde(deserialize_with = "edited")]
    pub(crate) old: String,
    #[schemars(with = "String")]
    pub(crate) path: FilePath,
}

impl FileEdit {
    /// Checks what one argument means for another.
    pub(crate) fn check_arguments(&self) -> Result<(), String> {
        if self.old.is_empty() {
            return Err("old: the text to replace is empty; file.write and file.append add text".to_owned());
        }
        if self.old == self.new {
            return Err("new: it is equal to old".to_owned());
        }
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSearch {
    /// After this match.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "place")]
    #[schemars(with = "String")]
    pub(crate) after: Option<MatchLocation>,
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) path: WorkspacePath,
    #[serde(deserialize_with = "pattern")]
    pub(crate) pattern: String,
    /// Whether pattern is a regex.
    #[serde(default)]
    pub(crate) regex: bool,
}

impl FileSearch {
    /// Makes what matches lines; its time is linear in what it looks at.
    pub(crate) fn compile_pattern(&self) -> Result<Regex, String> {
        let pattern = if self.regex { self.pattern.clone() } else { regex::escape(&self.pattern) };
        let built = RegexBuilder::new(&pattern)
            .size_limit(PATTERN_MEMORY_MAX)
            .dfa_size_limit(PATTERN_MEMORY_MAX)
            .build();
        built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "pattern: it needs too much memory; use fewer repetitions".to_owned()
            }
            error => format!("pattern: {error}"),
        })
    }
}

/// Where a match is, written `PATH:LINE` as in a search result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MatchLocation {
    pub(crate) path: WorkspacePath,
    pub(crate) line: u64,
}

impl MatchLocation {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a place is PATH:LINE, as a search prints it".to_owned();
        let (path, line) = text.rsplit_once(':').ok_or_else(wrong)?;
        let line = line.parse().map_err(|_| wrong())?;
        let path = WorkspacePath::parse(path).map_err(|error| error.to_string())?;
        Ok(Self { path, line })
    }
}

impl fmt::Display for MatchLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

impl Serialize for MatchLocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn once() -> u32 {
    1
}

fn edits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(de::Error::custom("the count must be at least 1")),
        count if count > EDITS_MAX => {
            Err(de::Error::custom(format!("the count must be at most {EDITS_MAX}")))
        }
        count => Ok(count),
    }
}

fn edited<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserialize_bounded(deserializer, WRITE_BYTES_MAX)
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let pattern = deserialize_bounded(deserializer, PATTERN_BYTES_MAX)?;
    if pattern.is_empty() {
        return Err(de::Error::custom("the pattern is empty"));
    }
    if pattern.contains(['\n', '\r']) {
        return Err(de::Error::custom(
            "a search reads line by line; a pattern must not contain a line break",
        ));
    }
    Ok(pattern)
}

/// Reads a place; an empty one is none.
fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MatchLocation>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        text => MatchLocation::parse(text).map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{canonical_arguments, parse_arguments};
    use super::*;

    #[test]
    fn text_arguments_get_sorted_keys_and_filled_defaults() {
        for (given, expected) in [
            (
                canonical_arguments::<FileEdit>(r#"{"path":"./a","old":"x","new":"y"}"#),
                r#"{"count":1,"new":"y","old":"x","path":"a"}"#,
            ),
            (
                canonical_arguments::<FileSearch>(r#"{"pattern":"x"}"#),
                r#"{"path":".","pattern":"x","regex":false}"#,
            ),
            (
                canonical_arguments::<FileSearch>(
                    r#"{"pattern":"x","regex":true,"path":"a/","after":"a/./b:c:12"}"#,
                ),
                r#"{"after":"a/b:c:12","path":"a","pattern":"x","regex":true}"#,
            ),
            (
                canonical_arguments::<FileSearch>(r#"{"pattern":"x","after":""}"#),
                r#"{"path":".","pattern":"x","regex":false}"#,
            ),
        ] {
            assert_eq!(given.as_deref(), Ok(expected));
        }
    }

    #[test]
    fn unfit_text_arguments_are_refused_with_their_place() {
        for (problem, place) in [
            (canonical_arguments::<FileEdit>(r#"{"path":"a","old":"x"}"#), "missing field `new`"),
            (
                canonical_arguments::<FileEdit>(r#"{"path":"a","old":"x","new":"y","count":0}"#),
                "count: the count must be at least 1",
            ),
            (
                canonical_arguments::<FileEdit>(r#"{"path":"a","old":"x","new":"y","count":1001}"#),
                "count: the count must be at most",
            ),
            (canonical_arguments::<FileSearch>(r#"{"pattern":""}"#), "pattern: the pattern is empty"),
            (
                canonical_arguments::<FileSearch>(r#"{"pattern":"a\nb"}"#),
                "pattern: a search reads line by line",
            ),
            (
                canonical_arguments::<FileSearch>(r#"{"pattern":"a","after":"b"}"#),
                "after: a place is PATH:LINE",
            ),
            (
                canonical_arguments::<FileSearch>(r#"{"pattern":"a","after":"../b:1"}"#),
                "after: a path must not contain ..",
            ),
        ] {
            let problem = problem.expect_err(place);
            assert!(problem.contains(place), "{problem:?} does not say {place:?}");
        }
        let checked =
            |arguments: &str| parse_arguments::<FileEdit>(arguments).expect("it reads").check_arguments();
        assert!(checked(r#"{"path":"a","old":"","new":"y"}"#).expect_err("empty").starts_with("old: "));
        assert!(checked(r#"{"path":"a","old":"y","new":"y"}"#).expect_err("equal").starts_with("new: "));
    }

    #[test]
    fn a_search_pattern_is_literal_unless_declared_a_regex() {
        let compiled = |pattern: &str, regex| {
            let arguments = serde_json::json!({"pattern": pattern, "regex": regex}).to_string();
            parse_arguments::<FileSearch>(&arguments).expect("it reads").compile_pattern()
        };
        let is_match = |pattern, regex, line: &str| {
            compiled(pattern, regex).expect("it compiles").is_match(line.as_bytes())
        };
        assert!(is_match("a.b(", false, "xa.b(y") && !is_match("a.b(", false, "aXb("));
        assert!(is_match("^a.b$", true, "aXb") && !is_match("^a.b$", true, "xaXb"));
        assert!(compiled("a(", true).expect_err("it is open").starts_with("pattern: "));
        let large = compiled(r"(?:\w{1000}){1000}", true).expect_err("it is too large");
        assert_eq!(large, "pattern: it needs too much memory; use fewer repetitions");
    }
}
