//! The doors of the server: HTTP over a TCP port, with TLS where other machines reach it, and over a Unix socket.
//!
//! A request passes these stations in this order, and there is no other way in: the connection ([`service`]) and how
//! many its address has (`addresses`), the request id (`request`) and the check of host and origin (`names`), the route
//! table ([`routes`]) with the share of concurrent requests (`share`), authentication (`caller`), what the token may take
//! (`allowance`) and the scope that the route needs, the handler, and the one place that writes problems (`failure`). What a handler takes
//! in for an agent is counted against the rate of its actor (`ingress`).
//!
//! Beside the routes of the house stand those of other APIs (`compat`), so that their clients can be pointed here.
//! What their bodies say can be read without a server ([`reading`]).
//!
//! The gateway decides who asks, and nothing about what is done: it stores through [`Store`] only what needs no
//! engine, and speaks to the engine through [`Runs`]. It keeps nothing that matters across a restart; its caches
//! hold names of owners for a second.
//!
//! What leaves by itself goes through the [`outbox`], to the [`channel`]s of the configuration, signed ([`signature`]);
//! by the same signature their events are let in.
//!
//! Lifecycle: [`GatewayConfig::validate`] (pure) → [`build`] (binds) → [`Gateway::run`] (serves, then drains) beside
//! a cheap [`Handle`].
//!
//! [`Store`]: dromia_contracts::store::Store
//! [`Runs`]: dromia_contracts::runs::Runs

pub mod channel;
pub mod config;
pub mod openapi;
pub mod outbox;
pub mod reading;
pub mod routes;
pub mod service;
pub mod signature;
pub mod tls;

mod addresses;
mod connection;
mod names;
mod request;

mod allowance;
mod cache;
mod caller;
mod core;
mod extract;
mod failure;
mod ingress;
mod metrics;
mod share;
mod standing;

mod compat;
mod follow;
mod transcript;
mod wire;

pub use crate::channel::{Channel, ChannelKey, ChannelKeys, Channels};
pub use crate::config::{ConfigError, GatewayConfig, SocketUser, TlsFiles};
pub use crate::metrics::ToolMeters;
pub use crate::outbox::{Letter, Outbox, OutboxPorts, Post, Posted};
pub use crate::service::{BuildError, Drained, Gateway, Handle, Ports, build};
pub use crate::tls::TlsError;
