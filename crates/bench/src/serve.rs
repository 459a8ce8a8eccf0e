//! The servers that this program plays itself. Each prints `listening http://HOST:PORT` as its first line, as
//! Dromia does, and serves until it is killed.

pub(crate) mod echo;
pub(crate) mod model;
pub(crate) mod probe;

use std::io::Write as _;

use anyhow::Context as _;
use tokio::net::TcpListener;

/// A server's runtime: two threads, like Dromia's on the two cores that the goals are stated for.
pub(crate) fn server_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the server's runtime")
}

/// Listens on a free port of the loopback and says which.
pub(crate) async fn listen_on_loopback() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("failed to listen on the loopback")?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(listener)
}
