//! Answers given ahead: the rules of a tenant, each by one actor and for a time.
//!
//! Which calls a rule's text means, [`ParsedRule`] reads; which rule answers a call, [`RuledCall`](super::RuledCall) finds.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ParsedRule;
use crate::id::{AgentId, SessionId};
use crate::scope::Actor;

/// What a rule answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleAnswer {
    /// The call may happen.
    Allow,
    /// It may not.
    Deny,
}

impl RuleAnswer {
    /// Returns the answer as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for RuleAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer given ahead, by one actor, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRuleRecord {
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it answers.
    pub answer: RuleAnswer,
    /// Which calls it answers, as [`ParsedRule::parse`] reads it.
    pub rule: String,
    /// The one agent whose calls it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The one session in which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Who made it.
    pub owner: Actor,
    /// When.
    pub created_at: Timestamp,
    /// From when on it answers nothing.
    pub expires_at: Timestamp,
}

impl ApprovalRuleRecord {
    /// Says what is wrong with it, if anything is.
    pub fn validation_problem(&self) -> Option<String> {
        if !is_rule_name(&self.name) {
            return Some(format!("a rule's name is {RULE_NAME}"));
        }
        if self.expires_at <= self.created_at {
            return Some("a rule must end after its creation".to_owned());
        }
        ParsedRule::parse(&self.rule).err().map(|error| error.to_string())
    }

    /// Returns whether it answers calls of an agent in a session, or in none, at a time.
    pub fn applies_to(&self, agent: AgentId, session: Option<SessionId>, now: Timestamp) -> bool {
        now < self.expires_at
            && self.agent.is_none_or(|only| only == agent)
            && self.session.is_none_or(|only| session == Some(only))
    }
}

/// What a rule's name looks like, in words for people.
pub const RULE_NAME: &str = "1 to 64 characters of a-z, 0-9, - and _";

/// Returns whether a text may name a rule.
pub fn is_rule_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_a_plain_name_a_meaning_and_an_end() {
        let rule = |name: &str, seconds: i64, rule: &str| ApprovalRuleRecord {
            name: name.to_owned(),
            answer: RuleAnswer::Deny,
            rule: rule.to_owned(),
            agent: None,
            session: None,
            owner: Actor::new("cli:0"),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::from_second(seconds).expect("a time"),
        };
        let longest = "a".repeat(64);
        for name in ["a", "7", "-", "_", "a-b_7", longest.as_str()] {
            assert_eq!(rule(name, 1, "files.write").validation_problem(), None, "{name}");
        }
        let longer = "a".repeat(65);
        for name in ["", "A", "a b", "ä", longer.as_str()] {
            let problem = rule(name, 1, "files.write").validation_problem().expect(name);
            assert!(problem.contains(RULE_NAME), "{problem}");
        }
        let ended = rule("a", 0, "files.write").validation_problem().expect("it never applies");
        assert!(ended.contains("end after"), "{ended}");
        assert!(rule("a", 1, "files.write(").validation_problem().is_some(), "it has no meaning");
    }
}
