//! `dromia model`: the aliases that agents name, who answers under them and who stands in.

mod trial;

use std::process::ExitCode;

use dromia_api::List;
use dromia_cli::{Context, Global, Outcome, Output};
use dromia_models::{Price, PriceTable, Window};
use schemars::JsonSchema;
use serde::Serialize;

use crate::change::{self, Edit, Edited, Held};
use crate::config::edit::{name_text, quoted};
use crate::config::{self, Kind, Loaded, Route, SCRIPTED, Written, WrittenModel, WrittenPrice};
use crate::home::Home;
use crate::system::Exit;

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

/// What `model set` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    alias: String,
    provider: String,
    id: Option<String>,
    fallback: Vec<String>,
}

fn assignment(text: &str) -> Result<Assignment, String> {
    let form = || format!("expected ALIAS=PROVIDER/ID[,FALLBACK…], found {text:?}");
    let (alias, rest) = text.split_once('=').ok_or_else(form)?;
    let mut parts = rest.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let (provider, id) = match first.split_once('/') {
        Some((provider, id)) if !id.is_empty() => (provider, Some(id.to_owned())),
        Some(_) => return Err(form()),
        None => (first, None),
    };
    if provider.is_empty() {
        return Err(form());
    }
    Ok(Assignment {
        alias: change::checked_name(alias)?,
        provider: provider.to_owned(),
        id,
        fallback: parts.map(change::checked_name).collect::<Result<_, _>>()?,
    })
}

/// An alias that agents name, and who answers under it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Aliased {
    /// The alias.
    alias: String,
    /// What is spoken there; nothing where nobody answers.
    kind: Option<Kind>,
    /// The provider; nothing where the model says it all itself.
    provider: Option<String>,
    /// The model's id there; the scripted model has none.
    model: Option<String>,
    /// The aliases that stand in, in order.
    fallback: Vec<String>,
    /// Tokens of a request and its answer together; nothing where nobody knows, or there is no bound.
    context_tokens: Option<u32>,
    /// The most tokens of an answer that the model gives; nothing where nobody knows, or there is no bound.
    output_tokens_max: Option<u32>,
    /// What tokens cost, in millionths of the currency unit per million; nothing where nobody knows.
    price: Option<WrittenPrice>,
    /// Why nobody answers, if nobody does.
    problem: Option<String>,
}

/// Every alias that agents can name.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Listing {
    /// The models, `scripted` last unless the configuration sets it.
    items: Vec<Aliased>,
    /// The day of the built-in prices, which count where the configuration sets none.
    prices_as_of: &'static str,
    /// The currency of all prices.
    currency: &'static str,
}

/// Who answers under an alias.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Routed {
    /// The alias.
    alias: String,
    /// Who answers; the next one while the one before it is overloaded, too slow or unreachable.
    route: Vec<Step>,
}

/// One of those who answer.
#[derive(Debug, Serialize, JsonSchema)]
struct Step {
    /// The alias under which it is set.
    alias: String,
    /// The provider or host and the model's id there, or why nobody answers.
    answers: String,
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ModelCommand,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let output = &mut Output::new(context, global);
    output.check()?;
    match command {
        ModelCommand::List => list(&Held::of(home)?.loaded, output)?,
        ModelCommand::Set { assignment } => set(&Held::of(home)?, assignment, output)?,
        ModelCommand::Test { alias } => trial::run(home, alias, global.timeout, output)?,
        ModelCommand::Route(RouteCommand::Show { alias }) => {
            routes(&Held::of(home)?.loaded, alias.as_deref(), output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn set(held: &Held, assignment: &Assignment, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Assignment { alias, provider, id, fallback } = assignment;
    let written = &held.loaded.written;
    let is_scripted = match written.providers.get(provider) {
        Some(server) => server.kind == Kind::Scripted,
        None if provider == SCRIPTED => true,
        None => {
            let near = config::did_you_mean(provider, written.providers.keys().map(String::as_str));
            let next = if near.is_empty() { "; add it with `dromia provider add`".to_owned() } else { near };
            return Err(Exit::usage(format!("there is no provider {provider}{next}")));
        }
    };
    if is_scripted == id.is_some() {
        return Err(Exit::usage(if is_scripted {
            format!("the scripted model has no id: write {alias}={provider}")
        } else {
            format!(
                "which model of {provider}? Write {alias}={provider}/ID; `dromia provider test {provider}` lists them with --json"
            )
        }));
    }
    let is_named = written.providers.contains_key(provider);
    let mut model = WrittenModel {
        provider: is_named.then(|| provider.clone()),
        kind: (!is_named).then_some(Kind::Scripted),
        model: id.clone(),
        fallback: fallback.clone(),
        ..WrittenModel::default()
    };
    // What belongs to the answer stays; a price and a window belong to the model of a provider.
    if let Some(there) = written.models.get(alias).filter(|_| !is_scripted) {
        model.stream = there.stream;
        if (&there.provider, &there.model) == (&model.provider, &model.model) {
            model.price.clone_from(&there.price);
            (model.context_tokens, model.output_tokens_max) = (there.context_tokens, there.output_tokens_max);
        }
    }
    if written.models.get(alias) == Some(&model) {
        output.show(&Edited::nothing("models", alias), |_| format!("{alias} is so already."))?;
        return Ok(());
    }
    let edit = Edit { block: "models", name: alias, lines: Some(lines(alias, &model)) };
    let changed = held.change(&edit, output, |written| {
        written.models.insert(alias.clone(), model);
    })?;
    let text = format!(
        "{alias} is in dromia.yaml. {}\n\nNext: `dromia model test {alias}` makes a real call.",
        change::HEARD
    );
    output.show(&changed, |_| text)?;
    Ok(())
}

/// Writes an entry of `models:`.
pub(crate) fn lines(alias: &str, model: &WrittenModel) -> Vec<String> {
    let mut lines = vec![format!("{}:", name_text(alias))];
    lines.extend(model.kind.map(|kind| format!("  kind: {}", kind.as_str())));
    lines.extend(model.provider.as_ref().map(|name| format!("  provider: {}", name_text(name))));
    lines.extend(model.model.as_ref().map(|id| format!("  model: {}", quoted(id))));
    if !model.fallback.is_empty() {
        let names: Vec<_> = model.fallback.iter().map(|name| name_text(name)).collect();
        lines.push(format!("  fallback: [{}]", names.join(", ")));
    }
    lines.extend(model.stream.map(|stream| format!("  stream: {stream}")));
    if let Some(price) = &model.price {
        let part = |(name, value): (&str, Option<u64>)| value.map(|value| format!("{name}: {value}"));
        let parts = [
            ("input", Some(price.input)),
            ("output", Some(price.output)),
            ("cache_read", price.cache_read),
            ("cache_write", price.cache_write),
        ];
        let parts: Vec<_> = parts.into_iter().filter_map(part).collect();
        lines.push(format!("  price: {{ {} }}", parts.join(", ")));
    }
    lines.extend(model.context_tokens.map(|tokens| format!("  context_tokens: {tokens}")));
    lines.extend(model.output_tokens_max.map(|tokens| format!("  output_tokens_max: {tokens}")));
    lines
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

/// What a model costs, as people read it: per million tokens, in and out.
fn price_text(route: &Route) -> String {
    match &route.target {
        None => "free".to_owned(),
        Some(target) => match target.price {
            None => "unpriced".to_owned(),
            Some(price) if price == Price::default() => "free".to_owned(),
            Some(price) => format!("{} in, {} out", money(price.input), money(price.output)),
        },
    }
}

/// What a model takes or gives, as people read it; the scripted model has no bound.
fn tokens_text(route: &Route, of: fn(&Window) -> Option<u32>) -> String {
    let Some(target) = &route.target else { return String::new() };
    of(&target.window).map_or_else(|| "unknown".to_owned(), |tokens| tokens.to_string())
}

/// Writes an amount in the currency of the price table.
pub(crate) fn money(micros: u64) -> String {
    let currency = &PriceTable::builtin().currency;
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let digits = format!("{rest:06}");
    let digits = digits.trim_end_matches('0');
    format!("{whole}.{digits:0<2} {currency}")
}

fn list(loaded: &Loaded, output: &mut Output<'_>) -> Outcome {
    let written = &loaded.written;
    let (mut items, mut rows) = (Vec::new(), Vec::new());
    for alias in aliases(written) {
        let fallback = written.models.get(alias).map(|model| model.fallback.clone()).unwrap_or_default();
        let alias = alias.to_owned();
        match route(written, &alias) {
            Ok(route) => {
                rows.push(vec![
                    alias.clone(),
                    place(&route),
                    route.kind.as_str().to_owned(),
                    fallback.join(", "),
                    tokens_text(&route, |window| window.context_tokens),
                    tokens_text(&route, |window| window.output_tokens_max),
                    price_text(&route),
                ]);
                items.push(listed(alias, fallback, route));
            }
            Err(problem) => {
                rows.push(vec![alias.clone(), problem.clone()]);
                items.push(Aliased { alias, fallback, problem: Some(problem), ..Aliased::default() });
            }
        }
    }
    let PriceTable { as_of, currency, .. } = PriceTable::builtin();
    if output.is_json() {
        return output.document(&Listing { items, prices_as_of: as_of, currency });
    }
    let heads = ["alias", "answers", "kind", "stands in", "window", "max output", "price per million tokens"];
    output.table(&heads, rows)?;
    output.line(&format!(
        "\nPrices that dromia.yaml does not set are built in: {currency}, as of {as_of}, not checked against the \
         providers' own lists."
    ))
}

fn listed(alias: String, fallback: Vec<String>, route: Route) -> Aliased {
    let Route { provider, kind, target } = route;
    // The scripted model costs nothing.
    let price = target.as_ref().map_or_else(|| Some(Price::default()), |target| target.price);
    let Window { context_tokens, output_tokens_max } =
        target.as_ref().map(|target| target.window).unwrap_or_default();
    Aliased {
        alias,
        kind: Some(kind),
        provider,
        model: target.map(|target| target.model),
        fallback,
        context_tokens,
        output_tokens_max,
        price: price.map(WrittenPrice::from),
        problem: None,
    }
}

fn routes(loaded: &Loaded, alias: Option<&str>, output: &mut Output<'_>) -> anyhow::Result<()> {
    let written = &loaded.written;
    let all = aliases(written);
    if let Some(alias) = alias.filter(|alias| !all.contains(alias)) {
        return Err(unknown(&all, alias));
    }
    let wanted = all.into_iter().filter(|name| alias.is_none_or(|alias| alias == *name));
    let items: Vec<Routed> = wanted.map(|alias| routed(written, alias)).collect();
    output.show(&List { items, next: None }, |list| routes_text(&list.items))?;
    Ok(())
}

fn routed(written: &Written, alias: &str) -> Routed {
    let rest = written.models.get(alias).map(|model| model.fallback.as_slice()).unwrap_or_default();
    let names = std::iter::once(alias).chain(rest.iter().map(String::as_str));
    let step = |name: &str| Step {
        alias: name.to_owned(),
        answers: route(written, name).map_or_else(|problem| problem, |route| place(&route)),
    };
    Routed { alias: alias.to_owned(), route: names.map(step).collect() }
}

fn routes_text(routes: &[Routed]) -> String {
    let mut lines = Vec::new();
    for Routed { alias, route } in routes {
        lines.push(alias.clone());
        for (index, step) in route.iter().enumerate() {
            let through = if step.alias == *alias { String::new() } else { format!("  (as {})", step.alias) };
            lines.push(format!("  {}. {}{through}", index + 1, step.answers));
        }
    }
    lines.push(String::new());
    lines.push(
        "The next answers while the one before it is overloaded, too slow or unreachable, and cools down."
            .to_owned(),
    );
    lines.join("\n")
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
    fn an_assignment_names_alias_provider_id_and_stand_ins() {
        let said = assignment("default=hub/meta/llama-3:8b, spare,scripted").expect("it is whole");
        assert_eq!(
            said,
            Assignment {
                alias: "default".to_owned(),
                provider: "hub".to_owned(),
                id: Some("meta/llama-3:8b".to_owned()),
                fallback: vec!["spare".to_owned(), "scripted".to_owned()],
            }
        );
        assert_eq!(assignment("a=scripted").expect("it is whole").id, None);
        for bad in ["default", "=a/b", "a=", "a=b/", "a=/b", "a b=c/d", "a=b/c,", "a=b/c,no way"] {
            assert!(assignment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn money_is_written_short_and_exact() {
        for (micros, text) in
            [(0, "0.00 USD"), (2_500_000, "2.50 USD"), (75_000, "0.075 USD"), (10_000_001, "10.000001 USD")]
        {
            assert_eq!(money(micros), text);
        }
    }
}
