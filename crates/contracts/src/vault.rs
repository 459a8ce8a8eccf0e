//! Secrets: values that an agent may use and no interface shows again.
//!
//! A secret belongs to a tenant and is bound to one server and one place of a request. A call uses it by its name; the
//! egress client inserts the value where host and place are the secret's own, and nowhere else. One that signs is bound
//! to no place: what it signs goes out, and itself never. Stored is a [`SealedSecret`]: the value under a key of its
//! own, that key under the tenant's, and the tenant's under the instance's, which a [`KeyProvider`] holds. So a secret
//! is erased with its key.
//!
//! Nothing here seals or opens anything. [`SecretValue`] and [`KeyBytes`] have no serde and no `Display`, and their `Debug`
//! shows nothing.

mod placement;
mod value;

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

pub use self::placement::{ParsePlacementError, SecretPlacement, SecretSlot};
pub use self::value::{KeyBytes, SecretValue, SecretValueError, VALUE_BYTES_MAX, VALUE_BYTES_MIN};
use crate::BoxFuture;
use crate::fault::Fault;
use crate::scope::Scope;

/// The longest name of a secret, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What a name of a secret looks like, in words for people.
pub const NAME_RULE: &str = "1 to 64 of a-z, A-Z, 0-9, - and _, and begins with a letter or a digit";

/// The most secrets of a tenant.
pub const SECRETS_MAX: usize = 128;

/// How the value of a secret begins that signs, as Standard Webhooks has it; base64 follows.
pub const SIGNING_PREFIX: &str = "whsec_";

/// How many bytes the key of a secret has that signs.
pub const SIGNING_BYTES: RangeInclusive<usize> = 24..=64;

/// How a grant for a secret begins; its name follows.
pub const GRANT: &str = "secret:";

/// Returns whether a text may name a secret.
pub fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(good)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// What may be shown of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSummary {
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

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// What may be shown of it.
    pub secret: SecretSummary,
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
    pub slot: SecretSlot,
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
    /// Where a request carries it.
    pub placement: SecretPlacement,
}

/// Who says that secrets are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUpBy {
    /// An admin of the tenant, who does not know where the instance's key is kept.
    Tenant,
    /// The owner of the home, and with it of the instance's key.
    Owner,
}

/// The port to the secrets of tenants.
///
/// Guarantee: a value that was given is never given back. An answer follows durability; a value that was replaced or
/// deleted cannot be opened any more, because its key is gone.
pub trait Vault: Send + Sync + fmt::Debug {
    /// Lists secrets by name, after one of them.
    fn list_secrets(
        &self,
        scope: Scope,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SecretSummary>, Fault>>;

    /// Makes a secret, or gives one that is there a new value and a new rule.
    fn set_secret(&self, scope: Scope, new: NewSecret) -> BoxFuture<'_, Result<SecretSummary, Fault>>;

    /// Gives a secret a new value under its rule.
    fn rotate_secret(
        &self,
        scope: Scope,
        name: String,
        value: SecretValue,
    ) -> BoxFuture<'_, Result<SecretSummary, Fault>>;

    /// Erases a secret with its key, and returns what it was.
    fn delete_secret(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<SecretSummary, Fault>>;

    /// Gives up secrets that cannot be opened any more: erases all secrets of the tenant, whose key the instance's does
    /// not open, and makes the tenant another key, in one commit. Returns what they were, by name. Refused while the
    /// key opens, and while the instance's key is there and cannot be read as it is: it may be the right one. Without
    /// an instance's key only the owner of the home gives up anything, and that makes another one.
    fn reset_vault(&self, scope: Scope, by: GivenUpBy) -> BoxFuture<'_, Result<Vec<SecretSummary>, Fault>>;
}

/// A range of a text that holds a secret's value, in one of the forms that are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMatch {
    /// The secret's name.
    pub secret: String,
    /// The bytes of the text.
    pub range: Range<usize>,
}

/// Knows the values of one tenant, as they were when it was made, and finds them. It is a heuristic: it misses a value
/// in a form that it does not know.
pub trait SecretScanner: Send + Sync + fmt::Debug {
    /// Finds values, in the order of the text and without overlap.
    fn find_secrets(&self, text: &[u8]) -> Vec<SecretMatch>;

    /// Finds the same within some hundred microseconds, for callers that must not wait; nothing if it takes longer.
    fn find_quickly(&self, text: &[u8]) -> Option<Vec<SecretMatch>> {
        Some(self.find_secrets(text))
    }

    /// Says from where on the end of a text may be the beginning of a value: what is before may go on its way when the rest
    /// is not known yet. It is the text's length where nothing begins.
    fn open_from(&self, text: &[u8]) -> usize;
}

/// The port that knows the values and looks for them in what leaves.
///
/// Guarantee: without an answer (the vault cannot be opened) nothing is said to be clean.
pub trait LeakDetector: Send + Sync + fmt::Debug {
    /// Returns the scanner for the values of a tenant, for texts that come in pieces.
    fn scanner_for_tenant<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>>;

    /// Finds values of the tenant's secrets, in the order of the text and without overlap. A look that takes long keeps no
    /// task from going on.
    fn scan_text<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<SecretMatch>, Fault>> {
        Box::pin(async move { Ok(self.scanner_for_tenant(scope).await?.find_secrets(text)) })
    }
}

/// Where there are no secrets, none is found.
#[derive(Debug, Clone, Copy)]
pub struct NoSecrets;

impl SecretScanner for NoSecrets {
    fn find_secrets(&self, _: &[u8]) -> Vec<SecretMatch> {
        Vec::new()
    }

    fn open_from(&self, text: &[u8]) -> usize {
        text.len()
    }
}

impl LeakDetector for NoSecrets {
    fn scanner_for_tenant<'a>(
        &'a self,
        _: &'a Scope,
    ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
        Box::pin(std::future::ready(Ok(Arc::new(Self) as Arc<dyn SecretScanner>)))
    }
}

/// Writes stars over what was found; the text keeps its length.
pub fn mask_secrets(text: &mut [u8], leaks: &[SecretMatch]) {
    for leak in leaks {
        if let Some(found) = text.get_mut(leak.range.clone()) {
            found.fill(b'*');
        }
    }
}

/// Why the instance's key cannot be used. The words are for the operator and hold nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not there.
    #[error("{place} is missing; restore it from your copy")]
    Missing {
        /// Where it should be.
        place: String,
    },
    /// It cannot be used as it is, or whether it exists is unknown.
    #[error("{problem}")]
    Unusable {
        /// What is wrong and what to do.
        problem: String,
    },
    /// It could not be read just now, for want of file descriptors or memory or by an error of the disk; a look may find it again.
    #[error("{problem}")]
    Unread {
        /// What went wrong.
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
    /// Makes the instance's key where there is none and nothing was ever sealed with one; one that is there stays as it is.
    /// [`KeyError::Missing`] where something was: that key is elsewhere, and another one in its place would hide it.
    fn ensure_key(&self) -> BoxFuture<'_, Result<(), KeyError>>;

    /// Makes the instance's key if there is none, whatever was sealed: for the owner, who gave up the previous one.
    fn make_key(&self) -> BoxFuture<'_, Result<(), KeyError>>;

    /// Seals a tenant's key. It never makes a key.
    fn seal_key<'a>(
        &'a self,
        context: &'a [u8],
        key: &'a KeyBytes,
    ) -> BoxFuture<'a, Result<Vec<u8>, KeyError>>;

    /// Opens a tenant's key. It never makes a key.
    fn open_key<'a>(
        &'a self,
        context: &'a [u8],
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<KeyBytes, KeyError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_or_a_key_is_shown() {
        let value = SecretValue::new("canary-canary".to_owned()).expect("a value");
        let new = NewSecret {
            name: "n".to_owned(),
            value,
            host: "h".to_owned(),
            placement: SecretPlacement::Bearer,
        };
        assert!(!format!("{new:?} {:?}", KeyBytes::new([0x63; 32])).contains("canary"));
        assert!(!format!("{:?}", KeyBytes::new([7; 32])).contains('7'));
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
        mask_secrets(
            &mut text,
            &[
                SecretMatch { secret: "s".to_owned(), range: 2..8 },
                SecretMatch { secret: "s".to_owned(), range: 9..99 },
            ],
        );
        assert_eq!(text, b"a ****** b");
    }
}
