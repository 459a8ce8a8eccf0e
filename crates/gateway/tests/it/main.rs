//! The gateway over its real doors, with rooms made for the tests behind it.

mod client;
mod doors;
mod drain;
mod event;
mod fake;
mod stream;
mod sweep;
mod views;
mod world;
