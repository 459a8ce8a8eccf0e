//! Shares of what the server does at a time: of the node's, and of what one token may take of it.
//!
//! Whoever is on the Unix socket is let in though others filled the house, or nobody could look why; how many that are,
//! the connections of that door bound.

use dromia_contracts::{ErrorCode, TokenId};
use tokio::sync::OwnedSemaphorePermit;

use crate::allowance::Held;
use crate::caller::Peer;
use crate::core::Core;
use crate::failure::{Answer, Failure};
use crate::metrics::Refused;

/// A share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _token: Option<Held>,
    _node: Option<OwnedSemaphorePermit>,
}

/// By which token a request was let in, if by one. The guard leaves it at the request, for what takes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spender(pub(crate) Option<TokenId>);

impl Share {
    /// Takes a share of the node's requests, before it is known who asks.
    pub(crate) fn request(core: &Core, peer: Peer) -> Answer<Self> {
        let node = core.requests.clone().try_acquire_owned().ok();
        if node.is_none() && matches!(peer, Peer::Tcp(_)) {
            core.meters.refused(Refused::Requests);
            let text = "the server answers as many requests as it may at a time";
            return Err(Failure::new(ErrorCode::Overloaded, text));
        }
        Ok(Self { _node: node, _token: None })
    }

    /// Charges the request to its token.
    pub(crate) fn charge(self, core: &Core, spender: Spender) -> Answer<Self> {
        let Some(token) = spender.0 else { return Ok(self) };
        let held = core.allowances.request(token, core.ports.runtime.clock.now());
        let held = held.inspect_err(|spent| core.meters.refused(spent.reason()))?;
        Ok(Self { _token: Some(held), ..self })
    }

    /// Takes a share of the node's streams and of the token's.
    pub(crate) fn stream(core: &Core, spender: Spender) -> Answer<Self> {
        let node = core.streams.clone().try_acquire_owned().ok();
        if node.is_none() && spender.0.is_some() {
            core.meters.refused(Refused::Streams);
            let text = "the server carries as many streams as it may at a time";
            return Err(Failure::new(ErrorCode::Overloaded, text));
        }
        let token = match spender.0 {
            Some(token) => {
                let held = core.allowances.stream(token, core.ports.runtime.clock.now());
                Some(held.inspect_err(|spent| core.meters.refused(spent.reason()))?)
            }
            None => None,
        };
        Ok(Self { _node: node, _token: token })
    }
}
