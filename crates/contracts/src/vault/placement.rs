//! Where a request carries a secret, as it is written, stored and described. The egress client inserts the value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A place of a request that a call may name a secret for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretSlot {
    /// A header, by its name in lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
}

/// Where a request carries a secret: `header:NAME`, `bearer`, `query:NAME`; or `signature`, which is never sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretPlacement {
    /// As a header, by its name in lower case.
    Header(String),
    /// As the header `authorization`, behind `Bearer`.
    Bearer,
    /// As a parameter of the query.
    Query(String),
    /// Nowhere: it signs what is exchanged with its server and is never sent.
    Signature,
}

impl SecretPlacement {
    /// Returns the place of a request that this fills; nothing where the secret is never sent.
    pub fn request_slot(&self) -> Option<SecretSlot> {
        match self {
            Self::Header(name) => Some(SecretSlot::Header(name.clone())),
            Self::Bearer => Some(SecretSlot::Header("authorization".to_owned())),
            Self::Query(name) => Some(SecretSlot::Query(name.clone())),
            Self::Signature => None,
        }
    }
}

impl fmt::Display for SecretPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Bearer => f.write_str("bearer"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Signature => f.write_str("signature"),
        }
    }
}

/// Says that a text is no placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a placement is header:NAME, bearer, query:NAME or signature, with a name of 1 to 64 letters, digits, -, _ and ."
)]
pub struct ParsePlacementError;

impl FromStr for SecretPlacement {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |name: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            (1..=64).contains(&name.len()) && name.bytes().all(good)
        };
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            None if text == "signature" => Ok(Self::Signature),
            Some(("header", name)) if named(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("query", name)) if named(name) => Ok(Self::Query(name.to_owned())),
            _ => Err(ParsePlacementError),
        }
    }
}

impl Serialize for SecretPlacement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretPlacement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for SecretPlacement {
    fn schema_name() -> Cow<'static, str> {
        "Placement".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where in a request a secret stands: `header:NAME`, `bearer` or `query:NAME`; with `signature` it signs and is never sent.",
            "pattern": r"^(bearer|signature|(header|query):[A-Za-z0-9._-]{1,64})$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_read_as_it_is_written() {
        for (text, slot) in [
            ("header:x-api-key", Some(SecretSlot::Header("x-api-key".to_owned()))),
            ("bearer", Some(SecretSlot::Header("authorization".to_owned()))),
            ("query:Key", Some(SecretSlot::Query("Key".to_owned()))),
            ("signature", None),
        ] {
            let placement: SecretPlacement = text.parse().expect("a placement");
            assert_eq!((placement.to_string().as_str(), placement.request_slot()), (text, slot));
            let json = serde_json::to_string(&placement).expect("it is data");
            assert_eq!(serde_json::from_str::<SecretPlacement>(&json).expect("it is read"), placement);
        }
        assert_eq!("header:X-Key".parse(), Ok(SecretPlacement::Header("x-key".to_owned())));
        for text in
            ["", "header:", "header:a b", "cookie:x", "bearer:x", "query:a&b", "Bearer", "signature:x"]
        {
            assert!(text.parse::<SecretPlacement>().is_err(), "{text}");
        }
    }
}
