//! `dromia model`: the aliases that agents name, who answers under them, and their fallbacks.

mod list;
mod set;
mod test_call;

use std::process::ExitCode;

use dromia_cli::{CommandContext, CommandOutput, GlobalOptions};
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::identity_document::PromptKind;
use dromia_contracts::model_route::RouteFacts;
use dromia_models::KnownModels;

use self::set::{ListPrice, ModelAssignment, parse_model_assignment, parse_price};
use crate::config::{self, ModelRoute, ProviderKind, SCRIPTED, WrittenConfig};
use crate::config_change::LockedConfig;
use crate::home::Home;
use crate::system::ExitError;

pub(crate) use self::list::{AliasListing, RouteRow};
pub(crate) use self::set::entry_lines;
pub(crate) use self::test_call::{ModelTrial, prove_model};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ModelCommand {
    /// List models with their provider, fallbacks, context window and price.
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia model list\n  dromia models ls --json")]
    List,
    /// Set the model of an alias and its fallbacks.
    #[command(
        after_help = "Examples:\n  dromia model set default=openai/gpt-5-mini\n  dromia model set default=hub/llama-3 --price 0.25/2\n  dromia model set default=local/qwen3,spare --free\n  dromia model set default=scripted"
    )]
    Set {
        /// The alias, the provider, its id of the model, and the fallback aliases.
        #[arg(value_name = "ALIAS=PROVIDER/ID[,FALLBACK…]", value_parser = parse_model_assignment)]
        assignment: ModelAssignment,
        /// What a million tokens cost, of requests and of answers, in USD, such as 0.25/2
        #[arg(long, value_name = "IN/OUT", value_parser = parse_price)]
        price: Option<ListPrice>,
        /// Say that it costs nothing, as a model on your own machine
        #[arg(long, conflicts_with = "price")]
        free: bool,
    },
    /// Make one small real call and print its time, usage and cost.
    #[command(after_help = "Examples:\n  dromia model test default\n  dromia model test default --json")]
    Test {
        /// The alias.
        alias: String,
    },
    /// Show which models answer for an alias.
    #[command(subcommand, after_help = "Example:\n  dromia model route show default")]
    Route(RouteCommand),
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RouteCommand {
    /// Show the model of an alias and its fallbacks, in order.
    #[command(
        after_help = "Examples:\n  dromia model route show\n  dromia model route show default\n  dromia model route show default --kind worker --untrusted\n  dromia model route show default --role coder"
    )]
    Show {
        /// The alias [default: all]
        alias: Option<String>,
        /// Show which model answers runs like this
        #[command(flatten)]
        run: RoutedRun,
    },
}

/// What is known of a run for which a model is looked up.
#[derive(Debug, clap::Args)]
pub(crate) struct RoutedRun {
    /// Of this kind
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<PromptKind>,
    /// A worker with this role
    #[arg(long, value_name = "ROLE")]
    role: Option<HandleSlug>,
    /// In a session of this platform
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// With inputs of so many bytes
    #[arg(long, value_name = "BYTES")]
    input_bytes: Option<u64>,
    /// With pictures
    #[arg(long)]
    pictures: bool,
    /// With something untrusted in its conversation
    #[arg(long)]
    untrusted: bool,
}

impl RoutedRun {
    /// What rules are asked; nothing where nothing is said.
    fn facts(&self) -> Option<RouteFacts<'_>> {
        let Self { kind, role, platform, input_bytes, pictures, untrusted } = self;
        let is_asked = kind.is_some()
            || role.is_some()
            || platform.is_some()
            || input_bytes.is_some()
            || *pictures
            || *untrusted;
        is_asked.then(|| RouteFacts {
            kind: kind.unwrap_or(if role.is_some() { PromptKind::Worker } else { PromptKind::Turn }),
            role: role.as_ref().map(HandleSlug::as_str),
            platform: platform.as_deref().unwrap_or("cli"),
            input_bytes: input_bytes.unwrap_or(0),
            pictures: *pictures,
            untrusted: *untrusted,
        })
    }
}

fn parse_kind(text: &str) -> Result<PromptKind, String> {
    let found = PromptKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| "expected turn, worker or compaction".to_owned())
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ModelCommand,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let output = &mut CommandOutput::of_local(context, global);
    output.check_format()?;
    match command {
        ModelCommand::List => list::list_aliases(&LockedConfig::lock_home(home)?.loaded, output)?,
        ModelCommand::Set { assignment, price, free } => {
            let price = if *free { Some(ListPrice::FREE) } else { *price };
            set::set_alias(&LockedConfig::lock_home(home)?, assignment, price, output)?;
        }
        ModelCommand::Test { alias } => test_call::run_trial(home, alias, global.timeout, output)?,
        ModelCommand::Route(RouteCommand::Show { alias, run }) => {
            list::list_routes(&LockedConfig::lock_home(home)?.loaded, alias.as_deref(), run, output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every alias, `scripted` included.
fn all_aliases(written: &WrittenConfig) -> Vec<&str> {
    let mut aliases: Vec<_> = written.models.keys().map(String::as_str).collect();
    if !written.models.contains_key(SCRIPTED) {
        aliases.push(SCRIPTED);
    }
    aliases
}

/// Who answers under an alias, or why no provider does.
fn resolve_route(written: &WrittenConfig, alias: &str) -> Result<ModelRoute, String> {
    match written.models.get(alias) {
        Some(model) => config::route_for_alias(written, alias, model)
            .map_err(|(key, message)| format!("{key}: {message}")),
        None => Ok(ModelRoute { provider: None, kind: ProviderKind::Scripted, target: None }),
    }
}

/// Where an answer comes from, in one word.
pub(crate) fn route_location(route: &ModelRoute) -> String {
    match (&route.provider, &route.target) {
        (Some(provider), Some(target)) => format!("{provider}/{}", target.model),
        (None, Some(target)) => {
            let host = target.server.base_url.as_deref().and_then(config::host_of_url).unwrap_or_default();
            format!("{host}/{}", target.model)
        }
        (_, None) => "the built-in scripted model".to_owned(),
    }
}

/// Writes an amount in the currency of the price table.
pub(crate) fn format_money(micros: u64) -> String {
    let currency = &KnownModels::builtin_table().currency;
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let digits = format!("{rest:06}");
    let digits = digits.trim_end_matches('0');
    format!("{whole}.{digits:0<2} {currency}")
}

/// Says that there is no such alias.
fn unknown_alias_error(all: &[&str], alias: &str) -> anyhow::Error {
    let near = config::did_you_mean(alias, all.iter().copied());
    let next = if near.is_empty() { "; `dromia model list` shows all models".to_owned() } else { near };
    ExitError::usage_error(format!("there is no model {alias}{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_short_and_exact() {
        for (micros, text) in
            [(0, "0.00 USD"), (2_500_000, "2.50 USD"), (75_000, "0.075 USD"), (10_000_001, "10.000001 USD")]
        {
            assert_eq!(format_money(micros), text);
        }
    }
}
