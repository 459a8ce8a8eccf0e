//! What every request shares: the ports, the checked settings, caches, limits and meters, and the phase of life.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use axum::http::HeaderValue;
use dromia_contracts::active_config::ConfigReporter;
use dromia_contracts::{OperatorScope, ScopeAuthority};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::caches::GatewayCaches;
use crate::config::GatewayConfig;
use crate::metrics::GatewayMeters;
use crate::ports::GatewayPorts;
use crate::shared_limits::SharedLimits;

/// State of the router.
pub(crate) type Shared = Arc<GatewayCore>;

#[derive(Debug)]
pub(crate) struct GatewayCore {
    pub(crate) ports: GatewayPorts,
    pub(crate) operator: OperatorScope,
    /// The settings of the start, for what only a start can change: the listeners, TLS and the size of caches.
    pub(crate) config: GatewayConfig,
    /// The newest settings, for all others.
    live: ArcSwap<GatewayConfig>,
    /// Who says which configuration counts; unset where none is followed.
    pub(crate) configuration: OnceLock<Arc<dyn ConfigReporter>>,
    pub(crate) caches: GatewayCaches,
    pub(crate) limits: SharedLimits,
    /// Connections of both listeners that are open right now.
    pub(crate) connections: AtomicUsize,
    pub(crate) request_ids: RequestIds,
    pub(crate) meters: GatewayMeters,
    pub(crate) phase: DrainPhases,
    pub(crate) started_at: Timestamp,
    /// Who owns this process, as the socket's file tells; unset without a socket.
    pub(crate) owner_uid: OnceLock<u32>,
    /// The TCP address that was bound; unset without one.
    pub(crate) tcp: OnceLock<SocketAddr>,
}

impl GatewayCore {
    pub(crate) fn new(config: GatewayConfig, ports: GatewayPorts, meters: GatewayMeters) -> Self {
        Self {
            operator: ports.authority.issue_operator(),
            caches: GatewayCaches::new(config.cache_time()),
            limits: SharedLimits::new(&config),
            connections: AtomicUsize::new(0),
            request_ids: RequestIds::new(ports.runtime.ids.new_uuid().as_u128()),
            meters,
            phase: DrainPhases::default(),
            started_at: ports.runtime.clock.now(),
            owner_uid: OnceLock::new(),
            tcp: OnceLock::new(),
            live: ArcSwap::from_pointee(config.clone()),
            configuration: OnceLock::new(),
            config,
            ports,
        }
    }

    /// The settings that may change while the server runs, as of now.
    pub(crate) fn live(&self) -> Arc<GatewayConfig> {
        self.live.load_full()
    }

    /// Lets other settings count from now on, of those that may change while the server runs.
    pub(crate) fn replace_live(&self, config: GatewayConfig) {
        self.limits.replace_config(&config);
        self.live.store(Arc::new(config));
    }

    pub(crate) fn authority(&self) -> &ScopeAuthority {
        &self.ports.authority
    }

    /// Requests that hold a share right now.
    pub(crate) fn requests_in_flight(&self) -> usize {
        self.limits.requests.taken_slots()
    }

    /// Connections that are open right now.
    pub(crate) fn connections_open(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Journal streams that are open right now.
    pub(crate) fn streams_open(&self) -> usize {
        self.limits.streams.taken_slots()
    }
}

/// The phases of a drain, each entered once and in this order.
#[derive(Debug, Default)]
pub(crate) struct DrainPhases {
    /// Nothing new is accepted, streams end but those of runs at work, and connections close after the request they carry.
    pub(crate) closing: CancellationToken,
    /// Requests that wait for an answer return that their input is accepted, and the last streams end.
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
