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
//! Reading order: `state`, `decide`, `context`, `plan`, `opinion`, `owner`, `recover`, `submit`,
//! `session_claim`, `outcome`, `approvals`, then the rest. Each verb of the port is a type with a file of its own, which
//! borrows the parts of the core that it needs; `runs_port` names them all.

mod collected_sessions;
pub mod config;
pub mod decide;
pub mod scheduler;
pub mod state;
pub mod steps;

mod agents;
mod answer_check;
mod approval_binding;
mod approvals;
mod budgets;
mod byte_count;
mod call_metrics;
mod checkpoint;
mod client_tools;
mod compaction;
mod context;
mod core;
mod counters;
mod default_arguments;
mod delayed_calls;
mod due_runs;
mod encoded_request;
mod endorse;
mod engine;
mod erasures;
mod input_joining;
mod janitor;
mod journal_reads;
mod json_leaves;
mod judge;
mod kill;
mod lease;
mod live_redaction;
mod mind_roles;
mod model_request;
mod notifications;
mod opinion;
mod outcome;
mod owner;
mod panics;
mod parked_runs;
mod paused_work;
mod plan;
mod ports;
mod records;
mod recover;
mod refusal;
mod registry;
mod retention;
mod revisions;
mod run_control;
mod run_explanation;
mod run_kinds;
mod run_tools;
mod runs_port;
mod session_briefing;
mod session_claim;
mod session_file;
mod signalled_runs;
mod submit;
mod summary_reads;
mod token_count;
mod tokens;
mod usage;
mod window_use;

pub use crate::approval_binding::ApprovalBinding;
pub use crate::config::{ApprovalsConfig, EngineConfig, ObjectionAction, RetentionConfig, SecondOpinion};
pub use crate::decide::{DecisionInput, NextAction, RunDecision, decide};
pub use crate::engine::Engine;
pub use crate::ports::EnginePorts;
pub use crate::session_file::check_session_file;
pub use crate::state::{RunState, apply_entry};
