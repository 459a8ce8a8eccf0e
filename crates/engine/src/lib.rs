//! The engine: a pure core in an effectful shell.
//!
//! [`decide()`] and [`apply_entry`] define what a run does next; they touch nothing. The shell (`owner`) makes entries
//! durable, performs the one effect that the decision names and feeds its result back. A start and a lost store end in
//! the same recovery (`recover`): raise the epoch, fold the journal, go on.
//!
//! This crate knows no SQL and no HTTP, reads no clock and draws no randomness; it reaches the world through
//! [`EnginePorts`] and [`Runtime`](dromia_contracts::runtime::Runtime). An idle session, a waiting input and a parked
//! run hold no task.
//!
//! Reading order: `state`, `decide`, `client`, `story`, `plan`, `opinion`, `ask`, `owner`, `recover`, `submit`,
//! `claim`, `answering`, `approvals`, then the rest.

pub mod config;
pub mod decide;
pub mod scheduler;
pub mod state;
pub mod steps;

mod agents;
mod answering;
mod approvals;
mod ask;
mod binding;
mod bounded;
mod budgets;
mod carry;
mod claim;
mod client;
mod core;
mod count;
mod counts;
mod defaults;
mod delays;
mod endorse;
mod erasures;
mod held;
mod janitor;
mod kill;
mod live;
mod opinion;
mod outcome;
mod owner;
mod plan;
mod records;
mod recover;
mod refusal;
mod registry;
mod runs_port;
mod sent;
mod steer;
mod story;
mod submit;
mod tokens;
mod unwound;
mod wake;

pub use crate::binding::ApprovalBinding;
pub use crate::carry::check_session_file;
pub use crate::config::{ApprovalsConfig, EngineConfig, ObjectionAction, SecondOpinion};
pub use crate::core::{Engine, EnginePorts};
pub use crate::decide::{DecisionInput, NextAction, RunDecision, decide};
pub use crate::state::{RunState, apply_entry};
