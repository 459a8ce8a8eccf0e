//! Arguments of `context`.

use clap::{Args, Subcommand};

use dromia_api::HandleSlug;

/// Keep servers on other machines under names.
#[derive(Debug, Clone, Subcommand)]
pub enum ContextCommand {
    /// Keep a server and a token for it under a name
    #[command(
        visible_alias = "new",
        after_help = "The token is read from standard input, or typed at a terminal that does not show it. It is kept in a file that only you can read, and no command prints it.\n\nExamples:\n  dromia context add prod --server https://agents.example --token-stdin < token\n  dromia context add lab --server https://10.0.0.7:7741 --ca lab.pem"
    )]
    Add(AddContext),
    /// List the contexts; none of their tokens
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia context list\n  dromia context list --json"
    )]
    List,
    /// Let commands mean this context when they name no server
    #[command(
        after_help = "The name `local` means the server of this machine.\n\nExamples:\n  dromia context use prod\n  dromia context use local"
    )]
    Use {
        /// The context, or `local`
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show a context, or the one in use; not its token
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia context show\n  dromia context show prod"
    )]
    Show {
        /// The context [default: the one in use]
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Forget a context and its token
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  dromia context remove prod\n  dromia context rm lab"
    )]
    Remove {
        /// The context
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// What to keep; the server and its authorities are named with `--server` and `--ca`.
#[derive(Debug, Clone, Args)]
pub struct AddContext {
    /// What you call it: lower-case letters, digits and `-`
    #[arg(value_name = "NAME")]
    pub name: HandleSlug,
    /// Read the token from standard input
    #[arg(long)]
    pub token_stdin: bool,
    /// Replace the context of this name
    #[arg(long)]
    pub replace: bool,
}
