//! The proxy of one program: what the program asks for through its door, asked over the guarded line.
//!
//! A program that has a door finds an HTTP proxy behind it and nothing else. Each connection says one thing: `CONNECT
//! HOST:PORT`, which becomes a tunnel, or a request with a whole URL, which becomes a request of the line. Both are judged
//! by the agent's grants as `http.request` is, and what was judged goes into the journal with the result of the call. A
//! request that holds a secret of the tenant is refused (`watched`).
//!
//! It refuses to: resolve a name, follow a redirect (the program does, and asks again), keep a connection for a second
//! request, take a body whose length is not said before it.
//!
//! Lifecycle: it stands as long as the program runs. Then nothing new is begun, and what is being asked has [`LINGER`] to
//! be judged, so that the journal knows of it; what is being carried is cut off.

mod desk;
mod exchange;
mod head;
mod watched;

#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::egress::Line;
use tokio::task::JoinSet;

use self::desk::Desk;
pub(crate) use self::desk::Judged;
pub(crate) use self::watched::Watched;

/// The most connections of a program that are answered at once; more of them wait.
const CONNECTIONS_MAX: usize = 16;

/// How long what is being asked has to be judged when the program is over.
const LINGER: Duration = Duration::from_secs(2);

/// How long nobody is let in when no connection can be accepted, as when descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a program's requests go, and by whose right.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) line: Arc<dyn Line>,
    pub(crate) grants: Vec<String>,
    pub(crate) share: String,
}

/// A proxy that stands. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Proxy {
    desk: Arc<Desk>,
    work: JoinSet<()>,
}

impl Proxy {
    /// Begins to answer at a door that does not block.
    pub(crate) fn open(door: TcpListener, way: Way) -> io::Result<Self> {
        let door = tokio::net::TcpListener::from_std(door)?;
        let desk = Arc::new(Desk::new(way));
        let mut work = JoinSet::new();
        work.spawn(serve(door, Arc::clone(&desk)));
        Ok(Self { desk, work })
    }

    /// Ends it, and tells what was judged.
    pub(crate) async fn close(self) -> Judged {
        self.desk.close();
        // Whatever is asked by then stands in the account, answered or not.
        let _late = tokio::time::timeout(LINGER, self.desk.is_idle()).await;
        drop(self.work);
        self.desk.judged()
    }
}

/// Lets connections in, as many as may be at once. Dropping the future drops them all.
async fn serve(door: tokio::net::TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            drop(connections.join_next().await);
            continue;
        }
        while connections.try_join_next().is_some() {}
        match door.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                connections.spawn(async move { exchange::answer(stream, &desk).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
