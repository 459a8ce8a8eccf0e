//! Secrets on the wire. A value is written and never read back: no answer has one.

use std::fmt;

use dromia_contracts::vault::SecretPlacement;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value on its way to the server. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// Makes a secret, or gives one that is there a new value and a new rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// Its name: letters, digits, `-` and `_`, 64 at most.
    pub name: String,
    /// The value, of 8 to 4096 bytes without control characters.
    pub value: SecretText,
    /// The one server that it is for: `api.example.com`, `api.example.com:8443`, or `http://…` where nothing is encrypted.
    pub host: String,
    /// Where a request carries it: `header:NAME`, `bearer` or `query:NAME`; `signature` for one that signs and is never
    /// sent.
    pub placement: SecretPlacement,
}

/// Gives a secret a new value under its rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// The new value, of 8 to 4096 bytes without control characters.
    pub value: SecretText,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretResource {
    /// Its name.
    pub name: String,
    /// How often its value was set, since it was made.
    pub version: u32,
    /// The one server that it is for: scheme, host and port.
    pub host: String,
    /// Where a request carries it.
    pub placement: SecretPlacement,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its value was set last.
    pub changed_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_on_the_wire_of_a_request_only() {
        let set = SetSecret {
            name: "n".to_owned(),
            value: SecretText("canary-canary".to_owned()),
            host: "h".to_owned(),
            placement: SecretPlacement::Bearer,
        };
        assert!(!format!("{set:?}").contains("canary"));
        let json = serde_json::to_value(&set).expect("it is data");
        assert_eq!(
            json,
            serde_json::json!({"name": "n", "value": "canary-canary", "host": "h", "placement": "bearer"})
        );
        assert!(serde_json::from_str::<RotateSecret>(r#"{"value":"x","host":"h"}"#).is_err());
    }
}
