//! The built-in tools, those that an operator registers, and the homes of agents in which the file tools work.
//!
//! Invariant: what the gate judged is, byte for byte, what is executed. [`Toolbox`] reads a call's arguments
//! once into typed, canonical form; executing reads that form back with the same parser. No path is ever checked
//! as a string and opened later: the kernel resolves it beneath a held directory handle, and follows no link.
//! A read creates nothing.
//!
//! Reading order: [`toolbox`] is the port; `arguments` and `path` say what a call may look like; `workspace`
//! opens things, `files`, `listing`, `search` and `edit` act on them, one change at a time (`turns`); `marks` labels
//! what they read and wrote, `walk` looks at a whole workspace; `program` runs programs in a sandbox that others build,
//! within `limits`; `proxy` serves a program that may reach other hosts; `live` streams what programs say, `ending` says
//! how they ended; `kept` keeps results that are too long to show; `past` reads results of earlier turns again;
//! `message` sends; `web` asks other hosts; [`external`] posts calls to an operator's tool servers; [`home_wipe`] wipes.

pub mod toolbox;

mod action_digest;
mod arguments;
mod audience;
mod branch;
mod catalogue;
mod child;
mod contents;
mod path;

mod edit;
mod exit_report;
mod file_error;
mod file_labels;
mod files;
mod limits;
mod listing;
mod live;
mod message;
mod past_read;
mod program;
mod proxy;
mod quota;
mod reference;
mod search;
mod spilled_output;
mod web;
mod worker_cancel;
mod worker_route;
mod worker_spawn;
mod workspace;
mod workspace_lock;
mod workspace_scan;

pub mod external;

pub mod home_wipe;

pub use crate::audience::ToolAudience;
pub use crate::external::{ExternalProblem, ExternalSpec, ExternalTool};
pub use crate::home_wipe::AgentHomes;
pub use crate::toolbox::{CallSettings, Toolbox, ToolsConfig, prepare_builtin};
