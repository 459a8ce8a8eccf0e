//! The operations: for each line of the route table what it takes, gives and fails with.
//!
//! To describe a new route, add an entry under its noun. A new variable segment of a path is described in
//! `document::segment`.

mod agents;
mod audit;
mod compatible;
mod messages;
mod node;
mod permissions;
mod runs;

use super::operation::Operation;

/// Describes every route.
pub fn all_operations() -> Vec<Operation> {
    [
        node::node_operations(),
        messages::event_operations(),
        messages::delivery_operations(),
        agents::agent_operations(),
        agents::task_operations(),
        runs::session_operations(),
        runs::run_operations(),
        agents::tool_operations(),
        audit::audit_operations(),
        runs::cost_operations(),
        permissions::approval_operations(),
        permissions::budget_operations(),
        node::token_operations(),
        permissions::secret_operations(),
        permissions::capability_operations(),
        node::tenant_operations(),
        compatible::compatible_operations(),
    ]
    .concat()
}
