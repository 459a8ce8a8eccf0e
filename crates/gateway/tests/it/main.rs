//! The gateway over its real doors, with rooms made for the tests behind it.

#![expect(clippy::unwrap_used, reason = "a test may fail at once, in its helpers too")]

mod approvals;
mod audit;
mod client;
mod compat;
mod cost;
mod described;
mod doors;
mod drain;
mod edge;
mod event;
mod fake;
mod http2;
mod idempotency;
mod ids;
mod ingress;
mod outbox;
mod reading;
mod reference;
mod rights;
mod roles;
mod stream;
mod sweep;
mod task;
mod tenants;
mod tls;
mod tokens;
mod tools;
mod views;
mod webhook;
mod world;
