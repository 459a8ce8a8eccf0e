//! `dromia model set`: who answers under an alias, written into `dromia.yaml`.

use dromia_cli::Output;

use crate::change::{self, Edit, Edited, Held};
use crate::config::edit::{name_text, quoted};
use crate::config::{self, Kind, SCRIPTED, WrittenModel};
use crate::system::Exit;

/// What `model set` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    alias: String,
    provider: String,
    id: Option<String>,
    fallback: Vec<String>,
}

/// Reads an assignment as it is typed.
pub(super) fn assignment(text: &str) -> Result<Assignment, String> {
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

/// Sets an alias; says so if it is set already.
pub(super) fn run(held: &Held, assignment: &Assignment, output: &mut Output<'_>) -> anyhow::Result<()> {
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
    let text = output.placed(&text).into_owned();
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
}
