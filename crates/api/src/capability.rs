//! Capabilities on the wire: rights of agents that are signed, narrowed, handed on and taken back.

use dromia_contracts::capability::{CapabilityState, CapabilityUse};
use dromia_contracts::{AgentId, CapabilityId, Digest};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::token::EXPIRES_IN_SECONDS_MAX;

/// Grants rights to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantCapability {
    /// Who is to hold it, by handle or id.
    pub agent: String,
    /// What it covers: `file:read:PATH`, `file:write:PATH`, `net:http:HOST`, `tool:NAME`.
    pub rights: Vec<String>,
    /// How long it counts; without it until it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = EXPIRES_IN_SECONDS_MAX))]
    pub expires_in_seconds: Option<u64>,
    /// The most time of one call of a program, in milliseconds; a call must say that it takes no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub wall_ms_max: Option<u32>,
}

/// Hands a capability on to another agent, narrowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelegateCapability {
    /// Who is to hold what is handed on, by handle or id.
    pub agent: String,
    /// What of it: rights within those that are handed on; without any all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rights: Vec<String>,
    /// How long it counts; never longer than what it is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = EXPIRES_IN_SECONDS_MAX))]
    pub expires_in_seconds: Option<u64>,
    /// The most time of one call of a program, in milliseconds; a call must say that it takes no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub wall_ms_max: Option<u32>,
}

/// A capability and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityResource {
    /// Its id.
    pub id: CapabilityId,
    /// Who holds it.
    pub holder: AgentId,
    /// What it was made from; absent if the tenant's root key signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CapabilityId>,
    /// What it is for.
    pub usage: CapabilityUse,
    /// What it covers, of what its parent does.
    pub rights: Vec<String>,
    /// Whether it counts; one whose parent was taken back or is gone does not.
    pub state: CapabilityState,
    /// From when on it counts no more, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The most time of one call of a program, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms_max: Option<u32>,
    /// Who made it.
    pub by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was taken back, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// A capability was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityMade {
    /// What is shown of it later too.
    #[serde(flatten)]
    pub record: CapabilityResource,
    /// Its signed token, in base64 for URLs. It names its holder, so only that agent can use it.
    pub token: String,
}

/// What the gate says of a hypothetical call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallCheck {
    /// The tool.
    pub tool: String,
    /// The arguments in canonical form, as they would be judged.
    pub arguments: serde_json::Value,
    /// Whether it would be let through. With a token that was presented: whether that covers it and the call is let through
    /// then.
    pub allowed: bool,
    /// The rule that decides; behind the word `ask` or `delay`, where the call would wait for a person or for its time.
    pub rule: String,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The policy that was asked, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// What each capability of the agent says of it.
    pub capabilities: Vec<CapabilityFinding>,
}

impl CallCheck {
    /// What a rule begins with by which a call would wait for a person.
    pub const ASK: &'static str = "ask";
    /// What a rule begins with by which a call would wait for its time.
    pub const DELAY: &'static str = "delay";
}

/// What one capability says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityFinding {
    /// Which; absent for a token that was presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<CapabilityId>,
    /// Whether it covers the call.
    pub covers: bool,
    /// The block of its token that decides, counted from 0; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// Why, in words.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_requires_rights_and_a_delegation_may_omit_them() {
        let missing = serde_json::from_str::<GrantCapability>(r#"{"agent":"ops"}"#);
        assert!(missing.is_err(), "{missing:?}");
        let whole: DelegateCapability = serde_json::from_str(r#"{"agent":"ops"}"#).expect("is read");
        assert_eq!((whole.rights.len(), whole.expires_in_seconds), (0, None));
        assert!(serde_json::from_str::<DelegateCapability>(r#"{"agent":"ops","right":"x"}"#).is_err());
    }
}
