//! The operations: for each line of the route table what it takes, gives and fails with.
//!
//! To describe a new route, add an entry under its noun. A new variable segment of a path is described in
//! `document::segment`.

mod agents;
mod audit;
mod compatible;
mod node;
mod rights;
mod said;
mod work;

use super::operation::Operation;

/// Describes every route.
pub fn all_operations() -> Vec<Operation> {
    [
        node::node_operations(),
        said::event_operations(),
        said::delivery_operations(),
        agents::agent_operations(),
        agents::task_operations(),
        work::session_operations(),
        work::run_operations(),
        agents::tool_operations(),
        audit::audit_operations(),
        work::cost_operations(),
        rights::approval_operations(),
        rights::budget_operations(),
        node::token_operations(),
        rights::secret_operations(),
        rights::capability_operations(),
        node::tenant_operations(),
        compatible::compatible_operations(),
    ]
    .concat()
}
