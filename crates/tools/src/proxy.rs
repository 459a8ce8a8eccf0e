//! The egress proxy of one program: it sends the program's requests through the guarded egress client.
//!
//! A program with network access finds this HTTP proxy and nothing else. Each connection says one thing: `CONNECT
//! HOST:PORT`, which becomes a tunnel, or a request with a whole URL, which the egress client sends. Both are judged
//! by the agent's grants as `http.request` is, and what was judged goes into the journal with the result of the call. A
//! request that holds a secret of the tenant is refused (`watched`).
//!
//! It refuses to: resolve a name, follow a redirect (the program does, and asks again), keep a connection for a second
//! request, take a body whose length is not said before it.
//!
//! Lifecycle: it listens as long as the program runs. Then nothing new is begun, and what is being asked has [`LINGER`]
//! to be judged, so that the journal knows of it; what is being carried is cut off.

mod exchange;
mod head;
mod scanned_client;
mod session;

#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::egress::EgressClient;
use tokio::task::JoinSet;

pub(crate) use self::scanned_client::ScannedUpstream;
pub(crate) use self::session::ProxyDecisions;
use self::session::ProxySession;

/// The most connections of a program that are answered at once; more of them wait.
const CONNECTIONS_MAX: usize = 16;

/// How long what is being asked has to be judged when the program is over.
const LINGER: Duration = Duration::from_secs(2);

/// How long no connection is accepted after accepting one failed, as when descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a program's requests go, and by whose right.
#[derive(Debug, Clone)]
pub(crate) struct ProxyUpstream {
    pub(crate) line: Arc<dyn EgressClient>,
    pub(crate) grants: Vec<String>,
    pub(crate) share: String,
}

/// A proxy that listens. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct EgressProxy {
    desk: Arc<ProxySession>,
    work: JoinSet<()>,
}

impl EgressProxy {
    /// Begins to answer at a socket that does not block.
    pub(crate) fn start_listening(listener: TcpListener, way: ProxyUpstream) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let desk = Arc::new(ProxySession::new(way));
        let mut work = JoinSet::new();
        work.spawn(accept_connections(listener, Arc::clone(&desk)));
        Ok(Self { desk, work })
    }

    /// Ends it, and returns what was judged.
    pub(crate) async fn close_and_report(self) -> ProxyDecisions {
        self.desk.close();
        // Whatever is asked by then is in the account, answered or not.
        let _late = tokio::time::timeout(LINGER, self.desk.is_idle()).await;
        drop(self.work);
        self.desk.decisions_so_far()
    }
}

/// Lets connections in, as many as may be at once. Dropping the future drops them all.
async fn accept_connections(listener: tokio::net::TcpListener, desk: Arc<ProxySession>) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            drop(connections.join_next().await);
            continue;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                connections.spawn(async move { exchange::serve_connection(stream, &desk).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
