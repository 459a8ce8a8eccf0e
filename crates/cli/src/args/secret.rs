//! `dromia secret`: values that agents may use and nobody may read back.

use clap::{Args, Subcommand};
use dromia_api::Placement;

use super::Listing;

/// What to do with secrets.
#[derive(Debug, Clone, Subcommand)]
pub enum Secret {
    /// Make a secret, or give one a new value and a new rule
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia secret set github --stdin --host api.github.com --placement bearer < token.txt\n  pass show weather | dromia secret set weather --stdin --host api.weather.example --placement query:key\n  dromia secret set orders --stdin --host shop.example --placement signature < key.txt"
    )]
    Set(SetSecret),
    /// List secrets, without their values
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia secret list\n  dromia secrets ls --json"
    )]
    List(Listing),
    /// Give a secret a new value; the old one is erased
    #[command(after_help = "Examples:\n  dromia secret rotate github --stdin < token.txt")]
    Rotate(RotateSecret),
    /// Erase a secret with its key
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia secret delete github --yes")]
    Delete(SecretName),
    /// Give up all secrets of a tenant that no key opens any more, so that it takes new ones
    #[command(
        after_help = "Examples:\n  dromia secret reset --tenant acme\n  dromia secret reset --yes --json\n\nFor a vault.key that is lost for good: put it back instead, if you can. Refused while the key of the home opens the secrets. Where the file is missing, only the owner of the home gives up secrets, and that makes another one. Capabilities of the tenant end, too, because they are signed with the same key: grant them anew."
    )]
    Reset,
}

/// A secret to set.
#[derive(Debug, Clone, Args)]
pub struct SetSecret {
    /// Its name; agents use it once they are granted secret:NAME
    pub name: String,
    /// Read the value from stdin, without the line break at its end
    #[arg(long)]
    pub stdin: bool,
    /// The one server that it is for: api.example.com, with :PORT if it is not 443, or http://… if nothing is encrypted
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// Where in a request it stands: header:NAME, bearer or query:NAME; signature for one that signs and is never sent
    #[arg(long, value_name = "PLACE")]
    pub placement: Placement,
}

/// A secret with a new value.
#[derive(Debug, Clone, Args)]
pub struct RotateSecret {
    /// Its name
    pub name: String,
    /// Read the value from stdin, without the line break at its end
    #[arg(long)]
    pub stdin: bool,
}

/// A secret, by name.
#[derive(Debug, Clone, Args)]
pub struct SecretName {
    /// Its name
    pub name: String,
}
