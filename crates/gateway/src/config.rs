//! The gateway's section of the configuration, checked before anything is bound.
//!
//! An address that other machines can reach is served with TLS only: without it tokens would travel in the open.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::token::TokenScopes;
use serde::{Deserialize, Serialize};

use crate::host_check::{is_host, is_origin};

/// The most connections that a listener is set to hold.
const CONNECTIONS_MAX: usize = 1 << 20;

/// The files of TLS, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, and after it those that vouch for it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Takes relative paths as paths below a directory.
    pub fn relative_to(self, directory: &Path) -> Self {
        Self { cert: directory.join(self.cert), key: directory.join(self.key) }
    }
}

/// What a user of this machine may do on the Unix socket who does not own the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketUser {
    /// The one tenant that he sees.
    pub tenant: HandleSlug,
    /// What he may do there.
    pub scopes: TokenScopes,
}

/// Where and how to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The TCP address; port 0 takes a free one. Absent: no TCP.
    pub listen: Option<SocketAddr>,
    /// The path of the Unix socket. Absent: no Unix socket.
    pub socket: Option<PathBuf>,
    /// Users who may speak on the Unix socket, by number, in addition to root and the user that owns the server.
    pub socket_users: BTreeMap<u32, SocketUser>,
    /// Roles in addition to those that every server has.
    pub roles: BTreeMap<String, TokenScopes>,
    /// The names by which clients may address the TCP listener, without port; loopback names and its own address always
    /// work.
    pub hosts: Vec<String>,
    /// The origins, such as `https://app.example`, whose pages may ask, in addition to the server's own.
    pub origins: Vec<String>,
    /// What the TCP listener is encrypted with. Absent: nothing, and then it is a loopback address.
    pub tls: Option<TlsFiles>,
    /// The agent that answers events which name none.
    pub default_agent: Option<HandleSlug>,
    /// What one actor and one token may ask for.
    pub callers: CallerLimits,
    /// What all callers together may ask for.
    pub capacity: GatewayCapacity,
    /// How long clients may take, and how long a look-up is trusted.
    pub deadlines: GatewayDeadlines,
}

/// What one actor and one token may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerLimits {
    /// The most inputs of one actor per minute in the long run; 0 sets no bound.
    pub actor_inputs_per_minute_max: u32,
    /// The most inputs of one actor at once, before its rate counts.
    pub actor_inputs_burst_max: u32,
    /// The most requests of one token per second in the long run; 0 sets no bound.
    pub token_rate_max: u32,
    /// The most requests of one token at once, before its rate counts.
    pub token_burst_max: u32,
    /// The most requests of one token at a time, waits included.
    pub token_requests_max: usize,
    /// The most streams of one token at a time.
    pub token_streams_max: usize,
}

/// What all callers together may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCapacity {
    /// The longest request body, in bytes.
    pub body_bytes_max: usize,
    /// The longest session file that can be imported, in bytes.
    pub import_bytes_max: usize,
    /// The most imports at a time; more are refused as `overloaded`.
    pub imports_max: usize,
    /// The most requests at a time; more are refused as `overloaded`.
    pub requests_max: usize,
    /// The most journal streams at a time; more are refused as `overloaded`.
    pub streams_max: usize,
    /// The most connections of each listener at a time; more wait to be accepted.
    pub connections_max: usize,
    /// The most connections of one peer address at a time on the TCP listener; more are closed.
    pub address_connections_max: usize,
    /// The most streams of one HTTP/2 connection at a time.
    pub http2_streams_max: u32,
}

/// How long clients may take, and how long a look-up is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayDeadlines {
    /// How long a client may take for the headers of a request, idle time between requests included.
    pub header_ms: u64,
    /// How long a client may take for the body of a request.
    pub body_ms: u64,
    /// How long a client may leave an answer unread before it is dropped.
    pub write_ms: u64,
    /// How long a drain waits for requests in flight.
    pub drain_ms: u64,
    /// How long a token, tenant or agent that was looked up is trusted without another look.
    pub cache_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self::with_requests_max(4096)
    }
}

impl GatewayConfig {
    /// The defaults for a server of so many requests at a time. Connections and streams follow from their number, and of
    /// each one token or address has half, so that it cannot shut the others out.
    #[must_use]
    pub fn with_requests_max(requests_max: usize) -> Self {
        let connections_max = requests_max.saturating_mul(2).min(CONNECTIONS_MAX);
        Self {
            listen: None,
            socket: None,
            socket_users: BTreeMap::new(),
            roles: BTreeMap::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            tls: None,
            default_agent: None,
            callers: CallerLimits {
                actor_inputs_per_minute_max: 0,
                actor_inputs_burst_max: 20,
                token_rate_max: 0,
                token_burst_max: 100,
                token_requests_max: requests_max.div_ceil(2),
                token_streams_max: requests_max.div_ceil(8),
            },
            capacity: GatewayCapacity {
                body_bytes_max: 1 << 20,
                import_bytes_max: 64 << 20,
                imports_max: 2,
                requests_max,
                streams_max: requests_max.div_ceil(4),
                connections_max,
                address_connections_max: connections_max.div_ceil(2),
                http2_streams_max: 128,
            },
            deadlines: GatewayDeadlines {
                header_ms: 30_000,
                body_ms: 15_000,
                write_ms: 15_000,
                drain_ms: 5_000,
                cache_ms: 1_000,
            },
        }
    }
}

/// Says which setting cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The TCP address can be reached from other machines, and nothing encrypts what travels there.
    #[error(
        "without TLS the server listens on loopback addresses only, and {address} is another address: set \
         http.tls.cert and http.tls.key, or listen on 127.0.0.1"
    )]
    Unencrypted {
        /// The address.
        address: SocketAddr,
    },
    /// A name of the list of hosts is none.
    #[error("{found:?} is not a host name; write it without scheme, port and path, such as agents.example")]
    Host {
        /// Its place in the list.
        index: usize,
        /// What is there.
        found: String,
    },
    /// An entry of the list of origins is none.
    #[error(
        "{found:?} is not an origin; write scheme, host and port without a path, such as https://app.example"
    )]
    Origin {
        /// Its place in the list.
        index: usize,
        /// What is there.
        found: String,
    },
    /// Neither a TCP address nor a socket is set.
    #[error("neither `listen` nor `socket` is set, so no client could reach the server")]
    NoDoor,
    /// A number is outside its range.
    #[error("`{key}` must be from {min} to {max}, and is {found}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
        /// The value found.
        found: u64,
    },
}

impl GatewayConfig {
    /// The mode of the socket's file. The kernel names the peer in any case.
    pub(crate) fn socket_mode(&self) -> u32 {
        if self.socket_users.is_empty() { 0o600 } else { 0o666 }
    }

    /// Checks every setting and binds nothing.
    ///
    /// # Errors
    /// Fails with the first of its [`list_problems`](Self::list_problems).
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.list_problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// Lists every setting that is wrong: the listeners first, then the numbers.
    #[must_use]
    pub fn list_problems(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        let open = self.listen.filter(|address| !address.ip().to_canonical().is_loopback());
        if let (Some(address), None) = (open, &self.tls) {
            problems.push(ConfigError::Unencrypted { address });
        }
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| !is_host(host)) {
            problems.push(ConfigError::Host { index, found: host.clone() });
        }
        for (index, origin) in self.origins.iter().enumerate().filter(|(_, origin)| !is_origin(origin)) {
            problems.push(ConfigError::Origin { index, found: origin.clone() });
        }
        if self.listen.is_none() && self.socket.is_none() {
            problems.push(ConfigError::NoDoor);
        }
        let numbers =
            self.numeric_settings().into_iter().filter(|(_, found, min, max)| found < min || found > max);
        problems.extend(numbers.map(|(key, found, min, max)| ConfigError::OutOfRange {
            key,
            min,
            max,
            found,
        }));
        problems
    }

    /// Every number with the smallest and the largest that it may be.
    fn numeric_settings(&self) -> [(&'static str, u64, u64, u64); 19] {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        [
            ("body_bytes_max", count(self.capacity.body_bytes_max), 1024, 64 << 20),
            ("import_bytes_max", count(self.capacity.import_bytes_max), 1024, 1 << 30),
            ("imports_max", count(self.capacity.imports_max), 1, 64),
            ("requests_max", count(self.capacity.requests_max), 1, 1 << 20),
            ("streams_max", count(self.capacity.streams_max), 1, 1 << 20),
            ("connections_max", count(self.capacity.connections_max), 1, count(CONNECTIONS_MAX)),
            ("address_connections_max", count(self.capacity.address_connections_max), 1, 1 << 20),
            ("http2_streams_max", self.capacity.http2_streams_max.into(), 1, 1 << 16),
            ("actor_inputs_per_minute_max", self.callers.actor_inputs_per_minute_max.into(), 0, 1 << 20),
            ("actor_inputs_burst_max", self.callers.actor_inputs_burst_max.into(), 1, 1 << 20),
            ("token_rate_max", self.callers.token_rate_max.into(), 0, 1 << 20),
            ("token_burst_max", self.callers.token_burst_max.into(), 1, 1 << 20),
            ("token_requests_max", count(self.callers.token_requests_max), 1, 1 << 20),
            ("token_streams_max", count(self.callers.token_streams_max), 1, 1 << 20),
            ("header_ms", self.deadlines.header_ms, 10, 600_000),
            ("body_ms", self.deadlines.body_ms, 10, 600_000),
            ("write_ms", self.deadlines.write_ms, 10, 600_000),
            ("drain_ms", self.deadlines.drain_ms, 0, 600_000),
            ("cache_ms", self.deadlines.cache_ms, 0, 60_000),
        ]
    }

    pub(crate) fn header_time(&self) -> Duration {
        Duration::from_millis(self.deadlines.header_ms)
    }

    pub(crate) fn body_time(&self) -> Duration {
        Duration::from_millis(self.deadlines.body_ms)
    }

    pub(crate) fn write_time(&self) -> Duration {
        Duration::from_millis(self.deadlines.write_ms)
    }

    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_millis(self.deadlines.drain_ms)
    }

    pub(crate) fn cache_time(&self) -> Duration {
        Duration::from_millis(self.deadlines.cache_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_served_without_tls() {
        let tls = TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() };
        for (address, good) in [
            ("127.0.0.1:0", true),
            ("127.8.8.8:80", true),
            ("[::1]:4711", true),
            ("[::ffff:127.0.0.1]:4711", true),
            ("0.0.0.0:4711", false),
            ("[::]:4711", false),
            ("192.168.0.7:4711", false),
        ] {
            let listen = Some(address.parse().unwrap());
            let checked = GatewayConfig { listen, ..GatewayConfig::default() }.validate();
            assert_eq!(checked.is_ok(), good, "{address}: {checked:?}");
            let encrypted = GatewayConfig { listen, tls: Some(tls.clone()), ..GatewayConfig::default() };
            assert_eq!(encrypted.validate(), Ok(()), "{address}");
        }
    }

    #[test]
    fn an_impossible_host_or_origin_is_refused_by_its_place() {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let hosts = vec!["agents.example".to_owned(), "https://agents.example".to_owned()];
        let refused = GatewayConfig { listen, hosts, ..GatewayConfig::default() }.validate();
        assert!(matches!(refused, Err(ConfigError::Host { index: 1, .. })), "{refused:?}");
        let origins = vec!["https://app.example/".to_owned()];
        let refused = GatewayConfig { listen, origins, ..GatewayConfig::default() }.validate();
        assert!(matches!(refused, Err(ConfigError::Origin { index: 0, .. })), "{refused:?}");
    }

    #[test]
    fn missing_listeners_and_numbers_out_of_range_are_refused() {
        assert_eq!(GatewayConfig::default().validate(), Err(ConfigError::NoDoor));
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let none = GatewayConfig {
            listen,
            capacity: GatewayCapacity { requests_max: 0, ..GatewayConfig::default().capacity },
            ..GatewayConfig::default()
        };
        let refused = none.validate().unwrap_err();
        assert_eq!(refused.to_string(), "`requests_max` must be from 1 to 1048576, and is 0");
    }

    #[test]
    fn all_wrong_hosts_counts_and_times_are_listed_together() {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let hosts = vec!["https://agents.example".to_owned()];
        let wrong = GatewayConfig {
            listen,
            hosts,
            capacity: GatewayCapacity { requests_max: 0, ..GatewayConfig::default().capacity },
            deadlines: GatewayDeadlines { drain_ms: 600_001, ..GatewayConfig::default().deadlines },
            ..GatewayConfig::default()
        };
        let problems = wrong.list_problems();
        assert!(
            matches!(
                problems.as_slice(),
                [
                    ConfigError::Host { index: 0, .. },
                    ConfigError::OutOfRange { key: "requests_max", .. },
                    ConfigError::OutOfRange { key: "drain_ms", .. },
                ]
            ),
            "{problems:?}"
        );
        assert_eq!(wrong.validate().as_ref(), problems.first().map_or(Ok(&()), Err));
    }
}
