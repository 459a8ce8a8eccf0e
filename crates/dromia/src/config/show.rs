//! Every value that counts, key by key, with its origin. Keys to providers appear only as their reference to the
//! environment or the vault.

use serde_json::{Map, Value};

use dromia_models::{ContextWindow, KnownModels};

use super::LoadedConfig;
use super::channels::plain_url;
use super::file::{WrittenConfig, WrittenModel, WrittenPrice};
use super::origin::ValueOrigin;
use super::providers::{self, ModelRoute};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShownValue {
    /// The key's path.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Value,
    /// Where that comes from.
    pub(crate) origin: ValueOrigin,
}

/// Returns the configuration with every default filled in, as one document.
pub(crate) fn config_document(loaded: &LoadedConfig) -> Value {
    let mut document = serde_json::to_value(fill_dependent_defaults(&loaded.written)).unwrap_or_default();
    for (alias, model) in &loaded.written.models {
        let unpriced = matches!(
            providers::route_for_alias(&loaded.written, alias, model),
            Ok(ModelRoute { target: Some(target), .. }) if target.price.is_none()
        );
        if unpriced {
            document["models"][alias]["price"] = "unpriced".into();
        }
    }
    for section in ["providers", "models", "channels"] {
        for entry in document[section].as_object_mut().into_iter().flat_map(Map::values_mut) {
            hide_secrets(entry);
        }
    }
    document
}

/// Lists the values in the order of the alphabet.
pub(crate) fn list_values(loaded: &LoadedConfig) -> Vec<ShownValue> {
    let mut values = Vec::new();
    if let Value::Object(document) = config_document(loaded) {
        flatten_object("", document, loaded, &mut values);
    }
    values
}

fn flatten_object(
    above: &str,
    object: Map<String, Value>,
    loaded: &LoadedConfig,
    values: &mut Vec<ShownValue>,
) {
    for (name, value) in object {
        let key = if above.is_empty() { name } else { format!("{above}.{name}") };
        match value {
            Value::Object(below) if !below.is_empty() => flatten_object(&key, below, loaded, values),
            value => {
                let origin = match loaded.origins.origin_of(&key) {
                    ValueOrigin::Default if is_builtin_price(&key, loaded) => {
                        ValueOrigin::Prices(&KnownModels::builtin_table().as_of)
                    }
                    origin => origin,
                };
                values.push(ShownValue { key, value, origin });
            }
        }
    }
}

/// Tells whether a value lies below a price that the file does not set.
fn is_builtin_price(key: &str, loaded: &LoadedConfig) -> bool {
    let alias =
        key.strip_prefix("models.").and_then(|rest| rest.rsplit_once(".price.")).map(|(alias, _)| alias);
    alias.and_then(|alias| loaded.written.models.get(alias)).is_some_and(|model| model.price.is_none())
}

/// Fills in what depends on other keys. An entry that means nothing is left as it is.
fn fill_dependent_defaults(written: &WrittenConfig) -> WrittenConfig {
    let mut filled = written.clone();
    for server in filled.providers.values_mut() {
        *server = providers::fill_provider_defaults(server);
    }
    for (alias, model) in &mut filled.models {
        let Ok(ModelRoute { target: Some(target), .. }) = providers::route_for_alias(written, alias, model)
        else {
            continue;
        };
        let price = target.price.map(WrittenPrice::from);
        let base_url = target.server.base_url.filter(|_| model.provider.is_none());
        let ContextWindow { context_tokens, output_tokens_max } = target.window;
        let stream = Some(target.stream);
        *model = WrittenModel { base_url, stream, price, context_tokens, output_tokens_max, ..model.clone() };
    }
    filled
}

/// Takes out of an entry what may be a secret: a literal key, and an address that is more than an address.
fn hide_secrets(entry: &mut Value) {
    let is_reference = |key: &str| key.starts_with("env:") || providers::vault_name(key).is_some();
    let literal = entry["key"].as_str().is_some_and(|key| !is_reference(key));
    let literal_secret = entry["secret"].as_str().is_some_and(|secret| !is_reference(secret));
    if literal_secret {
        entry["secret"] = "(not shown: write env:NAME)".into();
    }
    if entry["url"].as_str().is_some_and(|url| plain_url(url).is_err()) {
        entry["url"] = "(not shown: not a plain URL)".into();
    }
    if literal {
        entry["key"] = "(not shown: write env:NAME)".into();
    }
    let strange = entry["base_url"].as_str().is_some_and(|base_url| {
        dromia_models::HttpConfig::new(dromia_models::WireFormat::OpenAiChat, base_url, "")
            .endpoint_url()
            .is_err()
    });
    if strange {
        entry["base_url"] = "(not shown: not a plain URL)".into();
    }
}
