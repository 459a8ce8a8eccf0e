//! `dromia model list` and `dromia model route show`: who answers under which alias, in tables and documents.

use dromia_api::ListPage;
use dromia_cli::{CommandOutput, Outcome};
use dromia_contracts::model_route::ModelRouteRule;
use dromia_models::{ContextWindow, KnownModels, TokenPrice};
use schemars::JsonSchema;
use serde::Serialize;

use super::{RoutedRun, all_aliases, format_money, resolve_route, route_location, unknown_alias_error};
use crate::config::{LoadedConfig, ModelRoute, ProviderKind, WrittenConfig, WrittenPrice, WrittenRoute};

/// An alias that agents name, and who answers under it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct AliasRow {
    /// The alias.
    alias: String,
    /// What is spoken there; nothing where no provider answers.
    kind: Option<ProviderKind>,
    /// The provider; nothing where the model says it all itself.
    provider: Option<String>,
    /// The model's id there; the scripted model has none.
    model: Option<String>,
    /// The fallback aliases, in order.
    fallback: Vec<String>,
    /// Tokens of a request and its answer together; nothing where it is unknown, or there is no bound.
    context_tokens: Option<u32>,
    /// The most tokens of an answer that the model gives; nothing where it is unknown, or there is no bound.
    output_tokens_max: Option<u32>,
    /// What tokens cost, in millionths of the currency unit per million; nothing where it is unknown.
    price: Option<WrittenPrice>,
    /// Why no provider answers, if none does.
    problem: Option<String>,
}

/// Every alias that agents can name.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AliasListing {
    /// The models, `scripted` last unless the configuration sets it.
    items: Vec<AliasRow>,
    /// The day of the built-in prices, which count where the configuration sets none.
    prices_as_of: &'static str,
    /// The currency of all prices.
    currency: &'static str,
}

/// Who answers under an alias.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RouteRow {
    /// The alias.
    alias: String,
    /// The rule that chose the first one, counted from 1; nothing where the alias itself answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
    /// Who answers; the next one while the one before it is overloaded, too slow or unreachable.
    route: Vec<RouteStep>,
}

/// One of those who answer.
#[derive(Debug, Serialize, JsonSchema)]
struct RouteStep {
    /// The alias under which it is set.
    alias: String,
    /// The provider or host and the model's id there, or why no provider answers.
    answers: String,
}

/// Shows every alias.
pub(super) fn list_aliases(loaded: &LoadedConfig, output: &mut CommandOutput<'_>) -> Outcome {
    let written = &loaded.written;
    let (mut items, mut rows) = (Vec::new(), Vec::new());
    for alias in all_aliases(written) {
        let fallback = written.models.get(alias).map(|model| model.fallback.clone()).unwrap_or_default();
        let alias = alias.to_owned();
        match resolve_route(written, &alias) {
            Ok(route) => {
                rows.push(vec![
                    alias.clone(),
                    route_location(&route),
                    route.kind.as_str().to_owned(),
                    fallback.join(", "),
                    tokens_text(&route, |window| window.context_tokens),
                    tokens_text(&route, |window| window.output_tokens_max),
                    price_text(&route),
                ]);
                items.push(alias_row(alias, fallback, route));
            }
            Err(problem) => {
                rows.push(vec![alias.clone(), problem.clone()]);
                items.push(AliasRow { alias, fallback, problem: Some(problem), ..AliasRow::default() });
            }
        }
    }
    let KnownModels { as_of, currency, .. } = KnownModels::builtin_table();
    if output.is_json() {
        return output.print_document(&AliasListing { items, prices_as_of: as_of, currency });
    }
    let heads = ["alias", "answers", "kind", "fallback", "window", "max output", "price per million tokens"];
    output.print_table(&heads, rows)?;
    output.print_line(&format!(
        "\nPrices that dromia.yaml does not set are built in: {currency}, as of {as_of}; compare them with the \
         providers' own lists."
    ))
}

fn alias_row(alias: String, fallback: Vec<String>, route: ModelRoute) -> AliasRow {
    let ModelRoute { provider, kind, target } = route;
    // The scripted model costs nothing.
    let price = target.as_ref().map_or_else(|| Some(TokenPrice::default()), |target| target.price);
    let ContextWindow { context_tokens, output_tokens_max } =
        target.as_ref().map(|target| target.window).unwrap_or_default();
    AliasRow {
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

/// What a model takes or gives, as people read it; the scripted model has no bound.
fn tokens_text(route: &ModelRoute, of: fn(&ContextWindow) -> Option<u32>) -> String {
    let Some(target) = &route.target else { return String::new() };
    of(&target.window).map_or_else(|| "unknown".to_owned(), |tokens| tokens.to_string())
}

/// What a model costs, as people read it: per million tokens, in and out.
fn price_text(route: &ModelRoute) -> String {
    match &route.target {
        None => "free".to_owned(),
        Some(target) => match target.price {
            None => "unpriced".to_owned(),
            Some(price) if price == TokenPrice::default() => "free".to_owned(),
            Some(price) => format!("{} in, {} out", format_money(price.input), format_money(price.output)),
        },
    }
}

/// Shows who answers under an alias, or under each.
pub(super) fn list_routes(
    loaded: &LoadedConfig,
    alias: Option<&str>,
    run: &RoutedRun,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
    let written = &loaded.written;
    let all = all_aliases(written);
    if let Some(alias) = alias.filter(|alias| !all.contains(alias)) {
        return Err(unknown_alias_error(&all, alias));
    }
    let wanted = all.into_iter().filter(|name| alias.is_none_or(|alias| alias == *name));
    let items: Vec<RouteRow> = wanted.map(|alias| route_row(written, alias, run)).collect();
    output.print_result(&ListPage { items, next: None }, |list| routes_text(&list.items))?;
    Ok(())
}

fn route_row(written: &WrittenConfig, alias: &str, run: &RoutedRun) -> RouteRow {
    let rules = written.models.get(alias).map(|model| model.routes.as_slice()).unwrap_or_default();
    let fits = |facts| move |rule: &WrittenRoute| ModelRouteRule::from(rule).fits_run(&facts);
    let rule = run.facts().and_then(|facts| rules.iter().position(fits(facts)));
    let first = rule.map_or(alias, |rule| rules[rule].model.as_str());
    let rest = written.models.get(first).map(|model| model.fallback.as_slice()).unwrap_or_default();
    let names = std::iter::once(first).chain(rest.iter().map(String::as_str));
    let step = |name: &str| RouteStep {
        alias: name.to_owned(),
        answers: resolve_route(written, name).map_or_else(|problem| problem, |route| route_location(&route)),
    };
    RouteRow { alias: alias.to_owned(), rule: rule.map(|rule| rule + 1), route: names.map(step).collect() }
}

fn routes_text(routes: &[RouteRow]) -> String {
    let mut lines = Vec::new();
    for RouteRow { alias, rule, route } in routes {
        let by_rule = rule.map(|rule| format!("  (rule {rule} of models.{alias}.routes)"));
        lines.push(format!("{alias}{}", by_rule.unwrap_or_default()));
        for (index, step) in route.iter().enumerate() {
            let through = if step.alias == *alias { String::new() } else { format!("  (as {})", step.alias) };
            lines.push(format!("  {}. {}{through}", index + 1, step.answers));
        }
    }
    lines.push(String::new());
    lines.push(
        "The next model answers while the one before it is overloaded, too slow or unreachable.".to_owned(),
    );
    lines.join("\n")
}
