//! What the gateway has looked up and trusts for a moment. Every cache is bounded.

use std::time::Duration;

use dromia_contracts::agent::{ErasureCounts, HandleSlug, TenantRecord};
use dromia_contracts::{AgentId, Digest, TenantId};

use crate::cache::Cache;
use crate::caller::Caller;
use crate::compat::ConversationCache;

/// The most entries of each cache.
const CACHE_ENTRIES_MAX: usize = 10_000;

/// How long the receipt of a deletion is kept for a repeat of its request.
const ERASED_TIME: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct GatewayCaches {
    /// By hash of the token. The expiry is checked at each request.
    pub(crate) tokens: Cache<Digest, Caller>,
    /// Hashes of tokens that were never issued. All are forgotten when a token is made.
    pub(crate) strangers: Cache<Digest, ()>,
    /// By handle.
    pub(crate) tenants: Cache<HandleSlug, TenantRecord>,
    /// By handle within a tenant.
    pub(crate) agents: Cache<(TenantId, HandleSlug), AgentId>,
    /// Conversations of clients without a session.
    pub(crate) conversations: ConversationCache,
    /// What deleting an agent erased, by the id and the handle that it had: for a client that asks again because it
    /// lost the answer.
    pub(crate) erased: Cache<(TenantId, String), ErasureCounts>,
}

impl GatewayCaches {
    pub(crate) fn new(trusted_for: Duration) -> Self {
        Self {
            tokens: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            strangers: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            tenants: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            agents: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            conversations: ConversationCache::default(),
            erased: Cache::new(CACHE_ENTRIES_MAX, ERASED_TIME),
        }
    }
}
