//! Every value that counts, key by key, with its origin. Keys to providers appear only as their reference to the
//! environment or the vault.

use serde_json::{Map, Value};

use dromia_models::{KnownModels, Window};

use super::Loaded;
use super::channels::plain_url;
use super::origin::Origin;
use super::providers::{self, Route};
use super::written::{Written, WrittenModel, WrittenPrice};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    /// The key's path.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Value,
    /// Where that comes from.
    pub(crate) origin: Origin,
}

/// Returns the configuration with every default filled in, as one document.
pub(crate) fn document(loaded: &Loaded) -> Value {
    let mut document = serde_json::to_value(filled(&loaded.written)).unwrap_or_default();
    for (alias, model) in &loaded.written.models {
        let unpriced = matches!(
            providers::route(&loaded.written, alias, model),
            Ok(Route { target: Some(target), .. }) if target.price.is_none()
        );
        if unpriced {
            document["models"][alias]["price"] = "unpriced".into();
        }
    }
    for section in ["providers", "models", "channels"] {
        for entry in document[section].as_object_mut().into_iter().flat_map(Map::values_mut) {
            hide(entry);
        }
    }
    document
}

/// Lists the values in the order of the alphabet.
pub(crate) fn values(loaded: &Loaded) -> Vec<Shown> {
    let mut values = Vec::new();
    if let Value::Object(document) = document(loaded) {
        flatten("", document, loaded, &mut values);
    }
    values
}

fn flatten(above: &str, object: Map<String, Value>, loaded: &Loaded, values: &mut Vec<Shown>) {
    for (name, value) in object {
        let key = if above.is_empty() { name } else { format!("{above}.{name}") };
        match value {
            Value::Object(below) if !below.is_empty() => flatten(&key, below, loaded, values),
            value => {
                let origin = match loaded.origins.of(&key) {
                    Origin::Default if is_builtin_price(&key, loaded) => {
                        Origin::Prices(&KnownModels::builtin().as_of)
                    }
                    origin => origin,
                };
                values.push(Shown { key, value, origin });
            }
        }
    }
}

/// Tells whether a value lies below a price that the file does not set.
fn is_builtin_price(key: &str, loaded: &Loaded) -> bool {
    let alias =
        key.strip_prefix("models.").and_then(|rest| rest.rsplit_once(".price.")).map(|(alias, _)| alias);
    alias.and_then(|alias| loaded.written.models.get(alias)).is_some_and(|model| model.price.is_none())
}

/// Fills in what depends on other keys. An entry that means nothing is left as it is.
fn filled(written: &Written) -> Written {
    let mut filled = written.clone();
    for server in filled.providers.values_mut() {
        *server = providers::filled(server);
    }
    for (alias, model) in &mut filled.models {
        let Ok(Route { target: Some(target), .. }) = providers::route(written, alias, model) else {
            continue;
        };
        let price = target.price.map(WrittenPrice::from);
        let base_url = target.server.base_url.filter(|_| model.provider.is_none());
        let Window { context_tokens, output_tokens_max } = target.window;
        let stream = Some(target.stream);
        *model = WrittenModel { base_url, stream, price, context_tokens, output_tokens_max, ..model.clone() };
    }
    filled
}

/// Takes out of an entry what may be a secret: a literal key, and an address that is more than an address.
fn hide(entry: &mut Value) {
    let is_reference = |key: &str| key.starts_with("env:") || providers::vault_name(key).is_some();
    let literal = entry["key"].as_str().is_some_and(|key| !is_reference(key));
    let literal_secret = entry["secret"].as_str().is_some_and(|secret| !is_reference(secret));
    if literal_secret {
        entry["secret"] = "(not shown: write env:NAME)".into();
    }
    if entry["url"].as_str().is_some_and(|url| plain_url(url).is_err()) {
        entry["url"] = "(not shown: not a plain address)".into();
    }
    if literal {
        entry["key"] = "(not shown: write env:NAME)".into();
    }
    let strange = entry["base_url"].as_str().is_some_and(|base_url| {
        dromia_models::HttpConfig::new(dromia_models::Format::OpenAiChat, base_url, "").url().is_err()
    });
    if strange {
        entry["base_url"] = "(not shown: not a plain address)".into();
    }
}
