//! Shares of what the server does at a time: of the node's, of what one tenant may take of it, and one token.
//!
//! One tenant, over all of its tokens, takes no more than all but a reserve of the node, and less where others take much
//! ([`SlotPool`]). A request is counted for the node before it is known who asks, and for its tenant once that is known.
//!
//! Requests on the Unix socket are let in even when other requests use up the node, so that an operator can look why;
//! the connections of that listener bound how many they are.

mod counter;

use dromia_contracts::pool::{PoolSlot, SlotPool};
use dromia_contracts::{ErrorCode, TenantId, TokenId};

pub(crate) use self::counter::{CountedSlot, SlotCounter};
use crate::caller::Peer;
use crate::core::GatewayCore;
use crate::failure::{Answer, ApiError};
use crate::metrics::EdgeRefusal;
use crate::rate_limit::AllowancePermit;

/// One part in so many that no tenant takes alone, and one at least where there are two.
const RESERVE_PART: usize = 8;

/// Makes a pool of so many slots, which tenants share. No request waits for a slot: one that finds none is refused.
pub(crate) fn make_slot_pool(capacity: usize) -> SlotPool {
    SlotPool::new(capacity, capacity.div_ceil(RESERVE_PART), 0)
}

/// Lets tenants share another number of slots. What was let in under a higher one goes on.
pub(crate) fn resize_slot_pool(pool: &SlotPool, capacity: usize) {
    pool.resize(capacity, capacity.div_ceil(RESERVE_PART));
}

/// A share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit {
    _token: Option<AllowancePermit>,
    _tenant: Option<PoolSlot>,
    _node: Option<CountedSlot>,
}

/// To whom a request is charged: its tenant, and the token by which it was let in, if by one. The guard leaves it at the request,
/// for what takes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestPayer {
    pub(crate) tenant: TenantId,
    pub(crate) token: Option<TokenId>,
}

impl ConcurrencyPermit {
    /// Takes a share of the node's requests, before it is known who asks.
    pub(crate) fn acquire_request(core: &GatewayCore, peer: Peer) -> Answer<Self> {
        let node = core.requests.try_take(core.live().requests_max);
        if node.is_none() && matches!(peer, Peer::Tcp(_)) {
            core.meters.count_refusal(EdgeRefusal::Requests);
            let text = "the server is answering as many requests as it may at a time";
            return Err(ApiError::new(ErrorCode::Overloaded, text));
        }
        Ok(Self { _node: node, _tenant: None, _token: None })
    }

    /// Charges the request to its tenant and its token.
    pub(crate) fn charge_payer(self, core: &GatewayCore, spender: RequestPayer) -> Answer<Self> {
        let tenant = core.tenant_requests.try_take(spender.tenant);
        let Some(token) = spender.token else { return Ok(Self { _tenant: tenant, ..self }) };
        if tenant.is_none() {
            core.meters.count_refusal(EdgeRefusal::Requests);
            let text = "the server is answering as many requests of this tenant as it may at a time";
            return Err(ApiError::new(ErrorCode::Overloaded, text));
        }
        let held = core.allowances.acquire_request(token, core.ports.runtime.clock.now());
        let held = held.inspect_err(|spent| core.meters.count_refusal(spent.refusal_reason()))?;
        Ok(Self { _token: Some(held), _tenant: tenant, ..self })
    }

    /// Takes a share of the streams, for its tenant and its token.
    pub(crate) fn acquire_stream(core: &GatewayCore, spender: RequestPayer) -> Answer<Self> {
        let tenant = core.streams.try_take(spender.tenant);
        let Some(token) = spender.token else {
            return Ok(Self { _node: None, _tenant: tenant, _token: None });
        };
        if tenant.is_none() {
            core.meters.count_refusal(EdgeRefusal::Streams);
            let text = "the server has as many streams open as it may, in all or for this tenant";
            return Err(ApiError::new(ErrorCode::Overloaded, text));
        }
        let held = core.allowances.acquire_stream(token, core.ports.runtime.clock.now());
        let held = held.inspect_err(|spent| core.meters.count_refusal(spent.refusal_reason()))?;
        Ok(Self { _node: None, _tenant: tenant, _token: Some(held) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flooding_tenant_leaves_a_share_to_other_tenants() {
        let (flood, quiet) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        for (capacity, taken) in [(1, 1), (2, 1), (8, 7), (1024, 896)] {
            let pool = make_slot_pool(capacity);
            let held: Vec<_> = std::iter::from_fn(|| pool.try_take(flood)).collect();
            assert_eq!(held.len(), taken);
            assert_eq!(pool.try_take(quiet).is_some(), capacity > 1, "{capacity}");
        }
    }

    /// Tells whether another tenant has a stream while one opens all that it can.
    fn leaves_a_stream(pool: &SlotPool) -> bool {
        let (flood, quiet) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let held: Vec<_> = std::iter::from_fn(|| pool.try_take(flood)).collect();
        assert!(!held.is_empty());
        pool.try_take(quiet).is_some()
    }

    /// Planted fault: so many streams in all, whoever opens them.
    #[test]
    fn streams_without_a_share_for_each_tenant_are_caught() {
        assert!(leaves_a_stream(&make_slot_pool(1024)));
        assert!(!leaves_a_stream(&SlotPool::new(1024, 0, 0)), "nothing notices it");
    }
}
