//! The commands that talk to a running server, over its Unix socket or over TLS.
//!
//! [`ClientCommand`] and [`GlobalOptions`] are clap arguments, so the binary can put its own commands beside them;
//! [`run_command`] runs one command and returns its [`CommandExit`]. Results go to stdout, notices to stderr; with
//! `--json` stdout is one document. Nothing here reads the store or the configuration of a server: what the wire
//! contract does not say, the command line does not know.

pub mod args;
pub mod context;
pub mod exit;
pub mod explain;
pub mod format;
pub mod output;
pub mod schema;

mod answer_schema;
mod client;
mod commands;
mod contexts;
mod download;
mod error;
mod interrupt;
mod message_editor;
mod nearest_word;
mod remote;
mod schema_violation;
mod settings;
mod sse;

pub use crate::args::{ClientCommand, GlobalOptions};
pub use crate::client::ApiClient;
pub use crate::commands::{published_schemas, read_hidden_line, run_command};
pub use crate::context::{
    CommandContext, EchoGuard, InputKind, KEYS_MAX, KeyStream, LocalTime, ReadRoots, RemoteHints,
    TerminalAccess, TextEditor, home_of_process,
};
pub use crate::contexts::means_remote;
pub use crate::error::{Error, Outcome};
pub use crate::exit::CommandExit;
pub use crate::message_editor::{CompletionWords, EditorFuture, MessageEditor, OpenEditor, TypedAhead};
pub use crate::nearest_word::nearest_word;
pub use crate::output::{CommandOutput, ascii_text, wrap_beside, wrap_text};
pub use crate::schema_violation::SchemaViolation;
