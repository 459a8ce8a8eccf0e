//! Who asks: the [`Scope`] that every store and engine call carries, and the [`OperatorScope`] for the few questions
//! that concern the whole node.
//!
//! Neither can be made without the process's [`ScopeAuthority`]. `dromia` claims it once and hands it to authentication
//! (`gateway`) and to recovery (`engine`), which are the only places of a server that issue scopes; `dromia init`,
//! which makes a home before a server runs on it, is the third. A test over the sources keeps it so. What a scope
//! cannot see is *not found*.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, TenantId, TokenId};

/// The right to issue scopes. It proves nothing by itself: it makes every place that issues one findable.
#[derive(Debug, Clone)]
pub struct ScopeAuthority(());

impl ScopeAuthority {
    /// Claims the authority of this process.
    pub fn claim() -> Self {
        Self(())
    }

    /// Issues the scope of an authenticated actor.
    pub fn issue_scope(&self, tenant: TenantId, actor: Actor) -> Scope {
        Scope { tenant, agent: None, actor, token: None }
    }

    /// Issues the right to ask about the whole node.
    pub fn issue_operator(&self) -> OperatorScope {
        OperatorScope(())
    }
}

/// The outside person or system that an agent talks to, as authentication named it: `cli:ada`, `token:ci`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(Arc<str>);

impl Actor {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Names an actor; a longer name is cut at [`Actor::BYTES_MAX`].
    pub fn new(name: &str) -> Self {
        let mut end = name.len().min(Self::BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self(Arc::from(&name[..end]))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Tenant, actor and, where it applies, agent of one call.
///
/// With an agent set, rows of other agents of the same tenant are not found either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    tenant: TenantId,
    agent: Option<AgentId>,
    actor: Actor,
    token: Option<TokenId>,
}

impl Scope {
    /// Says by which token the actor was let in. Its name may be given again, its id never.
    #[must_use]
    pub fn by_token(self, token: TokenId) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Returns the token by which the actor was let in, if by one.
    pub fn token_id(&self) -> Option<TokenId> {
        self.token
    }

    /// Returns the tenant whose rows can be seen.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the one agent whose rows can be seen, if the scope is narrowed to one.
    pub fn agent(&self) -> Option<AgentId> {
        self.agent
    }

    /// Returns who asks.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Narrows the scope to one agent; a scope can only ever be narrowed.
    pub fn narrowed_to(&self, agent: AgentId) -> Self {
        Self { agent: Some(agent), ..self.clone() }
    }

    /// Returns whether rows of `agent` can be seen.
    pub fn sees_agent(&self, agent: AgentId) -> bool {
        self.agent.is_none_or(|only| only == agent)
    }
}

/// The right to ask questions that concern the whole node: tenants, tokens, what recovery must take over.
#[derive(Debug, Clone)]
pub struct OperatorScope(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrowed_scope_sees_one_agent_only() {
        let (one, other) = (AgentId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));
        let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([3; 16]), Actor::new("cli:0"));
        assert!(scope.agent().is_none() && scope.sees_agent(one) && scope.sees_agent(other));
        let narrowed = scope.narrowed_to(one);
        assert_eq!((narrowed.agent(), narrowed.tenant()), (Some(one), scope.tenant()));
        assert!(narrowed.sees_agent(one) && !narrowed.sees_agent(other));
    }
}
