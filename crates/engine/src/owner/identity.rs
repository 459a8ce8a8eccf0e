//! Who a run is: what stays the same while one owner has it.

use std::sync::Arc;

use dromia_contracts::session::SessionKey;
use dromia_contracts::{Actor, ItemId, RunId, Scope, SessionId};

use crate::agents::AgentSnapshot;

/// What a run belongs to, and what it may do.
pub(crate) struct RunIdentity {
    pub(crate) scope: Scope,
    pub(crate) author: Actor,
    pub(crate) agent: Arc<AgentSnapshot>,
    pub(crate) session: SessionId,
    /// The key of the session.
    pub(crate) key: SessionKey,
    /// The channel to which the answer is delivered, if no caller waits for it.
    pub(crate) target: Option<String>,
    pub(crate) run: RunId,
    pub(crate) epoch: u64,
    pub(crate) items: Vec<ItemId>,
}
