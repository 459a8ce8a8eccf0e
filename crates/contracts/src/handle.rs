//! Handles: the names that people type for tenants, agents and roles.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A name that people type: 1 to 64 of `a-z`, `0-9`, `-` and `_`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HandleSlug(String);

/// Says that a text is no handle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a handle has 1 to 64 of a-z, 0-9, - and _, and begins with a letter or digit; found {0:?}")]
pub struct ParseHandleError(pub String);

impl HandleSlug {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HandleSlug {
    type Err = ParseHandleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if first && text.len() <= 64 && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseHandleError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for HandleSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HandleSlug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HandleSlug {
    fn schema_name() -> Cow<'static, str> {
        "Handle".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$",
            "description": "A name that people type: 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_plain_short_and_begins_with_no_sign() {
        let longest = "a".repeat(64);
        for handle in ["a", "7", "a-b", "a_b", "a7", longest.as_str()] {
            assert_eq!(handle.parse::<HandleSlug>().expect(handle).as_str(), handle);
        }
        let longer = "a".repeat(65);
        for text in ["", "-a", "_a", "A", "aB", "a b", "a.b", "ä", "aä", longer.as_str()] {
            assert!(text.parse::<HandleSlug>().is_err(), "{text}");
        }
    }
}
