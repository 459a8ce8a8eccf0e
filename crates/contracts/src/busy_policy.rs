//! What becomes of an input whose session is in the middle of a turn.
//!
//! The policy is part of the input, so it is the same after a crash. It changes nothing where the session is free.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an input does while a turn of its session runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BusyPolicy {
    /// It waits and gets a turn of its own.
    #[default]
    FollowUp,
    /// It joins the running turn before its next model call. After the turn's last model call it gets a turn of its own.
    Steer,
    /// It waits, and the next turn takes it together with the other inputs of its author that wait to be collected.
    Collect,
    /// It ends the running turn, and the next turn takes it with what waits before it.
    Interrupt,
}

/// The most inputs that enter a turn together.
pub const JOINED_ITEMS_MAX: usize = 16;

/// The most bytes of the bodies of inputs that enter a turn together; a single one may be longer.
pub const JOINED_BYTES_MAX: usize = 64 << 10;

impl BusyPolicy {
    /// Every policy, in the order in which help lists them.
    pub const ALL: [Self; 4] = [Self::FollowUp, Self::Steer, Self::Collect, Self::Interrupt];

    /// Returns the policy as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FollowUp => "follow_up",
            Self::Steer => "steer",
            Self::Collect => "collect",
            Self::Interrupt => "interrupt",
        }
    }

    /// Returns whether it is the one that every input has by itself.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for BusyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of follow-up, steer, collect and interrupt")]
pub struct UnknownBusyPolicy(String);

impl FromStr for BusyPolicy {
    type Err = UnknownBusyPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or_else(|| UnknownBusyPolicy(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_read_as_it_is_written() {
        for policy in BusyPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
            assert_eq!(policy.to_string().replace('_', "-").parse(), Ok(policy));
            let json = serde_json::to_string(&policy).expect("it is a word");
            assert_eq!(json, format!("\"{policy}\""));
        }
        assert!("soon".parse::<BusyPolicy>().is_err());
    }
}
