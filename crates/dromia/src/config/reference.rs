//! The page `docs/configuration.md`: a template with prose and examples, and tables that follow from the schema. It refuses to
//! say anything about a key that the schema does not say.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{self, ConfigKey, KeyEffect};

/// The page without the tables of keys and the list of its sections.
const TEMPLATE: &str = include_str!("reference/page.md");

/// Writes the page: the template, with a list of its sections and the tables that it asks for.
pub(crate) fn reference_page() -> String {
    let keys = schema::list_keys();
    let lines = TEMPLATE.lines().map(|line| {
        let Some(order) = line.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
            return format!("{line}\n");
        };
        match order.strip_prefix("keys ") {
            Some(names) => {
                names.split(' ').map(|name| key_tables(&keys, name)).collect::<Vec<_>>().join("\n")
            }
            None => section_list(),
        }
    });
    lines.collect()
}

fn section_list() -> String {
    let titles = TEMPLATE.lines().filter_map(|line| line.strip_prefix("## "));
    let lines = titles.map(|title| format!("- [{title}](#{})", title.to_lowercase().replace(' ', "-")));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Writes the table of a key and those below it, and a table of what each entry of a list has.
fn key_tables(keys: &[ConfigKey], top: &str) -> String {
    let mut keys_table =
        "| key | takes | default | effect of an edit | meaning |\n|---|---|---|---|---|\n".to_owned();
    let mut entry_tables = String::new();
    for key in keys.iter().filter(|key| key.parts.first().is_some_and(|first| first == top)) {
        let ConfigKey { path, takes, description, .. } = key;
        let default =
            key.default.as_ref().map_or_else(String::new, |value| format!("`{}`", yaml_value(value)));
        let effect = key.effect.filter(|_| !key.is_group).map_or("", KeyEffect::as_str);
        let _infallible =
            writeln!(keys_table, "| `{path}` | {takes} | {default} | {effect} | {description} |");
        if !key.entry_keys.is_empty() {
            let head = "| key of an entry | takes | meaning |\n|---|---|---|";
            let _infallible = writeln!(entry_tables, "\nEach entry of `{path}` has these keys:\n\n{head}");
        }
        for (name, takes, description) in &key.entry_keys {
            let _infallible = writeln!(entry_tables, "| `{name}` | {takes} | {description} |");
        }
    }
    keys_table + &entry_tables
}

/// Writes a value as the file would.
pub(crate) fn yaml_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{EnvironmentVariables, parse_and_resolve};

    #[test]
    fn the_page_has_every_key_once() {
        let page = reference_page();
        for ConfigKey { path, .. } in schema::list_keys() {
            assert_eq!(page.matches(&format!("\n| `{path}` | ")).count(), 1, "{path}");
        }
        assert!(!page.contains("{{"), "an order is left");
    }

    #[test]
    fn every_example_of_the_page_is_valid() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let environment = EnvironmentVariables::from([("SUPPORT_WEBHOOK_SECRET", secret)]);
        let mut examples = TEMPLATE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let valid = |text| parse_and_resolve(Path::new("dromia.yaml"), text, &environment, &[]);
        assert!(examples.clone().count() > 8);
        if let Some((text, problems)) = examples.find_map(|text| Some((text, valid(text).err()?))) {
            panic!("{text}{problems}");
        }
    }
}
