//! Typed ids: a UUIDv7 behind a prefix that names the noun, such as `run_0199c0de…`.
//!
//! The text form is the prefix, an underscore and 32 lower-case hex digits; it sorts by creation time. This
//! module mints nothing: new ids come from [`crate::runtime::IdSource`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::parsed::parsed;
use uuid::Uuid;

/// Says why a text is not the id that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {}, found {found:?}", form(.expected))]
pub struct ParseIdError {
    /// The prefix that the noun carries.
    pub expected: &'static str,
    /// What was given, cut to 64 characters.
    pub found: String,
}

/// An id of one kind: a small value that is copied and never borrowed.
pub trait TypedId: Copy + Send + 'static {}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// Types a bare UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the 16 bytes that are stored.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads the 16 bytes that were stored.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl TypedId for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, $prefix).map(Self).ok_or_else(|| ParseIdError {
                    expected: $prefix,
                    found: text.chars().take(64).collect(),
                })
            }
        }


        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "_[0-9a-f]{32}$"),
                    "description": concat!("`", $prefix, "_` and 32 lower-case hex digits."),
                })
            }
        }
    };
}

typed_id!(
    /// Names a tenant: who owns agents and data; nothing crosses it.
    TenantId, "ten"
);
typed_id!(
    /// Names an agent: identity, configuration and home.
    AgentId, "agt"
);
typed_id!(
    /// Names a session: the durable conversation of one agent.
    SessionId, "ses"
);
typed_id!(
    /// Names a run: one durable execution.
    RunId, "run"
);
typed_id!(
    /// Names an inbox item: what others send to a session or a run.
    ItemId, "itm"
);
typed_id!(
    /// Names a token: a credential of a tenant. It is no secret: it gives no access by itself.
    TokenId, "tok"
);

typed_id!(
    /// Names a capability: signed rights of an agent. It is no secret: it gives no rights by itself.
    CapabilityId, "cap"
);

typed_id!(
    /// Names a delivery: a message on its way out. Every attempt carries it.
    DeliveryId, "dlv"
);

typed_id!(
    /// Names an approval: one call that a person must allow.
    ApprovalId, "apr"
);

typed_id!(
    /// Names one write of a state entry. A repeated write has the same id.
    WriteId, "wrt"
);

impl RunId {
    /// Returns the first id that a run begun at this time can have; ids of earlier runs sort before it.
    pub fn earliest_at(at: Timestamp) -> Self {
        Self::from_bytes(earliest_bytes(at))
    }
}

impl SessionId {
    /// Returns the first id that a session opened at this time can have; ids of earlier sessions sort before it.
    pub fn earliest_at(at: Timestamp) -> Self {
        Self::from_bytes(earliest_bytes(at))
    }
}

fn earliest_bytes(at: Timestamp) -> [u8; 16] {
    // A UUIDv7 begins with 48 bits of milliseconds.
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0).min((1 << 48) - 1);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes
}

/// The prefix of a call's id, which is no UUID.
const CALL: &str = "call";

/// Says how the id of a noun is written.
fn form(prefix: &str) -> String {
    match prefix {
        CALL => "a call, such as call_1_0: its step and its place there".to_owned(),
        prefix => format!("{prefix}_ followed by 32 hex digits"),
    }
}

fn parse(text: &str, prefix: &str) -> Option<Uuid> {
    let hex = text.strip_prefix(prefix)?.strip_prefix('_')?;
    let canonical = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { Uuid::try_parse(hex).ok() } else { None }
}

/// Names one tool call of a run: the model step that asked for it and its place among that step's calls.
///
/// Every attempt of a call carries the same id, and with the run it forms the idempotency key
/// ([`CallId::idempotency_key`]), so no two calls ever share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The model step, counted from 1.
    pub step: u32,
    /// The place of the call within the step, counted from 0.
    pub index: u32,
}

impl CallId {
    /// The id of no call: the gate is asked about a tool before it is called. Steps of calls count from 1.
    pub const PROBE: Self = Self { step: 0, index: 0 };

    /// Returns the idempotency key that all attempts of this call carry.
    pub fn idempotency_key(&self, run: RunId) -> String {
        format!("{run}:{self}")
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call_{}_{}", self.step, self.index)
    }
}

impl FromStr for CallId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.strip_prefix("call_").and_then(|rest| rest.split_once('_'));
        numbers
            .and_then(|(step, index)| Some(Self { step: step.parse().ok()?, index: index.parse().ok()? }))
            .ok_or_else(|| ParseIdError { expected: CALL, found: text.chars().take(64).collect() })
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl JsonSchema for CallId {
    fn schema_name() -> Cow<'static, str> {
        "CallId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^call_[0-9]+_[0-9]+$",
            "description": "`call_`, the model step, and the place of the call within it.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        let id = RunId::from_bytes([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            serde_json::from_str::<RunId>(&serde_json::to_string(&id).expect("serializes")).ok(),
            Some(id)
        );
    }

    #[test]
    fn an_id_of_another_noun_or_another_spelling_is_refused() {
        let run = RunId::from_bytes([0xab; 16]).to_string();
        for bad in [
            run.replace("run_", "ses_"),
            run.to_uppercase(),
            run.replace('_', ""),
            format!("{run}0"),
            String::new(),
        ] {
            assert!(bad.parse::<RunId>().is_err(), "{bad} was taken for a run");
        }
    }

    #[test]
    fn the_earliest_id_of_a_time_sorts_before_its_runs() {
        let at = |millis| Timestamp::from_millisecond(millis).expect("a time");
        let made = |millis: u64| RunId::from_uuid(uuid_of(millis));
        let earliest = RunId::earliest_at(at(1_780_000_000_000));
        assert!(made(1_779_999_999_999) < earliest && earliest < made(1_780_000_000_000));
        assert_eq!(RunId::earliest_at(at(-5)), RunId::from_bytes([0; 16]));
    }

    fn uuid_of(millis: u64) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
    }

    #[test]
    fn a_malformed_id_error_shows_the_expected_form() {
        let told = "nosuch".parse::<CallId>().expect_err("no call").to_string();
        assert_eq!(told, "expected a call, such as call_1_0: its step and its place there, found \"nosuch\"");
        let told = "nosuch".parse::<RunId>().expect_err("no run").to_string();
        assert_eq!(told, "expected run_ followed by 32 hex digits, found \"nosuch\"");
    }

    #[test]
    fn call_keys_of_two_runs_differ() {
        let call = CallId { step: 1, index: 0 };
        assert_ne!(
            call.idempotency_key(RunId::from_bytes([1; 16])),
            call.idempotency_key(RunId::from_bytes([2; 16]))
        );
        assert_eq!(call.to_string().parse(), Ok(call));
    }
}
