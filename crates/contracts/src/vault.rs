//! Secrets: values that an agent may use and nobody may read back.
//!
//! A secret belongs to a tenant and is bound to one server and one place of a request. It is used by its name; the way out
//! puts the value in, where host and place are the secret's own, and nowhere else. One that signs is bound to no place: what
//! it signs goes out, and itself never. Stored is a [`SealedSecret`]: the value
//! under a key of its own, that key under the tenant's, and the tenant's under the instance's, which a [`KeyProvider`]
//! holds. So a secret is erased with its key.
//!
//! Nothing here seals or opens anything. [`SecretValue`] and [`KeyBytes`] have no serde and no `Display`, and their `Debug`
//! shows nothing.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize as _, Zeroizing};

use crate::BoxFuture;
use crate::fault::Fault;
use crate::scope::Scope;

/// The longest name of a secret, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What a name of a secret looks like, in words for people.
pub const NAME_RULE: &str = "1 to 64 of a-z, A-Z, 0-9, - and _, and begins with a letter or a digit";

/// The shortest value: a shorter one stands in too many texts by chance to be looked for.
pub const VALUE_BYTES_MIN: usize = 8;

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 << 10;

/// The most secrets of a tenant.
pub const SECRETS_MAX: usize = 128;

/// How the value of a secret begins that signs, as Standard Webhooks has it; base64 follows.
pub const SIGNING_PREFIX: &str = "whsec_";

/// How many bytes the key of a secret has that signs.
pub const SIGNING_BYTES: RangeInclusive<usize> = 24..=64;

/// How a grant for a secret begins; its name follows.
pub const GRANT: &str = "secret:";

/// Tells whether a text may name a secret.
pub fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(good)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// A secret's value in memory. It is wiped when it is dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

/// Says why a text is no value of a secret, without the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretValueError {
    /// It is too short to be told from other text.
    #[error("a value has at least {VALUE_BYTES_MIN} bytes")]
    Short,
    /// It is too long.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes")]
    Long,
    /// It could not be put into a request.
    #[error("a value holds no control characters; line breaks are some")]
    Control,
}

impl SecretValue {
    /// Takes a value.
    pub fn new(text: String) -> Result<Self, SecretValueError> {
        let value = Self(Zeroizing::new(text));
        match value.0.len() {
            0..VALUE_BYTES_MIN => Err(SecretValueError::Short),
            VALUE_BYTES_MIN..=VALUE_BYTES_MAX if value.0.chars().any(char::is_control) => {
                Err(SecretValueError::Control)
            }
            VALUE_BYTES_MIN..=VALUE_BYTES_MAX => Ok(value),
            _ => Err(SecretValueError::Long),
        }
    }

    /// Hands the value out, for whoever seals it, sends it or looks for it.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(redacted)")
    }
}

/// A key in memory. It is wiped when it is dropped.
#[derive(Clone)]
pub struct KeyBytes(Zeroizing<[u8; 32]>);

impl KeyBytes {
    /// Takes a key; the caller's own copy is wiped.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let key = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        key
    }

    /// Hands the key out, for whoever seals and opens.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(redacted)")
    }
}

/// A place of a request that a call may name a secret for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// A header, by its name in lower case.
    Header(String),
    /// A parameter of the query.
    Query(String),
}

/// Where in a request a secret stands: `header:NAME`, `bearer`, `query:NAME`; or `signature`, and it stands in none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// As a header, by its name in lower case.
    Header(String),
    /// As the header `authorization`, behind `Bearer`.
    Bearer,
    /// As a parameter of the query.
    Query(String),
    /// Nowhere: it signs what is exchanged with its server and is never sent.
    Signature,
}

impl Placement {
    /// Returns the place of a request that this fills; nothing where the secret is never sent.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Header(name) => Some(Slot::Header(name.clone())),
            Self::Bearer => Some(Slot::Header("authorization".to_owned())),
            Self::Query(name) => Some(Slot::Query(name.clone())),
            Self::Signature => None,
        }
    }
}

impl fmt::Display for Placement {
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

impl FromStr for Placement {
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

impl Serialize for Placement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Placement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Placement {
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

/// What may be shown of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// How often its value was set, since it was made.
    pub version: u32,
    /// The one server that it is for: scheme, host and port.
    pub host: String,
    /// Where in a request it stands.
    pub placement: Placement,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its value was set last.
    pub changed_at: Timestamp,
}

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// What may be shown of it.
    pub secret: Secret,
    /// Its own key, sealed with the tenant's.
    pub key: Bytes,
    /// Its value, sealed with its own key.
    pub value: Bytes,
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSecret").field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// A secret that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Whose it is.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// Where the request wants it.
    pub slot: Slot,
}

/// A secret to be set.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SecretValue,
    /// The one server that it is for: `api.example.com`, `api.example.com:8443`, or `http://…` where nothing is encrypted.
    pub host: String,
    /// Where in a request it stands.
    pub placement: Placement,
}

/// The port to the secrets of tenants.
///
/// Guarantee: a value that was given is never given back. An answer follows durability; a value that was replaced or
/// deleted cannot be opened any more, because its key is gone.
pub trait Vault: Send + Sync + fmt::Debug {
    /// Lists secrets by name, after one of them.
    fn list(
        &self,
        scope: Scope,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Secret>, Fault>>;

    /// Makes a secret, or gives one that is there a new value and a new rule.
    fn set(&self, scope: Scope, new: NewSecret) -> BoxFuture<'_, Result<Secret, Fault>>;

    /// Gives a secret a new value under its rule.
    fn rotate(&self, scope: Scope, name: String, value: SecretValue) -> BoxFuture<'_, Result<Secret, Fault>>;

    /// Erases a secret with its key, and returns what it was.
    fn delete(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<Secret, Fault>>;
}

/// A place of a text where a secret's value stands, in one of the forms that are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The secret's name.
    pub secret: String,
    /// The bytes of the text.
    pub range: Range<usize>,
}

/// Whoever knows the values of one tenant, as they were when it was asked for. It is a heuristic: a value that is written in
/// a form that nobody thought of is not found.
pub trait Spotter: Send + Sync + fmt::Debug {
    /// Finds values, in the order of the text and without overlap.
    fn find(&self, text: &[u8]) -> Vec<Leak>;

    /// Says from where on the end of a text may be the beginning of a value: what is before may go on its way when the rest
    /// is not known yet. It is the text's length where nothing begins.
    fn open_from(&self, text: &[u8]) -> usize;
}

/// The port to whoever knows the values and looks for them in what leaves.
///
/// Guarantee: without an answer (the vault cannot be opened) nothing is said to be clean.
pub trait Leaks: Send + Sync + fmt::Debug {
    /// Returns who knows the values of a tenant, for texts that come in pieces.
    fn spotter<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Arc<dyn Spotter>, Fault>>;

    /// Finds values of the tenant's secrets, in the order of the text and without overlap.
    fn find<'a>(&'a self, scope: &'a Scope, text: &'a [u8]) -> BoxFuture<'a, Result<Vec<Leak>, Fault>> {
        Box::pin(async move { Ok(self.spotter(scope).await?.find(text)) })
    }
}

/// Where there are no secrets, none is found.
#[derive(Debug, Clone, Copy)]
pub struct NoSecrets;

impl Spotter for NoSecrets {
    fn find(&self, _: &[u8]) -> Vec<Leak> {
        Vec::new()
    }

    fn open_from(&self, text: &[u8]) -> usize {
        text.len()
    }
}

impl Leaks for NoSecrets {
    fn spotter<'a>(&'a self, _: &'a Scope) -> BoxFuture<'a, Result<Arc<dyn Spotter>, Fault>> {
        Box::pin(std::future::ready(Ok(Arc::new(Self) as Arc<dyn Spotter>)))
    }
}

/// Writes stars over what was found; the text keeps its length.
pub fn mask(text: &mut [u8], leaks: &[Leak]) {
    for leak in leaks {
        if let Some(found) = text.get_mut(leak.range.clone()) {
            found.fill(b'*');
        }
    }
}

/// Why the instance's key cannot be used. The words are for the operator and hold nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not there, or cannot be used as it is.
    #[error("{problem}")]
    Unusable {
        /// What is wrong and what to do.
        problem: String,
    },
    /// It is another key than the one that sealed this, or what was sealed is damaged.
    #[error("{place} is not the key that sealed this home's secrets, or they are damaged")]
    Wrong {
        /// Where the key is.
        place: String,
    },
}

/// The port to the instance's key, which seals the keys of tenants: a file, or a service elsewhere.
///
/// Guarantee: what was sealed is opened under the same context only.
pub trait KeyProvider: Send + Sync + fmt::Debug {
    /// Seals a tenant's key. A provider without a key makes one first.
    fn seal<'a>(&'a self, context: &'a [u8], key: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>>;

    /// Opens a tenant's key. It never makes a key.
    fn open<'a>(&'a self, context: &'a [u8], sealed: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_or_a_key_is_shown() {
        let value = SecretValue::new("canary-canary".to_owned()).expect("a value");
        let new =
            NewSecret { name: "n".to_owned(), value, host: "h".to_owned(), placement: Placement::Bearer };
        assert!(!format!("{new:?} {:?}", KeyBytes::new([0x63; 32])).contains("canary"));
        assert!(!format!("{:?}", KeyBytes::new([7; 32])).contains('7'));
    }

    #[test]
    fn a_value_has_its_bounds() {
        let made = |text: String| SecretValue::new(text).map(drop);
        assert_eq!(made("1234567".to_owned()), Err(SecretValueError::Short));
        assert_eq!(made("12345678".to_owned()), Ok(()));
        assert_eq!(made("x".repeat(VALUE_BYTES_MAX)), Ok(()));
        assert_eq!(made("x".repeat(VALUE_BYTES_MAX + 1)), Err(SecretValueError::Long));
        assert_eq!(made("1234567\n".to_owned()), Err(SecretValueError::Control));
    }

    #[test]
    fn a_placement_is_read_as_it_is_written() {
        for (text, slot) in [
            ("header:x-api-key", Some(Slot::Header("x-api-key".to_owned()))),
            ("bearer", Some(Slot::Header("authorization".to_owned()))),
            ("query:Key", Some(Slot::Query("Key".to_owned()))),
            ("signature", None),
        ] {
            let placement: Placement = text.parse().expect("a placement");
            assert_eq!((placement.to_string().as_str(), placement.slot()), (text, slot));
            let json = serde_json::to_string(&placement).expect("it is data");
            assert_eq!(serde_json::from_str::<Placement>(&json).expect("it is read"), placement);
        }
        assert_eq!("header:X-Key".parse(), Ok(Placement::Header("x-key".to_owned())));
        for text in
            ["", "header:", "header:a b", "cookie:x", "bearer:x", "query:a&b", "Bearer", "signature:x"]
        {
            assert!(text.parse::<Placement>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_plain() {
        for (name, good) in
            [("github", true), ("A_1-b", true), ("", false), ("-a", false), ("a.b", false), ("a:b", false)]
        {
            assert_eq!(is_name(name), good, "{name}");
        }
        assert!(is_name(&"x".repeat(NAME_BYTES_MAX)) && !is_name(&"x".repeat(NAME_BYTES_MAX + 1)));
    }

    #[test]
    fn a_mask_keeps_the_length_and_what_is_around() {
        let mut text = b"a secret b".to_vec();
        mask(
            &mut text,
            &[Leak { secret: "s".to_owned(), range: 2..8 }, Leak { secret: "s".to_owned(), range: 9..99 }],
        );
        assert_eq!(text, b"a ****** b");
    }
}
