//! `dromia secret`: values that agents may use and that cannot be read back.

use clap::{Args, Subcommand};
use dromia_api::SecretPlacement;

use super::PageArguments;

/// What to do with secrets.
#[derive(Debug, Clone, Subcommand)]
pub enum SecretCommand {
    /// Create a secret, or replace its value and its rule
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia secret set github --stdin --host api.github.com --placement bearer < t\n  pass show shop | dromia secret set shop --stdin --host shop.example \\\n      --placement query:key\n  dromia secret set orders --stdin --host shop.example --placement signature < k"
    )]
    Set(SetSecret),
    /// List secrets, without their values
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia secret list\n  dromia secrets ls --json"
    )]
    List(PageArguments),
    /// Replace a secret's value and erase the old one
    #[command(after_help = "Examples:\n  dromia secret rotate github --stdin < token.txt")]
    Rotate(RotateSecret),
    /// Delete a secret and its key
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia secret delete github --yes")]
    Delete(SecretName),
    /// Discard all secrets of a tenant whose key is lost
    #[command(
        after_help = "Use this only when vault.key is lost for good; restore the file instead if you can. The server refuses while the key of the home opens the secrets. If the file is missing, only the owner of the home can discard secrets, and the command creates a new key. The tenant's capabilities end too, because the same key signs them: grant them again.\n\nExamples:\n  dromia secret reset --tenant acme\n  dromia secret reset --yes --json"
    )]
    Reset,
}

/// A secret to set.
#[derive(Debug, Clone, Args)]
pub struct SetSecret {
    /// Its name; agents use it once they are granted secret:NAME
    pub name: String,
    /// Read the value from stdin, without its final line break
    #[arg(long)]
    pub stdin: bool,
    /// Send it only to this server: api.example.com, with :PORT if not 443, or http://… without TLS
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// Put it in header:NAME, bearer or query:NAME of a request; signature only signs with it
    #[arg(long, value_name = "PLACE")]
    pub placement: SecretPlacement,
}

/// A secret with a new value.
#[derive(Debug, Clone, Args)]
pub struct RotateSecret {
    /// Its name
    pub name: String,
    /// Read the value from stdin, without its final line break
    #[arg(long)]
    pub stdin: bool,
}

/// A secret, by name.
#[derive(Debug, Clone, Args)]
pub struct SecretName {
    /// Its name
    pub name: String,
}
