//! Capabilities: rights of an agent that are signed, handed on, narrowed and taken back.
//!
//! A capability is a row: who holds it, what it was made from, which rights it leaves, and the signed token that proves
//! them. What a chain of them allows is what each allows; one that was taken back ends all that were made from it, and one
//! whose parent is gone counts no more. Held ones add to what an agent's configuration grants; those of a task bound
//! what its runs may do, and give nothing.
//!
//! This module signs and checks nothing. Two words represent capabilities among an agent's grants, as others represent
//! what the operator says; no configuration of an agent may hold them.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::approval;
use crate::fault::Fault;
use crate::id::{AgentId, ApprovalId, CapabilityId, TenantId};
use crate::scope::{Actor, Scope};
use crate::session::SessionKey;
use crate::store::Read;
use crate::task;
use crate::token::TokenState;
use crate::tool::PreparedCall;

pub use crate::capability_grant::{HOLDER, WITHIN, held_by, within_grant};

/// The most capabilities of a tenant, those that ended included.
pub const CAPABILITIES_MAX: usize = 4096;

/// Finds the capability within which the runs of a session stay: the channel of a task's session is its id, and that of
/// an approved call of a bounded run ends with it ([`approved_at`]).
pub fn bound_of(key: &SessionKey) -> Option<CapabilityId> {
    match key.platform.as_str() {
        task::PLATFORM => key.channel.parse().ok(),
        approval::PLATFORM => key.channel.split_once('/').and_then(|(_, bound)| bound.parse().ok()),
        _ => None,
    }
}

/// Names the place where an approved call runs by itself: within what bounded the run that asked for it.
pub fn approved_at(approval: ApprovalId, bound: Option<CapabilityId>) -> String {
    match bound {
        Some(bound) => format!("{approval}/{bound}"),
        None => approval.to_string(),
    }
}

/// What a capability is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityUse {
    /// Its holder may do what it covers, beside what the holder's configuration grants.
    Held,
    /// The runs of one task may do nothing that it does not cover.
    Task,
}

impl CapabilityUse {
    /// Every use.
    pub const ALL: [Self; 2] = [Self::Held, Self::Task];

    /// Returns the use as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Task => "task",
        }
    }
}

/// The state of a capability, with all that it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityState {
    /// It counts.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// What it was made from was revoked, so it counts no more.
    ParentRevoked,
    /// What it was made from is gone, so it counts no more.
    ParentGone,
    /// Its token does not open: it was changed, or signed with a key that the tenant no longer has. It covers nothing.
    Unreadable,
}

impl CapabilityState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Expired, Self::Revoked, Self::ParentRevoked, Self::ParentGone, Self::Unreadable];

    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::ParentRevoked => "parent_revoked",
            Self::ParentGone => "parent_gone",
            Self::Unreadable => "unreadable",
        }
    }
}

impl From<TokenState> for CapabilityState {
    fn from(own: TokenState) -> Self {
        match own {
            TokenState::Active => Self::Active,
            TokenState::Expired => Self::Expired,
            TokenState::Revoked => Self::Revoked,
        }
    }
}

/// A capability, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityRecord {
    /// Its id.
    pub id: CapabilityId,
    /// Who holds it.
    pub holder: AgentId,
    /// What it was made from; the tenant's root key if it is none.
    pub parent: Option<CapabilityId>,
    /// What it is for.
    pub usage: CapabilityUse,
    /// What it covers, of what its parent does: `file:write:docs`, `net:http:api.example.com`, `tool:shell.execute`.
    pub rights: Vec<String>,
    /// From when on it counts no more, if ever.
    pub until: Option<Timestamp>,
    /// The most time of one call of a program, in milliseconds.
    pub wall_ms_max: Option<u32>,
    /// The signed token. It names its holder, so only that agent can use it.
    pub token: Bytes,
    /// Who made it.
    pub by: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was taken back, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl CapabilityRecord {
    /// Returns its own state at an instant, whatever became of what it was made from.
    pub fn state_at(&self, now: Timestamp) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.until.is_some_and(|end| end <= now) {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }
}

/// A capability to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCapability {
    /// Who is to hold it.
    pub holder: AgentId,
    /// What it is made from; nothing for the tenant's root key.
    pub from: Option<CapabilityId>,
    /// What it is for.
    pub usage: CapabilityUse,
    /// What it covers; an empty list means all that its parent covers.
    pub rights: Vec<String>,
    /// From when on it counts no more, if ever.
    pub until: Option<Timestamp>,
    /// The most time of one call of a program, in milliseconds.
    pub wall_ms_max: Option<u32>,
}

/// What one capability says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityVerdict {
    /// Which; nothing for a token that was presented.
    pub capability: Option<CapabilityId>,
    /// Whether it covers the call.
    pub covers: bool,
    /// The block of its token that decided, counted from 0; nothing where none did.
    pub block: Option<usize>,
    /// Why, in words.
    pub why: String,
}

/// The port that announces that what an agent may do has changed. Nothing waits for it.
pub trait RightsWatch: Send + Sync + fmt::Debug {
    /// Takes the change.
    fn rights_changed(&self, agent: AgentId);
}

/// The port to the capabilities of tenants.
///
/// Guarantee: what is answered counts at once, for every call that is judged later in this process.
pub trait CapabilityRegistry: Send + Sync + fmt::Debug {
    /// Lists the tenant's capabilities, by id, each with its current state.
    fn list_capabilities(
        &self,
        scope: Scope,
        after: Option<CapabilityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(CapabilityRecord, CapabilityState)>, Fault>>;

    /// Makes a capability: from the tenant's root key, or from one that is there, which it only narrows.
    fn grant_capability(
        &self,
        scope: Scope,
        new: NewCapability,
    ) -> BoxFuture<'_, Result<CapabilityRecord, Fault>>;

    /// Takes a capability back, and with it all that were made from it. Asking again changes nothing.
    fn revoke_capability(
        &self,
        scope: Scope,
        capability: CapabilityId,
    ) -> BoxFuture<'_, Result<CapabilityRecord, Fault>>;

    /// Lets go of a task's capability that no run will ever stay within.
    fn forget_task_capability(
        &self,
        scope: Scope,
        capability: CapabilityId,
    ) -> BoxFuture<'_, Result<(), Fault>>;

    /// Lets go of all that an agent held which is being erased, once that mark is durable. From then on none of it counts,
    /// nor what was made from it.
    fn forget_agent(&self, tenant: TenantId, agent: AgentId) -> BoxFuture<'_, ()>;

    /// Lists the words that represent an agent's capabilities among its grants.
    fn grant_words<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, Vec<String>>;

    /// Says of each held capability of an agent, or of the one token that is presented for it, what it says of a call.
    fn judge_call<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        call: &'a PreparedCall,
        presented: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Vec<CapabilityVerdict>, Fault>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_of_a_task_names_what_bounds_it() {
        let capability = CapabilityId::from_bytes([7; 16]);
        let key = |platform: &str, channel: String| SessionKey {
            platform: platform.to_owned(),
            channel,
            actor: Actor::new("cli:ada"),
        };
        assert_eq!(bound_of(&key("task", capability.to_string())), Some(capability));
        assert_eq!(bound_of(&key("task", "0199c0de".to_owned())), None);
        assert_eq!(bound_of(&key("cli", capability.to_string())), None, "a person may name a place so");
    }

    #[test]
    fn a_state_is_written_as_it_is_sent() {
        for state in CapabilityState::ALL {
            let sent = serde_json::to_value(state).expect("it is JSON");
            assert_eq!(sent, serde_json::json!(state.as_str()));
        }
    }

    #[test]
    fn an_approved_call_stays_within_its_runs_capability() {
        let asked = ApprovalId::from_bytes([5; 16]);
        for bound in [Some(CapabilityId::from_bytes([7; 16])), None] {
            let key = |platform: &str| SessionKey {
                platform: platform.to_owned(),
                channel: approved_at(asked, bound),
                actor: Actor::new("cli:ada"),
            };
            assert_eq!(bound_of(&key(approval::PLATFORM)), bound);
            assert_eq!(bound_of(&key("cli")), None, "a person may name a place so");
        }
    }

    #[test]
    fn a_capability_is_active_until_its_end_or_revocation() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("an instant");
        let mut capability = CapabilityRecord {
            id: CapabilityId::from_bytes([1; 16]),
            holder: AgentId::from_bytes([2; 16]),
            parent: None,
            usage: CapabilityUse::Held,
            rights: vec!["tool:exec".to_owned()],
            until: Some(at(10)),
            wall_ms_max: None,
            token: Bytes::new(),
            by: Actor::new("cli:ada"),
            created_at: at(0),
            revoked_at: None,
        };
        assert_eq!([9, 10].map(|ms| capability.state_at(at(ms)).as_str()), ["active", "expired"]);
        capability.revoked_at = Some(at(3));
        assert_eq!([2, 11].map(|ms| capability.state_at(at(ms)).as_str()), ["revoked", "revoked"]);
    }
}
