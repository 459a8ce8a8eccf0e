//! The JSON Schema of the file, and the list of its keys, which is read off the schema.
//!
//! There is one source: the types and doc comments of [`written`](super::written). Editors, `config explain`, the
//! reference page, the environment variables and the test that every key has an effect all follow from it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::file::WrittenConfig;

/// Returns the schema as a document.
pub(crate) fn schema_document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<WrittenConfig>().to_value();
    tidy_schema(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), "dromia.yaml".into());
    }
    schema
}

/// Returns the schema as a text that ends with a line break.
pub(crate) fn schema_text() -> String {
    // A `Value` has string keys only, so it can always be written.
    serde_json::to_string_pretty(&schema_document()).unwrap_or_default() + "\n"
}

/// Takes out what only the types of the program need: nulls, and the line breaks of doc comments.
fn tidy_schema(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::Array(choices)) = object.get_mut("oneOf") {
                choices
                    .retain(|choice| choice["type"] != "null" && choice.get("const") != Some(&Value::Null));
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::String(words)) = object.get_mut("description") {
                *words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let (true, Some(Value::Object(only))) = (choices.len() == 1, choices.first()) {
                    for (name, value) in only {
                        object.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                } else {
                    object.insert("anyOf".to_owned(), choices.into());
                }
            }
            object.values_mut().for_each(tidy_schema);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy_schema),
        _ => {}
    }
}

/// When a change of a key takes effect in a running server. The schema says it, at the key or at a group above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyEffect {
    /// Within two seconds.
    Live,
    /// At the next start.
    Restart,
}

impl KeyEffect {
    /// As the schema writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
        }
    }
}

/// One key of the file.
#[derive(Debug, Clone)]
pub(crate) struct ConfigKey {
    /// Its path. `NAME` and `ALIAS` stand for names that the operator chooses.
    pub(crate) path: String,
    /// What it takes, in words.
    pub(crate) takes: String,
    /// What it is for.
    pub(crate) description: String,
    /// What it is where nothing is said, as far as that does not depend on other keys.
    pub(crate) default: Option<Value>,
    /// The environment variable that sets it.
    pub(crate) variable: Option<String>,
    /// Whether other keys lie below it.
    pub(crate) is_group: bool,
    /// When a change of it takes effect; a key without it is a mistake of this program.
    pub(crate) effect: Option<KeyEffect>,
    /// Where it takes a list of groups: the keys of one, with what each takes and what it is for.
    pub(crate) entry_keys: Vec<(String, String, String)>,
    /// Whether its value is a whole number.
    pub(crate) is_integer: bool,
    /// Whether its value is true or false.
    pub(crate) is_boolean: bool,
    /// The names on the way to it; one of them may have dots in it, as `shell.execute` has.
    pub(crate) parts: Vec<String>,
}

impl ConfigKey {
    /// Tells whether a path is this key, with names in the places of `NAME` and `ALIAS`.
    pub(crate) fn is_meant_by(&self, path: &str) -> bool {
        let placeholder = [".NAME", ".ALIAS"].into_iter().find_map(|mark| self.path.split_once(mark));
        match placeholder {
            // A name may have dots in it.
            Some((above, below)) => path
                .strip_prefix(above)
                .and_then(|rest| rest.strip_prefix('.'))
                .and_then(|rest| rest.strip_suffix(below))
                .is_some_and(|name| !name.is_empty()),
            None => path == self.path,
        }
    }
}

/// Lists every key, groups before what lies below them, in the order of the alphabet.
pub(crate) fn list_keys() -> Vec<ConfigKey> {
    let mut keys = Vec::new();
    if let Some(properties) = schema_document()["properties"].as_object() {
        collect_keys(&[], None, properties, &mut keys);
    }
    keys
}

fn collect_keys(
    above: &[String],
    effect_above: Option<KeyEffect>,
    properties: &Map<String, Value>,
    keys: &mut Vec<ConfigKey>,
) {
    for (name, schema) in properties {
        let effect = match schema["x-effect"].as_str() {
            Some(effect) => {
                [KeyEffect::Live, KeyEffect::Restart].into_iter().find(|one| one.as_str() == effect)
            }
            None => effect_above,
        };
        let parts = [above, &[name.clone()][..]].concat();
        let path = parts.join(".");
        let named = schema["additionalProperties"]["properties"].as_object();
        let below = schema["properties"].as_object();
        let is_group = named.is_some() || below.is_some();
        let chosen = path.contains(".NAME.") || path.contains(".ALIAS.");
        let is_scalar = matches!(schema["type"].as_str(), Some("integer" | "string" | "boolean"));
        let variable = (is_scalar && !chosen && path != "version")
            .then(|| format!("DROMIA_{}", path.replace('.', "_").to_uppercase()));
        keys.push(ConfigKey {
            takes: accepted_values_text(schema, is_group),
            description: schema["description"].as_str().unwrap_or_default().to_owned(),
            default: schema.get("default").filter(|_| !is_group).cloned(),
            variable,
            is_group,
            effect,
            entry_keys: list_entry_keys(&schema["items"]),
            is_integer: schema["type"] == "integer",
            is_boolean: schema["type"] == "boolean",
            path: path.clone(),
            parts: parts.clone(),
        });
        if let Some(below) = below {
            collect_keys(&parts, effect, below, keys);
        }
        if let Some(named) = named {
            let is_name = matches!(
                path.as_str(),
                "providers" | "channels" | "agents" | "tenants" | "roles" | "tools.external"
            );
            let name = if is_name { "NAME" } else { "ALIAS" };
            collect_keys(&[parts, vec![name.to_owned()]].concat(), effect, named, keys);
        }
    }
}

fn list_entry_keys(entry: &Value) -> Vec<(String, String, String)> {
    let described = |(name, schema): (&String, &Value)| {
        let description = schema["description"].as_str().unwrap_or_default().to_owned();
        (name.clone(), accepted_values_text(schema, false), description)
    };
    entry["properties"].as_object().into_iter().flatten().map(described).collect()
}

fn accepted_values_text(schema: &Value, is_group: bool) -> String {
    let words = |values: Vec<&str>| format!("one of {}", values.join(", "));
    if let Some(choices) = schema["oneOf"].as_array() {
        return words(choices.iter().filter_map(|choice| choice["const"].as_str()).collect());
    }
    if let Some(values) = schema["enum"].as_array() {
        return words(values.iter().filter_map(Value::as_str).collect());
    }
    match schema["type"].as_str() {
        _ if is_group => "keys below it",
        Some("integer") => "whole number",
        Some("boolean") => "true or false",
        Some("array") if schema["items"]["type"] != "string" => "list",
        Some("array") => "list of names",
        Some("object") => "names with a value each",
        _ => "text",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds a file of the repository.
    fn repository(path: &str) -> String {
        let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_default()
    }

    #[test]
    fn the_published_schema_and_page_match_this_program() {
        assert_eq!(
            repository("docs/dromia.schema.json"),
            schema_text(),
            "write it again: dromia config schema > docs/dromia.schema.json"
        );
        assert_eq!(
            repository("docs/configuration.md"),
            super::super::reference::reference_page(),
            "write it again: dromia config schema --markdown > docs/configuration.md"
        );
    }

    #[test]
    fn every_key_has_a_description_and_names_its_values() {
        let keys = list_keys();
        assert!(keys.len() > 30, "{}", keys.len());
        for key in &keys {
            assert!(key.description.ends_with('.'), "{key:?}");
            assert!(!key.takes.is_empty() && key.takes != "one of ", "{key:?}");
        }
        let price = keys.iter().find(|key| key.path == "models.ALIAS.price.input").expect("it is there");
        assert!(price.is_integer && price.variable.is_none());
        assert!(!schema_text().contains("null"), "no editor should offer null");
    }

    #[test]
    fn a_path_with_any_name_matches_its_placeholder_key() {
        let keys = list_keys();
        let meant = |path: &str| keys.iter().find(|key| key.is_meant_by(path)).map(|key| key.path.as_str());
        assert_eq!(meant("models.gpt-4.1.price.input"), Some("models.ALIAS.price.input"));
        assert_eq!(meant("providers.openai.kind"), Some("providers.NAME.kind"));
        assert_eq!(meant("models.ALIAS.model"), Some("models.ALIAS.model"));
        assert_eq!(meant("models.x.nothing"), None);
        assert_eq!(meant("engine.active_max"), Some("engine.active_max"));
    }
}
