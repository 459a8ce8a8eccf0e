//! The places of the small world, and the ids of what is in it.
//!
//! An id is made of a noun and a number and of nothing else: two tenants that count for themselves get the same ids, and a
//! sequence that is replayed gets the same ones again.

use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::InboxPut;
use dromia_contracts::{AgentId, Digest, ItemId, SessionId, TenantId, TokenId};

use crate::conformance::scene::new_input;

/// Tenants of the world.
pub const TENANTS: u8 = 2;

/// Agents of each tenant.
pub const AGENTS: u8 = 2;

/// Sessions of each agent.
pub const SESSIONS: u8 = 2;

/// A session of an agent of a tenant.
#[derive(Debug, Clone, Copy)]
pub struct WorldPlace {
    /// Which tenant.
    pub tenant: u8,
    /// Which agent of it.
    pub agent: u8,
    /// Which session of that.
    pub session: u8,
}

impl WorldPlace {
    /// The tenant's id.
    pub fn tenant_id(self) -> TenantId {
        tenant_id(self.tenant)
    }

    /// The agent's id.
    pub fn agent_id(self) -> AgentId {
        agent_id(self.tenant, self.agent)
    }

    /// The session's id.
    pub fn session_id(self) -> SessionId {
        let number = u64::from(self.tenant) << 16 | u64::from(self.agent) << 8 | u64::from(self.session);
        SessionId::from_bytes(id_of(3, number))
    }

    pub(super) fn session_input(self, item: ItemId) -> InboxPut {
        new_input(InboxOwner::Session(self.session_id()), item)
    }
}

/// The id of a tenant of the world.
pub fn tenant_id(tenant: u8) -> TenantId {
    TenantId::from_bytes(id_of(1, tenant.into()))
}

/// The id of an agent of the world.
pub fn agent_id(tenant: u8, agent: u8) -> AgentId {
    AgentId::from_bytes(id_of(2, u64::from(tenant) << 8 | u64::from(agent)))
}

/// The hash of the token that an operation may register, by the operation's number.
pub fn token_hash(number: u64) -> Digest {
    Digest::from_bytes(bytes_of(6, number, [0; 32]))
}

/// The id of that token.
pub fn token_id(number: u64) -> TokenId {
    TokenId::from_bytes(id_of(6, number))
}

pub(super) fn id_of(noun: u8, number: u64) -> [u8; 16] {
    bytes_of(noun, number, [0; 16])
}

fn bytes_of<const N: usize>(noun: u8, number: u64, mut bytes: [u8; N]) -> [u8; N] {
    bytes[0] = noun;
    bytes[N - 8..].copy_from_slice(&number.to_be_bytes());
    bytes
}
