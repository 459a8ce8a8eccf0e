//! The client's resolver: one look for a connection, and no address of it that was not judged.
//!
//! The client connects to what it is handed here and never asks again for the same connection, so between the judgement
//! and the connection there is no second answer.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::clearance::EgressPolicy;
use super::{EgressContext, EgressDenied};

const NO_ADDRESS: EgressDenied = EgressDenied { rule: "no address", reason: "the name has no address" };

/// The client's resolver: one look for a connection, and no address of it that was not judged.
#[derive(Debug)]
pub(super) struct PinnedResolver {
    pub(super) clearance: Arc<EgressPolicy>,
    pub(super) around: Arc<EgressContext>,
    pub(super) is_strict: bool,
}

impl Resolve for PinnedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let (clearance, around, is_strict) =
            (Arc::clone(&self.clearance), Arc::clone(&self.around), self.is_strict);
        Box::pin(async move { resolve_pinned(&name, &clearance, &around, is_strict).await })
    }
}

async fn resolve_pinned(
    name: &str,
    clearance: &EgressPolicy,
    around: &EgressContext,
    is_strict: bool,
) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
    match look_up(name, clearance, around, is_strict).await {
        // The port of the URL takes the place of 0.
        Ok(found) => Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)))),
        Err(ResolveError::Refused(refused)) => Err(refused.into()),
        Err(ResolveError::Unresolved(problem)) => Err(problem.into()),
    }
}

/// Why a name leads nowhere.
#[derive(Debug)]
pub(super) enum ResolveError {
    /// What is found under it may not be reached.
    Refused(EgressDenied),
    /// The lookup of the name failed.
    Unresolved(io::Error),
}

/// Looks a name up, once, and judges all that is found.
pub(super) async fn look_up(
    name: &str,
    clearance: &EgressPolicy,
    around: &EgressContext,
    is_strict: bool,
) -> Result<Vec<IpAddr>, ResolveError> {
    let addresses = around.names.resolve_name(name.to_owned()).await.map_err(ResolveError::Unresolved)?;
    if addresses.is_empty() {
        return Err(ResolveError::Refused(NO_ADDRESS));
    }
    // One bad address spoils them all: an honest name has no public and private addresses at once.
    for address in &addresses {
        let judged = clearance.judge_address(Some(name), *address, is_strict, around);
        judged.map_err(ResolveError::Refused)?;
    }
    Ok(addresses)
}

/// Finds our own refusal among the causes of a failed connection.
pub(super) fn find_denied(error: &reqwest::Error) -> Option<EgressDenied> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<EgressDenied>() {
            return Some(*refused);
        }
        source = cause.source();
    }
    None
}
