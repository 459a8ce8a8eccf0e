//! Bytes of bodies that are still coming: how many the server holds, and how many of them for one tenant and one token.
//!
//! A body is held from its first byte, for as long as its sender takes within `limits.body_ms`, so thousands of half-sent ones
//! would fill the memory. Each byte is taken from a share before it is kept, and given back when the body is whole or broke off.
//! A tenant has half of the node's bytes at most and a token half of those, so no tenant shuts the bodies of others
//! out. The senders of signed messages, whose tenant is not known yet, count together as one tenant. A buffer grows by
//! doubling, so what is really held is twice as much at most. Session files are not counted here: `imports_max` of them
//! are read at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::{ErrorCode, TenantId, TokenId};

use crate::failure::ApiError;

/// The most bytes of half-sent bodies on the node.
const NODE_BYTES_MAX: usize = 256 << 20;

/// By whom a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct BodyPayer {
    /// The tenant, where it is known before the body is.
    pub(crate) tenant: Option<TenantId>,
    /// The token, if there is one.
    pub(crate) token: Option<TokenId>,
}

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyBudgetExhausted {
    /// That of the node.
    Node,
    /// That of the tenant.
    Tenant,
    /// That of the token.
    Token,
}

impl From<BodyBudgetExhausted> for ApiError {
    fn from(full: BodyBudgetExhausted) -> Self {
        match full {
            BodyBudgetExhausted::Node => Self::new(
                ErrorCode::Overloaded,
                "unfinished request bodies use all the memory that the server allows for them",
            ),
            BodyBudgetExhausted::Tenant => Self::new(
                ErrorCode::RateLimited,
                "unfinished request bodies use all the memory that this tenant may have for them",
            ),
            BodyBudgetExhausted::Token => Self::new(
                ErrorCode::RateLimited,
                "unfinished request bodies use all the memory that this token may have for them",
            ),
        }
    }
}

/// What is held.
#[derive(Debug, Default)]
struct BodyByteCounts {
    node: usize,
    /// Only of those who hold something.
    tenants: HashMap<Option<TenantId>, usize>,
    tokens: HashMap<TokenId, usize>,
    limits: BodyLimits,
}

/// The most bytes that each may have held.
#[derive(Debug, Default)]
struct BodyLimits {
    node: usize,
    tenant: usize,
    token: usize,
}

/// The shares of all.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    held: Mutex<BodyByteCounts>,
}

impl BodyBudget {
    /// Makes the shares.
    pub(crate) fn new(body_bytes_max: usize) -> Self {
        let budget = Self { held: Mutex::default() };
        budget.replace_limits(body_bytes_max);
        budget
    }

    /// Lets another longest length count for bytes that come from now on. One body of it always fits into an empty share.
    pub(crate) fn replace_limits(&self, body_bytes_max: usize) {
        let of_node = |part: usize| (NODE_BYTES_MAX / part).max(body_bytes_max);
        self.lock().limits = BodyLimits {
            node: NODE_BYTES_MAX.max(body_bytes_max.saturating_mul(4)),
            tenant: of_node(2).max(body_bytes_max.saturating_mul(2)),
            token: of_node(4),
        };
    }

    /// Begins a body, of which nothing has come.
    pub(crate) fn begin_body(self: &Arc<Self>, payer: BodyPayer) -> BodyShare {
        BodyShare { budget: Arc::clone(self), payer, bytes: 0 }
    }

    fn reserve_bytes(&self, payer: BodyPayer, bytes: usize) -> Result<(), BodyBudgetExhausted> {
        let mut held = self.lock();
        let of_tenant = held.tenants.get(&payer.tenant).copied().unwrap_or_default();
        let of_token = payer.token.and_then(|token| held.tokens.get(&token).copied()).unwrap_or_default();
        if payer.token.is_some() && of_token + bytes > held.limits.token {
            return Err(BodyBudgetExhausted::Token);
        }
        if of_tenant + bytes > held.limits.tenant {
            return Err(BodyBudgetExhausted::Tenant);
        }
        if held.node + bytes > held.limits.node {
            return Err(BodyBudgetExhausted::Node);
        }
        held.node += bytes;
        held.tenants.insert(payer.tenant, of_tenant + bytes);
        if let Some(token) = payer.token {
            held.tokens.insert(token, of_token + bytes);
        }
        Ok(())
    }

    fn give_back(&self, payer: BodyPayer, bytes: usize) {
        let mut held = self.lock();
        held.node -= bytes;
        if let Some(of_tenant) = held.tenants.get_mut(&payer.tenant) {
            *of_tenant -= bytes;
            if *of_tenant == 0 {
                held.tenants.remove(&payer.tenant);
            }
        }
        if let Some(token) = payer.token
            && let Some(of_token) = held.tokens.get_mut(&token)
        {
            *of_token -= bytes;
            if *of_token == 0 {
                held.tokens.remove(&token);
            }
        }
    }

    // A panic under the lock cannot leave a count half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, BodyByteCounts> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one body holds, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare {
    budget: Arc<BodyBudget>,
    payer: BodyPayer,
    bytes: usize,
}

impl BodyShare {
    /// Takes so many bytes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), BodyBudgetExhausted> {
        self.budget.reserve_bytes(self.payer, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.payer, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest body, by default.
    const BODY: usize = 1 << 20;

    fn payer(tenant: u8, token: u8) -> BodyPayer {
        BodyPayer {
            tenant: Some(TenantId::from_bytes([tenant; 16])),
            token: Some(TokenId::from_bytes([token; 16])),
        }
    }

    /// How many whole bodies each of some senders may have open, one after another, all of them kept.
    fn open(
        budget: &Arc<BodyBudget>,
        payers: &[BodyPayer],
        kept: &mut Vec<BodyShare>,
    ) -> Vec<(usize, BodyBudgetExhausted)> {
        let fill = |payer: &BodyPayer| {
            for bodies in 0.. {
                let mut share = budget.begin_body(*payer);
                match share.grow(BODY) {
                    Ok(()) => kept.push(share),
                    Err(full) => return (bodies, full),
                }
            }
            unreachable!("a budget has an end")
        };
        payers.iter().map(fill).collect()
    }

    /// Whether a second tenant has room left where the first one has taken all that it can with three tokens.
    fn leaves_room(budget: &Arc<BodyBudget>) -> bool {
        let mut kept = Vec::new();
        let found = open(budget, &[payer(1, 1), payer(1, 2), payer(1, 3), payer(2, 4)], &mut kept);
        found[3].0 > 0
    }

    #[test]
    fn the_body_budget_leaves_room_for_other_tokens_and_tenants() {
        let budget = Arc::new(BodyBudget::new(BODY));
        let mut kept = Vec::new();
        let senders = [payer(1, 1), payer(1, 2), payer(1, 3), payer(2, 4), payer(2, 5), payer(3, 6)];
        let found = open(&budget, &senders, &mut kept);
        assert_eq!(
            found,
            [
                (64, BodyBudgetExhausted::Token),
                (64, BodyBudgetExhausted::Token),
                (0, BodyBudgetExhausted::Tenant),
                (64, BodyBudgetExhausted::Token),
                (64, BodyBudgetExhausted::Token),
                (0, BodyBudgetExhausted::Node)
            ]
        );
        assert!(leaves_room(&Arc::new(BodyBudget::new(BODY))));
        drop(kept);
        let held = budget.lock();
        assert!(held.node == 0 && held.tenants.is_empty() && held.tokens.is_empty(), "{held:?}");
    }

    /// Planted fault: a bound for the node alone.
    #[test]
    fn a_bound_without_shares_is_caught() {
        let node_max = NODE_BYTES_MAX;
        let unshared = BodyBudget::new(BODY);
        unshared.lock().limits = BodyLimits { node: node_max, tenant: node_max, token: node_max };
        assert!(!leaves_room(&Arc::new(unshared)), "nothing notices it");
    }

    #[test]
    fn the_longest_body_that_is_configured_fits() {
        let budget = Arc::new(BodyBudget::new(1 << 30));
        assert_eq!(budget.begin_body(payer(1, 1)).grow(1 << 30), Ok(()));
    }
}
