//! The gateway as a component: takes the ports, binds the listeners, serves until it is stopped, then drains.
//!
//! Lifecycle of a drain: the listeners close and streams end; requests in flight go on; after four fifths of the drain
//! time waiting requests return that their input is accepted; at its end what is left is cut.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use dromia_contracts::active_config::ConfigReporter;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::addresses::AddressLimiter;
use crate::caller::{LocalEndpoint, Peer};
use crate::channel::follow_channels;
use crate::config::{ConfigError, GatewayConfig};
use crate::connection::ConnectionContext;
use crate::core::{GatewayCore, Shared};
use crate::edge_refusal::EdgeRefusal;
use crate::metrics::{GatewayMeters, LogMeter, MetersError, ToolMeters};
use crate::ports::GatewayPorts;
use crate::routes::{ROUTES, router};
use crate::slot_pool::NODE;
use crate::tls::{CertificateReloader, TlsError, keep_fresh};

/// How often recorded samples are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long a listener rests when the system gives it no connection, for want of file descriptors above all.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The shortest time between two lines about connections that could not be accepted.
const ACCEPT_WARNING_PAUSE: Duration = Duration::from_secs(10);

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
    /// A listener could not be bound.
    #[error("failed to bind {address}")]
    Bind {
        /// The address or path.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Checks the settings and binds the listeners. Nothing is accepted before [`Gateway::run`].
pub async fn build_gateway(
    config: GatewayConfig,
    ports: GatewayPorts,
) -> Result<(Gateway, GatewayHandle), BuildError> {
    config.validate()?;
    let tls = config.tls.clone().map(CertificateReloader::open).transpose()?.map(Arc::new);
    let meters = GatewayMeters::new(
        &ports.tools.shared_catalogue(),
        ROUTES.iter().map(|route| (route.method, route.path)),
    )?;
    let core = Arc::new(GatewayCore::new(config, ports, meters));
    let mut tcp = None;
    if let Some(address) = core.config.listen {
        let failed = |source| BuildError::Bind { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        core.tcp.get_or_init(|| address);
        tcp = Some((listener, address));
    }
    let mut unix = None;
    if let Some(path) = &core.config.socket {
        let listener = bind_socket(path, core.config.socket_mode()).await?;
        let failed = |source| BuildError::Bind { address: path.display().to_string(), source };
        // The file was made by this process, so its owner is ours.
        let owner = std::fs::symlink_metadata(path).map_err(failed)?.uid();
        core.owner_uid.get_or_init(|| owner);
        unix = Some(listener);
    }
    let handle = GatewayHandle { core: core.clone(), tcp: tcp.as_ref().map(|(_, address)| *address) };
    let gateway = Gateway { router: router(&core), core, tcp: tcp.map(|(listener, _)| listener), tls, unix };
    Ok((gateway, handle))
}

async fn bind_socket(path: &Path, mode: u32) -> Result<UnixListener, BuildError> {
    let failed = |source| BuildError::Bind { address: path.display().to_string(), source };
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        if UnixStream::connect(path).await.is_ok() {
            return Err(BuildError::SocketInUse { path: path.to_owned() });
        }
        // Left behind by a server that was killed.
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // The check of the peer's user protects the socket; the mode keeps others from even asking.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

/// The built gateway, not serving yet.
#[derive(Debug)]
pub struct Gateway {
    core: Shared,
    router: Router,
    tcp: Option<TcpListener>,
    tls: Option<Arc<CertificateReloader>>,
    unix: Option<UnixListener>,
}

/// What a drain left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were cut because their requests did not end in time.
    pub cut: usize,
}

/// Looks at a gateway from outside; a cheap clone.
#[derive(Debug, Clone)]
pub struct GatewayHandle {
    core: Shared,
    tcp: Option<SocketAddr>,
}

impl GatewayHandle {
    /// Returns the TCP address that was bound.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Tells whether the TCP listener speaks TLS.
    pub fn is_encrypted(&self) -> bool {
        self.core.config.tls.is_some()
    }

    /// Returns the path of the Unix socket.
    pub fn socket_path(&self) -> Option<&Path> {
        self.core.config.socket.as_deref()
    }

    /// Returns how long a drain may take.
    pub fn drain_time(&self) -> Duration {
        self.core.live().drain_time()
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

    /// Returns the meters of tool calls; the engine reports each call to them.
    pub fn tool_meters(&self) -> ToolMeters {
        self.core.meters.tool_meters()
    }

    /// Returns the meter of dropped log lines; the log writer reports to it.
    pub fn log_meter(&self) -> LogMeter {
        self.core.meters.log_meter()
    }

    /// Lets other settings count from now on. The addresses, TLS and the times of connections are those of the start.
    pub fn replace_settings(&self, config: GatewayConfig) {
        if let Some(path) = &self.core.config.socket {
            // Whether others may ask at all depends on the users of the socket.
            let mode = std::fs::Permissions::from_mode(config.socket_mode());
            if let Err(error) = std::fs::set_permissions(path, mode) {
                tracing::warn!(%error, "failed to set the mode of the socket for its users");
            }
        }
        self.core.replace_live(config);
    }

    /// Sets who says which configuration counts; the first one stays.
    pub fn tell_of_configuration(&self, reporter: Arc<dyn ConfigReporter>) {
        self.core.configuration.get_or_init(|| reporter);
    }

    /// Tells whether the gateway closes.
    pub fn is_draining(&self) -> bool {
        self.core.phase.closing.is_cancelled()
    }
}

impl Gateway {
    /// Serves until `shutdown` ends, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> DrainReport {
        let Self { core, router, tcp, tls, unix } = self;
        let tasks = TaskTracker::new();
        let cut = Arc::new(AtomicUsize::new(0));
        let acceptor =
            ConnectionAcceptor { core: core.clone(), router, tasks: tasks.clone(), cut: cut.clone() };
        tokio::select! {
            () = shutdown => {}
            () = acceptor.accept_tcp(tcp, tls.clone()) => {}
            () = acceptor.accept_unix(unix) => {}
            () = run_upkeep(&core) => {}
            () = follow_channels(&core) => {}
            () = keep_fresh(tls) => {}
        }
        // The listeners are dropped, so a new client is refused at once and not left in a queue.
        if let Some(path) = &core.config.socket
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(%error, "failed to remove the socket");
        }
        core.phase.closing.cancel();
        tasks.close();
        let patience = core.live().drain_time();
        if timeout(patience * 4 / 5, tasks.wait()).await.is_err() {
            core.phase.hurry.cancel();
            if timeout(patience / 5, tasks.wait()).await.is_err() {
                core.phase.cut.cancel();
                tasks.wait().await;
            }
        }
        DrainReport { cut: cut.load(Ordering::Relaxed) }
    }
}

async fn run_upkeep(core: &GatewayCore) {
    let mut ticks = interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.meters.run_upkeep();
    }
}

/// Accepts connections, at most so many at a time at each listener, so that a crowd at one leaves the other open.
struct ConnectionAcceptor {
    core: Shared,
    router: Router,
    tasks: TaskTracker,
    cut: Arc<AtomicUsize>,
}

impl ConnectionAcceptor {
    async fn accept_tcp(&self, listener: Option<TcpListener>, tls: Option<Arc<CertificateReloader>>) {
        let Some(listener) = listener else { return std::future::pending().await };
        let addresses = Arc::<AddressLimiter>::default();
        let mut warnings = AcceptWarnings::default();
        loop {
            // The share is taken first: beyond it clients wait in the system's queue and not in our memory.
            let Some(share) = self.core.limits.tcp_connections.wait_for_slot(NODE).await else { return };
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, peer)| Ok((stream.local_addr()?.ip(), peer.ip(), stream))) {
                Ok((local, peer, stream)) => {
                    let Some(entered) =
                        addresses.acquire_permit(peer, self.core.live().capacity.address_connections_max)
                    else {
                        // Closed by being dropped; nothing was read from it.
                        self.core.meters.count_refusal(EdgeRefusal::AddressConnections);
                        continue;
                    };
                    let held = (share, entered);
                    // Failing leaves the connection slower, not wrong.
                    let _ = stream.set_nodelay(true);
                    let line = self
                        .connection_context(Peer::Tcp(LocalEndpoint { local, is_encrypted: tls.is_some() }));
                    match &tls {
                        Some(tls) => {
                            let acceptor = tls.acceptor();
                            self.serve_connection(held, line.serve_encrypted(stream, acceptor));
                        }
                        None => self.serve_connection(held, line.serve_plain(stream)),
                    }
                }
                Err(error) => warnings.back_off(&error).await,
            }
        }
    }

    async fn accept_unix(&self, listener: Option<UnixListener>) {
        let Some(listener) = listener else { return std::future::pending().await };
        let mut warnings = AcceptWarnings::default();
        loop {
            let Some(share) = self.core.limits.unix_connections.wait_for_slot(NODE).await else { return };
            match listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream))) {
                Ok((uid, stream)) => self
                    .serve_connection(share, self.connection_context(Peer::Unix { uid }).serve_plain(stream)),
                Err(error) => warnings.back_off(&error).await,
            }
        }
    }

    fn connection_context(&self, peer: Peer) -> ConnectionContext {
        let (core, router) = (self.core.clone(), self.router.clone());
        ConnectionContext { core, router, peer, tasks: self.tasks.clone(), cut: self.cut.clone() }
    }

    /// Serves a connection; what it holds is given back at its end.
    fn serve_connection(
        &self,
        held: impl Send + 'static,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let open = ConnectionGuard::new(self.core.clone());
        let connection = async move {
            connection.await;
            drop((held, open));
        };
        self.core.ports.runtime.spawn.spawn(Box::pin(self.tasks.track_future(connection)));
    }
}

/// Counts a connection as long as it lives.
struct ConnectionGuard(Shared);

impl ConnectionGuard {
    fn new(core: Shared) -> Self {
        core.connections.fetch_add(1, Ordering::Relaxed);
        Self(core)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Log lines about connections that a listener could not accept: one in [`ACCEPT_WARNING_PAUSE`] at most.
#[derive(Debug, Default)]
struct AcceptWarnings {
    said: Option<Instant>,
    unsaid: u64,
}

impl AcceptWarnings {
    /// Counts a failure; returns how many there were since the last line, if it is time for another one.
    fn count_failure(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < ACCEPT_WARNING_PAUSE) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    async fn back_off(&mut self, error: &io::Error) {
        if let Some(times) = self.count_failure(Instant::now()) {
            tracing::warn!(%error, times, "failed to accept a connection");
        }
        sleep(ACCEPT_REST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines an hour of failures makes, one with each rest, and how many failures they tell of.
    fn hour(mut count: impl FnMut(Instant) -> Option<u64>) -> (u32, u64) {
        let began = Instant::now();
        let failures = u32::try_from(3_600_000 / ACCEPT_REST.as_millis()).expect("few");
        let said = (0..failures).filter_map(|failure| count(began + ACCEPT_REST * failure));
        said.fold((0, 0), |(lines, times), said| (lines + 1, times + said))
    }

    #[test]
    fn failing_connections_log_one_warning_every_ten_seconds() {
        let mut warnings = AcceptWarnings::default();
        let (lines, times) = hour(|now| warnings.count_failure(now));
        assert_eq!(lines, 360);
        assert!(times + warnings.unsaid == 72_000, "{times} and {warnings:?}");
    }

    /// Planted fault: a line for each.
    #[test]
    fn a_line_for_each_failure_is_caught() {
        assert_ne!(hour(|_| Some(1)).0, 360, "nothing notices it");
    }
}
