//! `dromia tenant` and `dromia token`: who may come in.

use clap::{Args, Subcommand};
use dromia_api::{HandleSlug, TokenScope};

use super::PageArguments;
use super::value::bounded_lifetime;

/// What to do with tenants.
#[derive(Debug, Clone, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant and print its token, once
    #[command(visible_alias = "new", after_help = "Examples:\n  dromia tenant create acme")]
    Create(CreateTenant),
    /// List tenants
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia tenant list")]
    List(PageArguments),
    /// Show a tenant: its state, what it has, what it spends and its budgets
    #[command(
        after_help = "Examples:\n  dromia tenant show acme\n  dromia tenant show acme --json=counts,spend"
    )]
    Show(NamedTenant),
    /// Suspend a tenant: its tokens read, its runs rest, and nothing of it changes or calls a model
    #[command(after_help = "Examples:\n  dromia tenant suspend acme\n  dromia run list --tenant acme")]
    Suspend(NamedTenant),
    /// Have a suspended tenant go on where it stopped
    #[command(after_help = "Examples:\n  dromia tenant resume acme")]
    Resume(NamedTenant),
    /// Erase a suspended tenant: its agents, tokens, secrets, budgets and rules, its history and its audit
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  dromia tenant suspend acme\n  dromia tenant delete acme\n  dromia tenant rm acme --yes"
    )]
    Delete(NamedTenant),
}

/// A tenant that is there.
#[derive(Debug, Clone, Args)]
pub struct NamedTenant {
    /// Its handle
    pub handle: HandleSlug,
}

/// A tenant to register.
#[derive(Debug, Clone, Args)]
pub struct CreateTenant {
    /// Its handle
    pub handle: HandleSlug,
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it, once
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia token create laptop\n  dromia token create metrics --scope metrics --expires 30d\n  dromia --tenant acme token create admin --scope admin"
    )]
    Create(CreateToken),
    /// List tokens
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia token list\n  dromia tokens ls --json")]
    List(PageArguments),
    /// Revoke a token for good; it stops working at once
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  dromia token revoke laptop\n  dromia token revoke 3f9a1c72"
    )]
    Revoke(TokenName),
}

/// A token to make.
#[derive(Debug, Clone, Args)]
pub struct CreateToken {
    /// Its name; the audit log shows its actions as token:NAME
    pub name: String,
    /// Allow read, invoke (send events), operate (control agents and runs), approve (answer waiting calls), metrics
    /// (read /metrics) or admin (everything in the tenant); repeatable
    #[arg(long = "scope", value_name = "SCOPE", default_values_t = dromia_api::token::SCOPES_DEFAULT)]
    pub scopes: Vec<TokenScope>,
    /// Give it a role: viewer, approver, operator, monitor, admin, or one of dromia.yaml
    #[arg(long, value_name = "ROLE", conflicts_with = "scopes")]
    pub role: Option<String>,
    /// Let it expire after 12h, 30d or 8w [default: when it is revoked]
    #[arg(long, value_name = "TIME", value_parser = bounded_lifetime)]
    pub expires: Option<u64>,
}

/// A token, by name.
#[derive(Debug, Clone, Args)]
pub struct TokenName {
    /// Its name, its id, or the first or last digits of its id
    #[arg(value_name = "NAME|ID")]
    pub name: String,
}
