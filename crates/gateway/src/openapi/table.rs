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
pub fn operations() -> Vec<Operation> {
    [
        node::node(),
        said::events(),
        said::deliveries(),
        agents::agents(),
        agents::tasks(),
        work::sessions(),
        work::runs(),
        agents::tools(),
        audit::audit(),
        work::costs(),
        rights::approvals(),
        rights::budgets(),
        node::tokens(),
        rights::secrets(),
        rights::capabilities(),
        node::tenants(),
        compatible::compatible(),
    ]
    .concat()
}
