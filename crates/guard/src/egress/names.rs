//! What the network says: which addresses a name has, and which addresses are this machine's.

use std::fmt;
use std::io;
use std::net::{IpAddr, UdpSocket};

use dromia_contracts::BoxFuture;

/// The port to the system's resolver.
pub trait NameResolver: Send + Sync + fmt::Debug {
    /// Looks the addresses of a name up. The caller sets the deadline.
    fn resolve_name(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;

    /// Tells whether an address belongs to an interface of this machine.
    fn is_here(&self, address: IpAddr) -> bool;
}

/// The system's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl NameResolver for SystemNames {
    fn resolve_name(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn is_here(&self, address: IpAddr) -> bool {
        // Only an address of one's own can be bound. Nothing is sent, and the port is given back at once.
        UdpSocket::bind((address, 0)).is_ok()
    }
}
