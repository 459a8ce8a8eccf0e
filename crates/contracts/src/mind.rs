//! How an agent divides its work between its runs.
//!
//! The mind is part of an agent's configuration, so a run keeps the one that it began with.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an agent divides its work between its runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AgentMind {
    /// A turn does everything itself, with all tools of the agent.
    #[default]
    Solo,
    /// A turn answers soon: it leaves reading and thinking to branches, and work to workers.
    Branching,
}

impl AgentMind {
    /// Every mind, in the order in which help lists them.
    pub const ALL: [Self; 2] = [Self::Solo, Self::Branching];

    /// Returns the mind as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Branching => "branching",
        }
    }

    /// Returns whether it is the one that every agent has by itself.
    pub fn is_solo(&self) -> bool {
        *self == Self::Solo
    }
}

impl fmt::Display for AgentMind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no mind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither solo nor branching")]
pub struct UnknownMind(String);

impl FromStr for AgentMind {
    type Err = UnknownMind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|mind| mind.as_str() == text).ok_or_else(|| UnknownMind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mind_is_read_as_it_is_written() {
        for mind in AgentMind::ALL {
            assert_eq!(mind.to_string().parse(), Ok(mind));
            assert_eq!(serde_json::to_string(&mind).expect("it is a word"), format!("\"{mind}\""));
        }
        assert!("group".parse::<AgentMind>().is_err());
    }
}
