//! The gateway as a component: ports in, doors bound, served until told to stop, then drained.
//!
//! Lifecycle of a drain: the doors close and streams end; requests in flight go on; after four fifths of the
//! drain time waiting requests are told that their input is accepted; at its end what is left is cut.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use dromia_contracts::Authority;
use dromia_contracts::audit::{AuditLog, Notary};
use dromia_contracts::capability::Capabilities;
use dromia_contracts::gate::Gate;
use dromia_contracts::runs::Runs;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::Store;
use dromia_contracts::terms::Terms;
use dromia_contracts::tool::ToolHost;
use dromia_contracts::vault::Vault;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::caller::{Door, Peer};
use crate::config::{ConfigError, GatewayConfig};
use crate::connection::Line;
use crate::core::{Core, Shared};
use crate::metrics::{Meters, MetersError, Refused, ToolMeters};
use crate::outbox::Outbox;
use crate::routes::router;
use crate::tls::{Tls, TlsError, keep_fresh};

/// How often recorded samples are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long a door rests when the system gives it no connection, for want of file descriptors above all.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The rooms behind the gateway.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// The engine.
    pub runs: Arc<dyn Runs>,
    /// What leaves by itself, and the channels that it leaves by.
    pub outbox: Outbox,
    /// Tools, to be told of; nothing is called here.
    pub tools: Arc<dyn ToolHost>,
    /// The gate, to be asked whether an agent may use a tool.
    pub gate: Arc<dyn Gate>,
    /// What the operator says about tools.
    pub terms: Arc<dyn Terms>,
    /// The secrets of tenants.
    pub vault: Arc<dyn Vault>,
    /// The chains of the audit.
    pub audit: Arc<dyn AuditLog>,
    /// The key that signs what leaves of it.
    pub notary: Arc<dyn Notary>,
    /// Capabilities of tenants.
    pub capabilities: Arc<dyn Capabilities>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes.
    pub authority: Authority,
}

/// Says why the gateway could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting cannot be served; nothing was bound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The files of TLS cannot be used; nothing was bound.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The meters could not be set up.
    #[error(transparent)]
    Meters(#[from] MetersError),
    /// Another server answers on the socket.
    #[error("another server answers on {path}")]
    SocketInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// A door could not be bound.
    #[error("failed to bind {door}")]
    Bind {
        /// The address or path.
        door: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Checks the settings and binds the doors. Nothing is accepted before [`Gateway::run`].
pub async fn build(config: GatewayConfig, ports: Ports) -> Result<(Gateway, Handle), BuildError> {
    config.validate()?;
    let tls = config.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
    let meters = Meters::new(ports.tools.descriptors())?;
    let core = Arc::new(Core::new(config, ports, meters));
    let mut tcp = None;
    if let Some(address) = core.config.listen {
        let failed = |source| BuildError::Bind { door: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        core.tcp.get_or_init(|| address);
        tcp = Some((listener, address));
    }
    let mut unix = None;
    if let Some(path) = &core.config.socket {
        let listener = bind_socket(path, core.config.socket_mode()).await?;
        let failed = |source| BuildError::Bind { door: path.display().to_string(), source };
        // The file was made by this process, so its owner is ours.
        let owner = std::fs::symlink_metadata(path).map_err(failed)?.uid();
        core.owner_uid.get_or_init(|| owner);
        unix = Some(listener);
    }
    let handle = Handle { core: core.clone(), tcp: tcp.as_ref().map(|(_, address)| *address) };
    let gateway = Gateway { router: router(&core), core, tcp: tcp.map(|(listener, _)| listener), tls, unix };
    Ok((gateway, handle))
}

async fn bind_socket(path: &Path, mode: u32) -> Result<UnixListener, BuildError> {
    let failed = |source| BuildError::Bind { door: path.display().to_string(), source };
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        if UnixStream::connect(path).await.is_ok() {
            return Err(BuildError::SocketInUse { path: path.to_owned() });
        }
        // Left behind by a server that was killed.
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // The wall is the check of the peer's user; the mode keeps others from even asking.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

/// The built gateway, not serving yet.
#[derive(Debug)]
pub struct Gateway {
    core: Shared,
    router: Router,
    tcp: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    unix: Option<UnixListener>,
}

/// What a drain left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because their requests did not end in time.
    pub cut: usize,
}

/// Looks at a gateway from outside; a cheap clone.
#[derive(Debug, Clone)]
pub struct Handle {
    core: Shared,
    tcp: Option<SocketAddr>,
}

impl Handle {
    /// Returns the TCP address that was bound.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Tells whether the TCP door speaks TLS.
    pub fn is_encrypted(&self) -> bool {
        self.core.config.tls.is_some()
    }

    /// Returns the path of the Unix socket.
    pub fn socket_path(&self) -> Option<&Path> {
        self.core.config.socket.as_deref()
    }

    /// Returns how many connections are open.
    pub fn connections_open(&self) -> usize {
        self.core.connections_open()
    }

    /// Returns how many requests are being answered.
    pub fn requests_in_flight(&self) -> usize {
        self.core.requests_in_flight()
    }

    /// Returns how many journal streams are open.
    pub fn streams_open(&self) -> usize {
        self.core.streams_open()
    }

    /// Returns what counts calls of tools; whoever runs them tells it.
    pub fn tool_meters(&self) -> ToolMeters {
        self.core.meters.tools()
    }

    /// Tells whether the gateway closes.
    pub fn is_draining(&self) -> bool {
        self.core.phase.closing.is_cancelled()
    }
}

impl Gateway {
    /// Serves until `shutdown` ends, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let Self { core, router, tcp, tls, unix } = self;
        let tasks = TaskTracker::new();
        let cut = Arc::new(AtomicUsize::new(0));
        let doors = Doors { core: core.clone(), router, tasks: tasks.clone(), cut: cut.clone() };
        tokio::select! {
            () = shutdown => {}
            () = doors.accept_tcp(tcp, tls.clone()) => {}
            () = doors.accept_unix(unix) => {}
            () = upkeep(&core) => {}
            () = keep_fresh(tls) => {}
        }
        // The listeners are dropped, so a new client is refused at once and not left in a queue.
        if let Some(path) = &core.config.socket
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(%error, "the socket could not be removed");
        }
        core.phase.closing.cancel();
        tasks.close();
        let patience = core.config.drain_time();
        if timeout(patience * 4 / 5, tasks.wait()).await.is_err() {
            core.phase.hurry.cancel();
            if timeout(patience / 5, tasks.wait()).await.is_err() {
                core.phase.cut.cancel();
                tasks.wait().await;
            }
        }
        Drained { cut: cut.load(Ordering::Relaxed) }
    }
}

async fn upkeep(core: &Core) {
    let mut ticks = interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.meters.upkeep();
    }
}

/// Accepts connections, at most so many at a time at each door, so that a crowd at one leaves the other open.
struct Doors {
    core: Shared,
    router: Router,
    tasks: TaskTracker,
    cut: Arc<AtomicUsize>,
}

impl Doors {
    async fn accept_tcp(&self, listener: Option<TcpListener>, tls: Option<Arc<Tls>>) {
        let Some(listener) = listener else { return std::future::pending().await };
        let shares = Arc::new(Semaphore::new(self.core.config.connections_max));
        let addresses = Arc::new(Addresses::new(self.core.config.address_connections_max));
        loop {
            // The share is taken first: beyond it clients wait in the system's queue and not in our memory.
            let Ok(share) = shares.clone().acquire_owned().await else { return };
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, peer)| Ok((stream.local_addr()?.ip(), peer.ip(), stream))) {
                Ok((local, peer, stream)) => {
                    let Some(entered) = addresses.enter(peer) else {
                        // Closed by being dropped; nothing was read from it.
                        self.core.meters.refused(Refused::AddressConnections);
                        continue;
                    };
                    let held = (share, entered);
                    // Failing leaves the connection slower, not wrong.
                    let _ = stream.set_nodelay(true);
                    let line = self.line(Peer::Tcp(Door { local, is_encrypted: tls.is_some() }));
                    match &tls {
                        Some(tls) => {
                            let acceptor = tls.acceptor();
                            self.serve(held, line.encrypted(stream, acceptor));
                        }
                        None => self.serve(held, line.plain(stream)),
                    }
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    async fn accept_unix(&self, listener: Option<UnixListener>) {
        let Some(listener) = listener else { return std::future::pending().await };
        let shares = Arc::new(Semaphore::new(self.core.config.connections_max));
        loop {
            let Ok(share) = shares.clone().acquire_owned().await else { return };
            match listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream))) {
                Ok((uid, stream)) => self.serve(share, self.line(Peer::Unix { uid }).plain(stream)),
                Err(error) => rest(&error).await,
            }
        }
    }

    fn line(&self, peer: Peer) -> Line {
        let (core, router) = (self.core.clone(), self.router.clone());
        Line { core, router, peer, tasks: self.tasks.clone(), cut: self.cut.clone() }
    }

    /// Serves a connection; what it holds is given back at its end.
    fn serve(&self, held: impl Send + 'static, connection: impl Future<Output = ()> + Send + 'static) {
        let open = Open::new(self.core.clone());
        let connection = async move {
            connection.await;
            drop((held, open));
        };
        self.core.ports.runtime.spawn.spawn(Box::pin(self.tasks.track_future(connection)));
    }
}

/// Counts a connection as long as it lives.
struct Open(Shared);

impl Open {
    fn new(core: Shared) -> Self {
        core.connections.fetch_add(1, Ordering::Relaxed);
        Self(core)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "no connection could be accepted");
    sleep(ACCEPT_REST).await;
}
