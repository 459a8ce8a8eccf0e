//! `dromia model set`: who answers under an alias, written into `dromia.yaml`.

use dromia_api::{BudgetMeasure, CURRENCY};
use dromia_cli::CommandOutput;

use crate::config::edit::{double_quote, name_text};
use crate::config::{self, ProviderKind, SCRIPTED, WrittenModel, WrittenPrice, WrittenRoute};
use crate::config_change::{self, ConfigEdit, ConfigEditResult, LockedConfig};
use crate::system::ExitError;

/// What `model set` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelAssignment {
    alias: String,
    provider: String,
    id: Option<String>,
    fallback: Vec<String>,
}

/// Reads an assignment as it is typed.
pub(super) fn parse_model_assignment(text: &str) -> Result<ModelAssignment, String> {
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
    Ok(ModelAssignment {
        alias: config_change::checked_name(alias)?,
        provider: provider.to_owned(),
        id,
        fallback: parts.map(config_change::checked_name).collect::<Result<_, _>>()?,
    })
}

/// What a million tokens of requests and of answers cost, in millionths of the currency unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListPrice {
    input: u64,
    output: u64,
}

impl ListPrice {
    /// Nothing, which is known to be nothing.
    pub(super) const FREE: Self = Self { input: 0, output: 0 };
}

/// Reads a price as it is typed: two amounts of at most six decimal places.
pub(super) fn parse_price(text: &str) -> Result<ListPrice, String> {
    let form =
        || format!("expected IN/OUT in {CURRENCY} for a million tokens, such as 0.25/2, found {text:?}");
    let (input, output) = text.split_once('/').ok_or_else(form)?;
    let amount = |text: &str| BudgetMeasure::Money.parse_limit(text.trim()).ok_or_else(form);
    Ok(ListPrice { input: amount(input)?, output: amount(output)? })
}

/// Sets an alias; says so if it is set already.
pub(super) fn set_alias(
    held: &LockedConfig,
    assignment: &ModelAssignment,
    price: Option<ListPrice>,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
    let ModelAssignment { alias, provider, id, fallback } = assignment;
    let written = &held.loaded.written;
    let is_scripted = match written.providers.get(provider) {
        Some(server) => server.kind == ProviderKind::Scripted,
        None if provider == SCRIPTED => true,
        None => {
            let near = config::did_you_mean(provider, written.providers.keys().map(String::as_str));
            let next = if near.is_empty() { "; add it with `dromia provider add`".to_owned() } else { near };
            return Err(ExitError::usage_error(format!("there is no provider {provider}{next}")));
        }
    };
    if is_scripted == id.is_some() {
        return Err(ExitError::usage_error(if is_scripted {
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
        kind: (!is_named).then_some(ProviderKind::Scripted),
        model: id.clone(),
        fallback: fallback.clone(),
        ..WrittenModel::default()
    };
    if let Some(there) = written.models.get(alias) {
        model.routes.clone_from(&there.routes);
    }
    // What belongs to the answer stays; a price and a window belong to the model of a provider.
    if let Some(there) = written.models.get(alias).filter(|_| !is_scripted) {
        model.stream = there.stream;
        if (&there.provider, &there.model) == (&model.provider, &model.model) {
            model.price.clone_from(&there.price);
            (model.context_tokens, model.output_tokens_max) = (there.context_tokens, there.output_tokens_max);
        }
    }
    if let Some(ListPrice { input, output }) = price {
        if is_scripted {
            let text = "the scripted model has a price of its own: nothing; leave out --price and --free";
            return Err(ExitError::usage_error(text.to_owned()));
        }
        model.price = Some(WrittenPrice { input, output, cache_read: None, cache_write: None });
    }
    if written.models.get(alias) == Some(&model) {
        output.print_result(&ConfigEditResult::unchanged_entry("models", alias), |_| {
            format!("{alias} already has this value.")
        })?;
        return Ok(());
    }
    let edit = ConfigEdit { block: "models", name: alias, lines: Some(entry_lines(alias, &model)) };
    let changed = held.apply_edit(&edit, output, |written| {
        written.models.insert(alias.clone(), model);
    })?;
    let text = format!(
        "{alias} is now in dromia.yaml. {}\n\nNext: `dromia model test {alias}` makes a real call.",
        config_change::HEARD
    );
    let text = output.add_global_flags(&text).into_owned();
    output.print_result(&changed, |_| text)?;
    Ok(())
}

/// Writes an entry of `models:`.
pub(crate) fn entry_lines(alias: &str, model: &WrittenModel) -> Vec<String> {
    let mut lines = vec![format!("{}:", name_text(alias))];
    lines.extend(model.kind.map(|kind| format!("  kind: {}", kind.as_str())));
    lines.extend(model.provider.as_ref().map(|name| format!("  provider: {}", name_text(name))));
    lines.extend(model.model.as_ref().map(|id| format!("  model: {}", double_quote(id))));
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
    if !model.routes.is_empty() {
        lines.push("  routes:".to_owned());
        lines.extend(model.routes.iter().map(|route| format!("    - {{ {} }}", route_text(route))));
    }
    lines
}

/// Writes a rule in one line.
fn route_text(route: &WrittenRoute) -> String {
    let WrittenRoute { model, kind, role, platform, input_bytes_min, pictures, untrusted } = route;
    let parts = [
        kind.map(|kind| format!("kind: {}", kind.as_str())),
        role.as_ref().map(|role| format!("role: {role}")),
        platform.as_ref().map(|name| format!("platform: {}", double_quote(name))),
        input_bytes_min.map(|bytes| format!("input_bytes_min: {bytes}")),
        pictures.map(|pictures| format!("pictures: {pictures}")),
        untrusted.map(|untrusted| format!("untrusted: {untrusted}")),
        Some(format!("model: {}", name_text(model))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_two_amounts_for_a_million_tokens() {
        assert_eq!(parse_price("0.25/2"), Ok(ListPrice { input: 250_000, output: 2_000_000 }));
        assert_eq!(parse_price("0/0"), Ok(ListPrice::FREE));
        for bad in ["", "1", "1/", "/1", "a/b", "-1/2", "1/2/3", "1.0000001/2"] {
            assert!(parse_price(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_assignment_names_alias_provider_model_and_fallbacks() {
        let said =
            parse_model_assignment("default=hub/meta/llama-3:8b, spare,scripted").expect("it is whole");
        assert_eq!(
            said,
            ModelAssignment {
                alias: "default".to_owned(),
                provider: "hub".to_owned(),
                id: Some("meta/llama-3:8b".to_owned()),
                fallback: vec!["spare".to_owned(), "scripted".to_owned()],
            }
        );
        assert_eq!(parse_model_assignment("a=scripted").expect("it is whole").id, None);
        for bad in ["default", "=a/b", "a=", "a=b/", "a=/b", "a b=c/d", "a=b/c,", "a=b/c,no way"] {
            assert!(parse_model_assignment(bad).is_err(), "{bad}");
        }
    }
}
