//! The commands that talk to a running server, over its Unix socket.
//!
//! [`Command`] and [`Global`] are clap arguments, so the binary can put its own commands beside them; [`run()`] does
//! one command and returns how it [`Exit`]ed. Results go to stdout, notices to stderr; with `--json` stdout is one
//! document. Nothing here reads the store or the configuration of a server: what the wire contract does not say,
//! the command line does not know.

pub mod args;
pub mod context;
pub mod exit;
pub mod explain;
pub mod format;
pub mod output;
pub mod schema;

mod client;
mod commands;
mod error;
mod saved;
mod settings;
mod shape;
mod sse;

pub use crate::args::{Command, Global};
pub use crate::client::Client;
pub use crate::commands::{published, run};
pub use crate::context::{Context, home_of_process};
pub use crate::error::{Error, Outcome};
pub use crate::exit::Exit;
pub use crate::output::Output;
pub use crate::shape::Unfit;
