//! `dromia capability`: signed rights of agents: granted, narrowed, delegated and revoked.

use std::time::Duration;

use clap::{Args, Subcommand};
use dromia_api::CapabilityId;

use super::value::{bounded_lifetime, parse_duration};
use super::{IdReference, PageArguments};

/// What to do with capabilities.
#[derive(Debug, Clone, Subcommand)]
pub enum CapabilityCommand {
    /// Grant rights to an agent in addition to its configuration
    #[command(
        visible_alias = "new",
        after_help = "A right is file:read:PATH or file:write:PATH (a file, or everything below a directory), net:http:HOST (*.NAME for every name below NAME) or tool:NAME (tool:NAME.* for a family). It applies from the agent's next run on.\n\nExamples:\n  dromia capability grant scribe file:write:out/reports --expires 8h\n  dromia capability grant scout net:http:api.example.com tool:time.now\n  dromia capability grant builder tool:shell.execute --wall 30s"
    )]
    Grant(GrantCapability),
    /// Delegate a capability, or a part of it, to another agent
    #[command(
        after_help = "Examples:\n  dromia capability delegate 3f9a1c72 --to helper file:write:out/2026\n  dromia capability delegate 3f9a1c72 --to helper --expires 10m"
    )]
    Delegate(DelegateCapability),
    /// Revoke a capability and all that were delegated from it
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia capability revoke 3f9a1c72")]
    Revoke(CapabilityName),
    /// List capabilities; with --agent, those on the page that this agent holds
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia capability list\n  dromia capabilities ls --json"
    )]
    List(PageArguments),
    /// Check whether an agent may make a call; exits with 4 if not
    #[command(
        after_help = "The server does not make the call. It also asks the approval rules (see `dromia approval rule list`), except those of one session. With --token, the call is allowed if that token covers it and the gate then allows it.\n\nExamples:\n  dromia capability check scribe file.write '{\"path\":\"out/a.md\",\"content\":\"\"}'\n  dromia capability check scribe file.read '{\"path\":\"a\"}' --token \"$TOKEN\""
    )]
    Check(CheckCapability),
    /// Show what each capability of an agent says about a call, and which block decides
    #[command(
        after_help = "Examples:\n  dromia capability explain scribe file.write '{\"path\":\"out/a.md\",\"content\":\"\"}'"
    )]
    Explain(CheckCapability),
}

/// Rights to grant.
#[derive(Debug, Clone, Args)]
pub struct GrantCapability {
    /// The agent's handle or id
    pub name: String,
    /// The right, such as file:write:docs, net:http:api.example.com or tool:shell.execute
    #[arg(required = true, value_name = "RIGHT")]
    pub rights: Vec<String>,
    /// For how long, and how long a call
    #[command(flatten)]
    pub limits: CapabilityLimits,
}

/// A capability to delegate.
#[derive(Debug, Clone, Args)]
pub struct DelegateCapability {
    /// The capability's id
    pub capability: IdReference<CapabilityId>,
    /// The part of it [default: all of it]
    #[arg(value_name = "RIGHT")]
    pub rights: Vec<String>,
    /// Give it to this agent, by handle or id
    #[arg(long, value_name = "AGENT")]
    pub to: String,
    /// For how long, and how long a call
    #[command(flatten)]
    pub limits: CapabilityLimits,
}

/// How long a capability counts, and how long a call may take.
#[derive(Debug, Clone, Args)]
pub struct CapabilityLimits {
    /// Let it expire after 10m, 8h or 30d [default: when it is revoked]
    #[arg(long, value_name = "TIME", value_parser = bounded_lifetime)]
    pub expires: Option<u64>,
    /// Limit one call of a program to this time, such as 30s; the call must ask for no more
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wall: Option<Duration>,
}

/// A capability, by its id.
#[derive(Debug, Clone, Args)]
pub struct CapabilityName {
    /// Its id
    pub capability: IdReference<CapabilityId>,
}

/// A call to check against the rights of an agent; the server does not execute it.
#[derive(Debug, Clone, Args)]
pub struct CheckCapability {
    /// The agent's handle or id
    pub name: String,
    /// The tool
    pub tool: String,
    /// The arguments, as JSON
    #[arg(default_value = "{}")]
    pub arguments: String,
    /// Check this token, as `capability grant` printed it
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}
