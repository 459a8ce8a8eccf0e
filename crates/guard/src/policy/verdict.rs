//! The words of a policy: its package, its verdicts and the names of its rules.

use serde::{Deserialize, Serialize};

/// The package of every policy.
pub const PACKAGE: &str = "dromia.policy";
const RULE_BYTES_MAX: usize = 64;

/// What a rule says; the later one goes before the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyVerdict {
    /// It may happen.
    Allow,
    /// It may happen once a time to cool is over, unless a person refuses it.
    Delay,
    /// A person decides.
    Ask,
    /// It may not happen.
    Deny,
}

impl PolicyVerdict {
    /// Reads the word of a policy.
    pub fn parse_word(word: &str) -> Option<Self> {
        match word {
            "allow" => Some(Self::Allow),
            "delay" => Some(Self::Delay),
            "ask" => Some(Self::Ask),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }

    /// Returns the word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Delay => "delay",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// Tells whether a text is the name of a rule.
pub(super) fn is_rule(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    !text.is_empty() && text.len() <= RULE_BYTES_MAX && text.bytes().all(is_plain)
}
