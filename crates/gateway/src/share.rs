//! Shares of what the server does at a time: of the node's, of what one tenant may take of it, and one token.
//!
//! One tenant, over all of its tokens, takes no more than all but a reserve of the node, and less where others take much
//! (`slot_pool`). A request is counted for the node before it is known who asks, and for its tenant once that is known.
//!
//! Requests on the Unix socket are let in even when other requests use up the node, so that an operator can look why;
//! the connections of that listener bound how many they are.

use dromia_contracts::ErrorCode;
use dromia_contracts::pool::PoolSlot;

use crate::caller::{Peer, RequestPayer};
use crate::core::GatewayCore;
use crate::edge_refusal::EdgeRefusal;
use crate::failure::{Answer, ApiError};
use crate::rate_limit::AllowancePermit;
use crate::slot_pool::NODE;

/// A share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit {
    _token: Option<AllowancePermit>,
    _tenant: Option<PoolSlot>,
    _node: Option<PoolSlot>,
}

impl ConcurrencyPermit {
    /// Takes a share of the node's requests, before it is known who asks.
    pub(crate) fn acquire_request(core: &GatewayCore, peer: Peer) -> Answer<Self> {
        let node = core.limits.requests.try_take(NODE);
        if node.is_none() && matches!(peer, Peer::Tcp(_)) {
            core.meters.count_refusal(EdgeRefusal::Requests);
            let text = "the server is answering as many requests as it may at a time";
            return Err(ApiError::new(ErrorCode::Overloaded, text));
        }
        Ok(Self { _node: node, _tenant: None, _token: None })
    }

    /// Charges the request to its tenant and its token.
    pub(crate) fn charge_payer(self, core: &GatewayCore, spender: RequestPayer) -> Answer<Self> {
        let tenant = core.limits.tenant_requests.try_take(spender.tenant);
        let Some(token) = spender.token else { return Ok(Self { _tenant: tenant, ..self }) };
        if tenant.is_none() {
            core.meters.count_refusal(EdgeRefusal::Requests);
            let text = "the server is answering as many requests of this tenant as it may at a time";
            return Err(ApiError::new(ErrorCode::Overloaded, text));
        }
        let held = core.limits.allowances.acquire_request(token, core.ports.runtime.clock.now());
        let held = held.inspect_err(|spent| core.meters.count_refusal(spent.refusal_reason()))?;
        Ok(Self { _token: Some(held), _tenant: tenant, ..self })
    }

    /// Takes a share of the streams, for its tenant and its token.
    pub(crate) fn acquire_stream(core: &GatewayCore, spender: RequestPayer) -> Answer<Self> {
        let tenant = core.limits.streams.try_take(spender.tenant);
        let Some(token) = spender.token else {
            return Ok(Self { _node: None, _tenant: tenant, _token: None });
        };
        if tenant.is_none() {
            core.meters.count_refusal(EdgeRefusal::Streams);
            let text = "the server has as many streams open as it may, in all or for this tenant";
            return Err(ApiError::new(ErrorCode::Overloaded, text));
        }
        let held = core.limits.allowances.acquire_stream(token, core.ports.runtime.clock.now());
        let held = held.inspect_err(|spent| core.meters.count_refusal(spent.refusal_reason()))?;
        Ok(Self { _node: None, _tenant: tenant, _token: Some(held) })
    }
}
