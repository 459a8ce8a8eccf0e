//! What every request shares: the ports, the checked settings, the caches, the meters and the phase of life.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::HeaderValue;
use dromia_contracts::agent::Handle;
use dromia_contracts::{AgentId, Authority, Digest, Operator, TenantId};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::allowance::{Actors, Allowances};
use crate::cache::Cache;
use crate::caller::Caller;
use crate::config::GatewayConfig;
use crate::metrics::Meters;
use crate::service::Ports;

/// The most entries of each cache.
const CACHE_ENTRIES_MAX: usize = 10_000;

/// State of the router.
pub(crate) type Shared = Arc<Core>;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) ports: Ports,
    pub(crate) operator: Operator,
    pub(crate) config: GatewayConfig,
    /// By hash of the token. Whether one has expired is asked anew each time.
    pub(crate) tokens: Cache<Digest, Caller>,
    /// Hashes of tokens that nobody issued. All are forgotten when a token is made.
    pub(crate) strangers: Cache<Digest, ()>,
    /// By handle.
    pub(crate) tenants: Cache<Handle, TenantId>,
    /// By handle within a tenant.
    pub(crate) agents: Cache<(TenantId, Handle), AgentId>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) imports: Arc<Semaphore>,
    /// What each token may take.
    pub(crate) allowances: Arc<Allowances>,
    /// What each actor may bring.
    pub(crate) actors: Actors,
    /// Connections of both doors that are open right now.
    pub(crate) connections: AtomicUsize,
    pub(crate) request_ids: RequestIds,
    pub(crate) meters: Meters,
    pub(crate) phase: Phase,
    pub(crate) started_at: Timestamp,
    /// Who owns this process, as the socket's file tells; unset without a socket.
    pub(crate) owner_uid: OnceLock<u32>,
    /// The TCP address that was bound; unset without one.
    pub(crate) tcp: OnceLock<SocketAddr>,
}

impl Core {
    pub(crate) fn new(config: GatewayConfig, ports: Ports, meters: Meters) -> Self {
        let trusted_for = config.cache_time();
        Self {
            operator: ports.authority.operator(),
            tokens: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            strangers: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            tenants: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            agents: Cache::new(CACHE_ENTRIES_MAX, trusted_for),
            requests: Arc::new(Semaphore::new(config.requests_max)),
            streams: Arc::new(Semaphore::new(config.streams_max)),
            imports: Arc::new(Semaphore::new(config.imports_max)),
            allowances: Arc::new(Allowances::new(&config)),
            actors: Actors::new(&config),
            connections: AtomicUsize::new(0),
            request_ids: RequestIds::new(ports.runtime.ids.uuid().as_u128()),
            meters,
            phase: Phase::default(),
            started_at: ports.runtime.clock.now(),
            owner_uid: OnceLock::new(),
            tcp: OnceLock::new(),
            config,
            ports,
        }
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.ports.authority
    }

    /// Requests that hold a share right now.
    pub(crate) fn requests_in_flight(&self) -> usize {
        self.config.requests_max - self.requests.available_permits()
    }

    /// Connections that are open right now.
    pub(crate) fn connections_open(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Journal streams that are open right now.
    pub(crate) fn streams_open(&self) -> usize {
        self.config.streams_max - self.streams.available_permits()
    }
}

/// The phases of a drain, each entered once and in this order.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// Nothing new is accepted, streams end, and connections close after the request they carry.
    pub(crate) closing: CancellationToken,
    /// Requests that wait for an answer are told that their input is accepted.
    pub(crate) hurry: CancellationToken,
    /// What is still open is cut.
    pub(crate) cut: CancellationToken,
}

/// Names requests: the process's own eight hex digits, and a number.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    fn new(seed: u128) -> Self {
        // The low bits of a UUIDv7 are its random ones.
        let process = u32::try_from(seed & u128::from(u32::MAX)).unwrap_or_default();
        Self { process, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = *b"req_00000000-0000000000";
        write_hex(&mut text[4..12], u64::from(self.process));
        write_hex(&mut text[13..23], number);
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("req_"))
    }
}

fn write_hex(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from((number & 0xf) as u8)];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_name_the_process_and_count() {
        let ids = RequestIds::new(0xdead_beef);
        assert_eq!(ids.next(), "req_deadbeef-0000000001");
        assert_eq!(ids.next(), "req_deadbeef-0000000002");
    }
}
