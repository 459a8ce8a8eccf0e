//! What two or more crates must agree on: ids, scope, nouns, journal entries, the transcript, labels, tool descriptors,
//! error codes and the ports.
//!
//! This crate executes nothing and persists nothing. It names no vendor, knows no SQL, no HTTP and no async
//! runtime. Not here: configuration sections, wire types, table rows, and any type with a single user.
//!
//! Reading order: [`id`] and [`scope`] say *who*; [`label`], [`content`], [`transcript`], [`client`] and [`input`] say
//! *what is said*; [`entry`] says *what happened*, [`delivery`] what of it leaves and [`channel`] by which
//! port, [`audit`] what proves it; [`store`]
//! says *how it becomes durable*; the remaining modules are the ports through which crates reach one another.

mod handle;
mod parsed;

pub mod id;
pub mod id_fragment;
pub mod identity_document;
pub mod scope;

pub mod agent;
pub mod digest;
pub mod file;
pub mod label;
pub mod lease;
pub mod mind;
pub mod retention;
pub mod revision;
pub mod session;
pub mod token;

pub mod active_config;
pub mod busy_policy;
pub mod client;
pub mod clock;
pub mod content;
pub mod input;
pub mod tool;
pub mod tool_catalogue;
pub mod transcript;

pub mod answer_format;
pub mod approval;
pub mod audit;
pub mod budget;
pub mod capability;
mod capability_grant;
pub mod channel;
pub mod compaction;
pub mod conclusion;
pub mod cost;
pub mod delivery;
pub mod encoded_request;
pub mod entry;
mod executable_files;
pub mod run;
mod run_kind;
pub mod run_origin;
pub mod store;
pub mod task;

pub mod compute;
pub mod egress;
pub mod fault;
pub mod gate;
pub mod guarded_paths;
pub mod model;
pub mod model_route;
pub mod opinion;
pub mod plan;
pub mod pool;
pub mod quantity;
pub mod redacted_history;
pub mod runs;
pub mod runtime;
pub mod sandbox;
pub mod tool_policy;
pub mod usage;
pub mod vault;
pub mod workspace;
pub mod workspace_files;

pub use futures_core::future::BoxFuture;

pub use crate::digest::Digest;
pub use crate::fault::{ErrorCode, Fault, Recourse};
pub use crate::id::{
    AgentId, ApprovalId, CallId, CapabilityId, DeliveryId, ItemId, RunId, SessionId, TenantId, TokenId,
    WriteId,
};
pub use crate::scope::{Actor, OperatorScope, Scope, ScopeAuthority};
