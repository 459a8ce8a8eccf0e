//! `dromia template` and `dromia role`: what agents are made from, and how workers work.

use clap::{Args, Subcommand};
use dromia_api::HandleSlug;

use super::value::parse_label;

/// What to do with templates.
#[derive(Debug, Clone, Subcommand)]
pub enum TemplateCommand {
    /// List the templates that an agent may be made from
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia template list\n  dromia template list --json"
    )]
    List,
    /// Show a template: its variables, its rights and its text
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia template show research\n  dromia template show research --var tone=dry --yaml > mine.yaml\n  dromia agent apply -f mine.yaml"
    )]
    Show(ShowTemplate),
}

/// A template to show.
#[derive(Debug, Clone, Args)]
pub struct ShowTemplate {
    /// Its name
    pub name: String,
    /// Set a variable; repeatable
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_label, requires = "yaml")]
    pub variables: Vec<(String, String)>,
    /// Print the agent as `dromia agent apply -f` reads it, to change it before it is made
    #[arg(long)]
    pub yaml: bool,
}

/// What to do with roles.
#[derive(Debug, Clone, Subcommand)]
pub enum RoleCommand {
    /// List the roles that workers may have: those that are built in, and those of the agent
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia role list\n  dromia role list --agent lead"
    )]
    List,
    /// Show what workers with a role read
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia role show coder\n  dromia role show coder > coder.md && dromia agent identity edit lead \\\n      roles/coder.md --file coder.md"
    )]
    Show(RoleName),
}

/// A role.
#[derive(Debug, Clone, Args)]
pub struct RoleName {
    /// Its name
    pub name: HandleSlug,
}
