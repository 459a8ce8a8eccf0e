//! The server's listeners: HTTP over a TCP port, with TLS where other machines reach it, and over a Unix socket.
//!
//! A request passes these stations in this order, and there is no other way in: the connection ([`service`]) and how
//! many its address has (`addresses`), the request id (`request`) and the check of host and origin (`host_check`), the route
//! table ([`routes`]) with the share of concurrent requests (`share`), `authentication`, what the token may take
//! (`rate_limit`) and the scope that the route needs, the handler, and the one place that writes problems (`failure`). What a handler takes
//! in for an agent is counted against the rate of its actor (`ingress`).
//!
//! In addition to its own routes the gateway serves those of other APIs (`compat`), so that their clients can be
//! pointed here. What their bodies say can be read without a server ([`request_body`]).
//!
//! The gateway decides who asks, and nothing about what is done: it stores through [`Store`] only what needs no
//! engine, and speaks to the engine through [`EnginePort`]. It keeps nothing that matters across a restart; its caches
//! hold names of owners for a second.
//!
//! What leaves by itself goes through the [`outbox`], to the [`channel`]s of the configuration, signed ([`signature`]);
//! by the same signature their events are let in.
//!
//! Lifecycle: [`CallerLimits, GatewayCapacity, GatewayConfig, GatewayDeadlines::validate`] (pure) → [`build_gateway`] (binds) → [`Gateway::run`] (serves, then drains)
//! beside a cheap [`GatewayHandle`].
//!
//! [`Store`]: dromia_contracts::store::Store
//! [`EnginePort`]: dromia_contracts::runs::EnginePort

pub mod channel;
pub mod config;
pub mod openapi;
pub mod outbox;
pub mod request_body;
pub mod routes;
pub mod service;
pub mod signature;
pub mod tls;

mod addresses;
mod authentication;
mod connection;
mod hint_wording;
mod host_check;
mod refusal_delay;
mod request;
mod reserved_platforms;

mod body_budget;
mod cache;
mod caches;
mod caller;
mod core;
mod edge_refusal;
mod extract;
mod failure;
mod ingress;
mod metrics;
mod nearest_name;
mod ports;
mod question;
mod rate_limit;
mod session_range;
mod share;
mod shared_limits;
mod slot_pool;
mod stream_authentication;

mod compat;
mod idempotency_key;
mod journal_stream;
mod keyed_change;
mod transcript;
mod wire;

pub use crate::channel::{
    AdapterPorts, ChannelConfig, ChannelKey, ChannelKeys, ChannelSet, DeliveryTerms, FileAdapter,
    FileChannel, WebhookAdapter, WebhookChannel,
};
pub use crate::config::{
    CallerLimits, ConfigError, GatewayCapacity, GatewayConfig, GatewayDeadlines, SocketUser, TlsFiles,
};
pub use crate::metrics::{LogMeter, ToolMeters};
pub use crate::outbox::{Outbox, OutboxPorts, WebhookOutcome, WebhookRequest, WebhookSender};
pub use crate::ports::GatewayPorts;
pub use crate::service::{BuildError, DrainReport, Gateway, GatewayHandle, build_gateway};
pub use crate::tls::TlsError;
