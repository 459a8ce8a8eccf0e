//! `dromia capability`: rights of agents that are signed, narrowed, handed on and taken back.

use std::time::Duration;

use clap::{Args, Subcommand};
use dromia_api::CapabilityId;

use super::Listing;
use super::value::{bounded_lifetime, duration};

/// What to do with capabilities.
#[derive(Debug, Clone, Subcommand)]
pub enum Capability {
    /// Grant rights to an agent, beside what its configuration grants
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia capability grant scribe file:write:out/reports --expires 8h\n  dromia capability grant scout net:http:api.example.com tool:time.now\n  dromia capability grant builder tool:shell.execute --wall 30s\n\nA right is file:read:PATH or file:write:PATH (a file, or all below a directory), net:http:HOST (*.NAME for every name\nbelow one) or tool:NAME (tool:NAME.* for a family). It counts from the agent's next run on."
    )]
    Grant(GrantCapability),
    /// Hand a capability on to another agent, narrowed
    #[command(
        after_help = "Examples:\n  dromia capability delegate cap_0199c0de… --to helper file:write:out/reports/2026\n  dromia capability delegate cap_0199c0de… --to helper --expires 10m"
    )]
    Delegate(DelegateCapability),
    /// Take a capability back, at once, with all that were made from it
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia capability revoke cap_0199c0de…")]
    Revoke(CapabilityName),
    /// List capabilities; with --agent those of the page which that agent holds
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia capability list\n  dromia capabilities ls --json"
    )]
    List(Listing),
    /// Ask whether the gate would let a call through; exits with 4 if it would not
    #[command(
        after_help = "Examples:\n  dromia capability check scribe file.write '{\"path\":\"out/a.md\",\"content\":\"\"}'\n  dromia capability check scribe file.read '{\"path\":\"a\"}' --token \"$TOKEN\"\n\nNothing is done. Rules of approvals (dromia approval rule list) are asked too, but for those of one session. With --token the call is allowed if that token covers it and the gate lets it through then."
    )]
    Check(CheckCapability),
    /// Show what each capability of an agent says of a call, and which block of it decides
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
    /// What it may do, such as file:write:docs, net:http:api.example.com or tool:shell.execute
    #[arg(required = true, value_name = "RIGHT")]
    pub rights: Vec<String>,
    /// For how long, and how long a call
    #[command(flatten)]
    pub limits: CapabilityLimits,
}

/// A capability to hand on.
#[derive(Debug, Clone, Args)]
pub struct DelegateCapability {
    /// The capability's id
    pub capability: CapabilityId,
    /// What of it; without any all of it
    #[arg(value_name = "RIGHT")]
    pub rights: Vec<String>,
    /// The agent that is to hold it, by handle or id
    #[arg(long, value_name = "AGENT")]
    pub to: String,
    /// For how long, and how long a call
    #[command(flatten)]
    pub limits: CapabilityLimits,
}

/// How long a capability counts, and how long a call may take.
#[derive(Debug, Clone, Args)]
pub struct CapabilityLimits {
    /// How long it counts, such as 10m, 8h or 30d; without it until it is revoked
    #[arg(long, value_name = "TIME", value_parser = bounded_lifetime)]
    pub expires: Option<u64>,
    /// The most time of one call of a program, such as 30s; a call must say that it takes no longer
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wall: Option<Duration>,
}

/// A capability, by its id.
#[derive(Debug, Clone, Args)]
pub struct CapabilityName {
    /// Its id
    pub capability: CapabilityId,
}

/// A call that nobody makes.
#[derive(Debug, Clone, Args)]
pub struct CheckCapability {
    /// The agent's handle or id
    pub name: String,
    /// The tool
    pub tool: String,
    /// The arguments, as JSON
    #[arg(default_value = "{}")]
    pub arguments: String,
    /// Look at this token, as it was printed when it was made
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}
