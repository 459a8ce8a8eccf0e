//! The way in: how the server is reached, and within which bounds.

use dromia_gateway::GatewayConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By which names and with what keys the TCP address is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenHttp {
    /// Host names that requests may use in the `host` header, without port. Loopback names and the server's own address
    /// are always accepted. Add the public name of the server here.
    pub(crate) hosts: Vec<String>,
    /// Origins of web pages that may call the server from a browser, such as `https://app.example`. Requests from all
    /// others are refused.
    pub(crate) origins: Vec<String>,
    /// Certificate and private key for TLS; set both or neither. An edit of the paths needs a restart, because the
    /// listener is opened with or without TLS; a renewed certificate in the same file needs none.
    #[serde(skip_serializing_if = "WrittenTls::is_absent")]
    #[schemars(extend("x-effect" = "restart"))]
    pub(crate) tls: WrittenTls,
}

/// The certificate and its key; both or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTls {
    /// PEM file with the certificate and its chain. A relative path starts at the home. A renewed file is loaded within
    /// a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<String>,
    /// PEM file with the private key of the certificate. A relative path starts at the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl WrittenTls {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// Bounds of the HTTP edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenLimits {
    /// Most inputs of one actor per minute, on average, over all ways in: events, webhooks, tasks, manual calls and the
    /// compatible APIs. Requests of the operator on the socket are not counted. 0 sets no limit.
    pub(crate) actor_inputs_per_minute_max: u32,
    /// Largest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// Time that a client has to send a request body, in milliseconds.
    pub(crate) body_ms: u64,
    /// How long a stop waits for active requests, runs and messages, in milliseconds. What is not done by then
    /// continues at the next start.
    pub(crate) drain_ms: u64,
    /// Most requests at the same time. One token may use half of them, event streams a quarter; connections are limited
    /// to twice this number. Raise it for many clients that wait for answers.
    pub(crate) requests_max: usize,
    /// Most requests of one token per second, on average. Set it on a server that other machines reach. 0 sets no
    /// limit.
    pub(crate) token_rate_max: u32,
}

impl Default for WrittenLimits {
    fn default() -> Self {
        let gateway = GatewayConfig::default();
        Self {
            actor_inputs_per_minute_max: gateway.callers.actor_inputs_per_minute_max,
            body_bytes_max: gateway.capacity.body_bytes_max,
            body_ms: gateway.deadlines.body_ms,
            drain_ms: 4_000,
            requests_max: gateway.capacity.requests_max,
            token_rate_max: gateway.callers.token_rate_max,
        }
    }
}
