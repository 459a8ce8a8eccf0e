//! How a list of grants names its holder and the capability that bounds it. It decides nothing.

use crate::id::{AgentId, CapabilityId, TenantId};

/// What the word begins with that says whose grants these are, so that what it holds counts too.
pub const HOLDER: &str = "holder:";

/// What the word begins with that says within which capability a run stays.
pub const WITHIN: &str = "within:";

/// Spells whose grants these are.
pub fn held_by(tenant: TenantId, agent: AgentId) -> String {
    format!("{HOLDER}{tenant}/{agent}")
}

/// Spells within which capability a run of an agent stays.
pub fn within_grant(tenant: TenantId, agent: AgentId, capability: CapabilityId) -> String {
    format!("{WITHIN}{tenant}/{agent}/{capability}")
}
