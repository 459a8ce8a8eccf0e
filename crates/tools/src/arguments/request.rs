//! The arguments of `http.request`.
//!
//! A secret is named here and never said: only the way out knows its value.

use std::collections::BTreeMap;

use dromia_contracts::egress::HttpMethod;
use dromia_contracts::vault;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::{deserialize_bounded, read_limit, read_limit_default};
use crate::web::HttpUrl;

/// The most bytes that one request carries.
pub(crate) const REQUEST_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpRequest {
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "request_body")]
    pub(crate) body: String,
    /// Texts, or {"secret":"NAME"} for a secret of this host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "request_headers")]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(crate) headers: BTreeMap<String, HeaderText>,
    /// Bytes shown, at most 65536.
    #[serde(default = "read_limit_default", deserialize_with = "read_limit")]
    pub(crate) limit: u32,
    /// GET by default.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) method: HttpMethod,
    /// First byte shown.
    #[serde(default)]
    pub(crate) offset: u64,
    /// Parameters that are secrets: {"secret":"NAME"}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(crate) query: BTreeMap<String, NamedSecret>,
    #[schemars(with = "String")]
    pub(crate) url: HttpUrl,
}

/// What a header says: a text, or a secret that only the way out knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum HeaderText {
    Plain(String),
    Secret(NamedSecret),
}

/// A secret by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedSecret {
    #[serde(deserialize_with = "secret_name")]
    pub(crate) secret: String,
}

fn request_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserialize_bounded(deserializer, REQUEST_BYTES_MAX)
}

fn secret_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if vault::is_name(&name) { Ok(name) } else { Err(de::Error::custom("name a secret by its name alone")) }
}

/// Reads headers by their names in lower case, so that equal calls have equal bytes.
fn request_headers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, HeaderText>, D::Error> {
    let mut headers = BTreeMap::new();
    for (name, value) in BTreeMap::<String, Value>::deserialize(deserializer)? {
        let value = match value {
            Value::String(text) => HeaderText::Plain(text),
            Value::Object(_) => {
                serde_json::from_value(value).map(HeaderText::Secret).map_err(de::Error::custom)?
            }
            _ => return Err(de::Error::custom("a header is a string or {\"secret\":\"NAME\"}")),
        };
        if headers.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(de::Error::custom("a header appears twice"));
        }
    }
    Ok(headers)
}
