//! `dromia model`: the aliases that agents name, who answers under them and who stands in.

mod list;
mod set;
mod trial;

use std::process::ExitCode;

use dromia_cli::{Context, Global, Output};
use dromia_models::KnownModels;

use self::set::{Assignment, assignment};
use crate::change::Held;
use crate::config::{self, Kind, Route, SCRIPTED, Written};
use crate::home::Home;
use crate::system::Exit;

pub(crate) use self::list::{Listing, Routed};
pub(crate) use self::set::lines;
pub(crate) use self::trial::Trial;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ModelCommand {
    /// List the models with their provider, stand-ins, window and price.
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia model list\n  dromia models ls --json")]
    List,
    /// Set who answers under an alias, and who stands in.
    #[command(
        after_help = "Examples:\n  dromia model set default=openai/gpt-5-mini\n  dromia model set default=openai/gpt-5-mini,spare\n  dromia model set default=scripted"
    )]
    Set {
        /// The alias, the provider, the model's id there, and the aliases that stand in.
        #[arg(value_name = "ALIAS=PROVIDER/ID[,FALLBACK…]", value_parser = assignment)]
        assignment: Assignment,
    },
    /// Make one real call with a tiny question: time, usage and cost.
    #[command(after_help = "Examples:\n  dromia model test default\n  dromia model test default --json")]
    Test {
        /// The alias.
        alias: String,
    },
    /// Look at who answers.
    #[command(subcommand)]
    Route(RouteCommand),
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RouteCommand {
    /// Show who answers under an alias and who stands in, in order.
    #[command(after_help = "Examples:\n  dromia model route show\n  dromia model route show default")]
    Show {
        /// The alias; all without it.
        alias: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ModelCommand,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let output = &mut Output::of_local(context, global);
    output.check()?;
    match command {
        ModelCommand::List => list::list(&Held::of(home)?.loaded, output)?,
        ModelCommand::Set { assignment } => set::run(&Held::of(home)?, assignment, output)?,
        ModelCommand::Test { alias } => trial::run(home, alias, global.timeout, output)?,
        ModelCommand::Route(RouteCommand::Show { alias }) => {
            list::routes(&Held::of(home)?.loaded, alias.as_deref(), output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every alias, `scripted` included.
fn aliases(written: &Written) -> Vec<&str> {
    let mut aliases: Vec<_> = written.models.keys().map(String::as_str).collect();
    if !written.models.contains_key(SCRIPTED) {
        aliases.push(SCRIPTED);
    }
    aliases
}

/// Who answers under an alias, or why nobody does.
fn route(written: &Written, alias: &str) -> Result<Route, String> {
    match written.models.get(alias) {
        Some(model) => {
            config::route(written, alias, model).map_err(|(key, message)| format!("{key}: {message}"))
        }
        None => Ok(Route { provider: None, kind: Kind::Scripted, target: None }),
    }
}

/// Where an answer comes from, in one word.
pub(crate) fn place(route: &Route) -> String {
    match (&route.provider, &route.target) {
        (Some(provider), Some(target)) => format!("{provider}/{}", target.model),
        (None, Some(target)) => {
            let host = target.server.base_url.as_deref().and_then(config::host).unwrap_or_default();
            format!("{host}/{}", target.model)
        }
        (_, None) => "the built-in scripted model".to_owned(),
    }
}

/// Writes an amount in the currency of the price table.
pub(crate) fn money(micros: u64) -> String {
    let currency = &KnownModels::builtin().currency;
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let digits = format!("{rest:06}");
    let digits = digits.trim_end_matches('0');
    format!("{whole}.{digits:0<2} {currency}")
}

/// Says that there is no such alias.
fn unknown(all: &[&str], alias: &str) -> anyhow::Error {
    let near = config::did_you_mean(alias, all.iter().copied());
    let next = if near.is_empty() { "; `dromia model list` shows all".to_owned() } else { near };
    Exit::usage(format!("there is no model {alias}{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_short_and_exact() {
        for (micros, text) in
            [(0, "0.00 USD"), (2_500_000, "2.50 USD"), (75_000, "0.075 USD"), (10_000_001, "10.000001 USD")]
        {
            assert_eq!(money(micros), text);
        }
    }
}
