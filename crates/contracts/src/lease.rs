//! Lives of processes and their leases: what a process holds is lost only once its lease has ended.
//!
//! Runs and delivery attempts name the life that holds them. The store keeps one lease for each node, which ends by the
//! store's own steady clock, and refuses to give what a living process holds to another one. No process judges from its own
//! memory that another one is gone.

use crate::digest::Digest;

/// One life of a node's process, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeLife {
    /// The name of the node. Of the lives of one node only the last holds a lease.
    pub node: String,
    /// Random, so that no two lives are the same.
    pub life: Digest,
}

impl NodeLife {
    /// Names a life of a node by a random secret.
    pub fn new(node: &str, secret: [u8; 32]) -> Self {
        Self { node: node.to_owned(), life: Digest::from_bytes(secret) }
    }
}
