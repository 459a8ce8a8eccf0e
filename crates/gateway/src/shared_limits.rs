//! The limits that all requests share: how many are answered at a time, how often, and how many bytes are on their way.

use std::sync::Arc;

use dromia_contracts::pool::SlotPool;

use crate::body_budget::BodyBudget;
use crate::config::GatewayConfig;
use crate::rate_limit::{ActorRateLimiter, TokenAllowances};
use crate::refusal_delay::RefusalPauses;
use crate::slot_pool::{make_node_pool, make_slot_pool, resize_slot_pool};

#[derive(Debug)]
pub(crate) struct SharedLimits {
    /// Requests of the node.
    pub(crate) requests: SlotPool,
    /// The same, of those whose tenant is known.
    pub(crate) tenant_requests: SlotPool,
    pub(crate) streams: SlotPool,
    pub(crate) imports: SlotPool,
    /// Connections of each listener, so that a crowd at one leaves the other open.
    pub(crate) tcp_connections: SlotPool,
    pub(crate) unix_connections: SlotPool,
    /// What each token may take.
    pub(crate) allowances: Arc<TokenAllowances>,
    /// How many bytes of bodies that are still coming each may have held.
    pub(crate) bodies: Arc<BodyBudget>,
    /// How long refusals wait.
    pub(crate) pauses: RefusalPauses,
    /// How often each actor may submit an input.
    pub(crate) actors: ActorRateLimiter,
}

impl SharedLimits {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self {
            requests: make_node_pool(config.capacity.requests_max),
            tcp_connections: make_node_pool(config.capacity.connections_max),
            unix_connections: make_node_pool(config.capacity.connections_max),
            tenant_requests: make_slot_pool(config.capacity.requests_max),
            streams: make_slot_pool(config.capacity.streams_max),
            imports: make_slot_pool(config.capacity.imports_max),
            allowances: Arc::new(TokenAllowances::new(config)),
            bodies: Arc::new(BodyBudget::new(config.capacity.body_bytes_max)),
            pauses: RefusalPauses::default(),
            actors: ActorRateLimiter::new(config),
        }
    }

    /// Lets other settings count from now on, of those that may change while the server runs.
    pub(crate) fn replace_config(&self, config: &GatewayConfig) {
        self.allowances.replace_limits(config);
        self.actors.replace_pace(config);
        self.bodies.replace_limits(config.capacity.body_bytes_max);
        self.requests.resize(config.capacity.requests_max, 0);
        self.tcp_connections.resize(config.capacity.connections_max, 0);
        self.unix_connections.resize(config.capacity.connections_max, 0);
        resize_slot_pool(&self.tenant_requests, config.capacity.requests_max);
        resize_slot_pool(&self.streams, config.capacity.streams_max);
    }
}
