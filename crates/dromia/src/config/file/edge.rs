//! The way in: how the server is reached, and within which bounds.

use dromia_gateway::GatewayConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By which names and with what keys the TCP address is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenHttp {
    /// Host names that requests may ask for, without port, beside loopback names and the server's own address.
    pub(crate) hosts: Vec<String>,
    /// Origins of web pages that may ask, such as `https://app.example`; all others are refused.
    pub(crate) origins: Vec<String>,
    /// The certificate and its key; both or neither.
    #[serde(skip_serializing_if = "WrittenTls::is_absent")]
    pub(crate) tls: WrittenTls,
}

/// The certificate and its key; both or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTls {
    /// The PEM file of the certificate and those that vouch for it; a relative path is taken from the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<String>,
    /// The PEM file of the certificate's private key; a relative path is taken from the home.
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
    /// The most inputs of one actor per minute in the long run, from every source: events, webhooks, tasks, calls by
    /// hand and requests of other APIs. The operator on the socket is not counted; 0 sets no bound.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) actor_inputs_per_minute_max: u32,
    /// The longest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// How long a client may take for the body of a request, in milliseconds.
    pub(crate) body_ms: u64,
    /// How long a stop waits for what is at work, in milliseconds.
    pub(crate) drain_ms: u64,
    /// The most requests at a time: half of them of one token, a quarter of them streams of events, and two connections for each.
    pub(crate) requests_max: usize,
    /// The most requests of one token per second in the long run; 0 sets no bound.
    #[schemars(extend("x-effect" = "live"))]
    pub(crate) token_rate_max: u32,
}

impl Default for WrittenLimits {
    fn default() -> Self {
        let gateway = GatewayConfig::default();
        Self {
            actor_inputs_per_minute_max: gateway.actor_inputs_per_minute_max,
            body_bytes_max: gateway.body_bytes_max,
            body_ms: gateway.body_ms,
            drain_ms: 4_000,
            requests_max: gateway.requests_max,
            token_rate_max: gateway.token_rate_max,
        }
    }
}
