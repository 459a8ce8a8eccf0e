//! The node's key: Ed25519, made of 32 secret bytes that the caller draws and keeps.

use std::fmt;
use std::str::FromStr;

use dromia_contracts::Digest;
use dromia_contracts::digest::ParseDigestError;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// What the file of a key begins with: its format and version.
const PREFIX: &str = "dromia-audit-key-1 ";

/// The length of a signature as hex digits.
const SIGNATURE_DIGITS: usize = 128;

/// The key that signs.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    seed: Digest,
}

/// Says why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It was written by something else, or by a newer program.
    #[error("it does not begin with `{}`", PREFIX.trim_end())]
    Format,
    /// Its digits are damaged.
    #[error("what follows must be 64 lower-case hex digits")]
    Digits(#[from] ParseDigestError),
    /// No key can be made of it.
    #[error("its bytes are not a key")]
    Refused,
}

impl AuditKey {
    /// Makes a key of 32 unpredictable bytes.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Refused)?;
        Ok(Self { pair, seed: Digest::from_bytes(seed) })
    }

    /// Reads what [`AuditKey::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim_end().strip_prefix(PREFIX).ok_or(KeyError::Format)?;
        let seed: Digest = digits.parse()?;
        Self::from_seed(*seed.as_bytes())
    }

    /// Writes the key down. It is a secret.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}\n", self.seed)
    }

    /// Returns the public key.
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        let known = self.pair.public_key().as_ref();
        // A public key of this kind has 32 bytes.
        bytes.iter_mut().zip(known).for_each(|(byte, known)| *byte = *known);
        PublicKey(Digest::from_bytes(bytes))
    }

    /// Signs a text; returns hex digits.
    pub(super) fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let mut digits = String::with_capacity(SIGNATURE_DIGITS);
        for byte in signature.as_ref() {
            for nibble in [byte >> 4, byte & 0xf] {
                digits.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        digits
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("public", &self.public_key()).finish_non_exhaustive()
    }
}

/// The public half of a key, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(Digest);

impl PublicKey {
    pub(super) const fn of_digest(bytes: Digest) -> Self {
        Self(bytes)
    }

    pub(super) const fn to_digest(self) -> Digest {
        self.0
    }

    /// Tells whether this key signed a text; the signature is taken as it was written only.
    pub(super) fn verify_signature(&self, text: &str, signature: &str) -> bool {
        let Some(signature) = signature_bytes(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, self.0.as_bytes()).verify(text.as_bytes(), &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for PublicKey {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Reads the digits of a signature.
fn signature_bytes(digits: &str) -> Option<[u8; SIGNATURE_DIGITS / 2]> {
    let (first, second) = digits.split_at_checked(SIGNATURE_DIGITS / 2)?;
    let (first, second): (Digest, Digest) = (first.parse().ok()?, second.parse().ok()?);
    let mut bytes = [0; SIGNATURE_DIGITS / 2];
    bytes[..32].copy_from_slice(first.as_bytes());
    bytes[32..].copy_from_slice(second.as_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_shows_no_secret() {
        let key = AuditKey::from_seed([7; 32]).expect("32 bytes make a key");
        let again = AuditKey::from_text(&key.to_text()).expect("is read");
        assert_eq!(again.public_key(), key.public_key());
        assert!(!format!("{key:?}").contains(&Digest::from_bytes([7; 32]).to_string()));
        assert_eq!(AuditKey::from_text("dromia-audit-key-2 00").expect_err("is newer"), KeyError::Format);
        assert!(matches!(AuditKey::from_text("dromia-audit-key-1 00"), Err(KeyError::Digits(_))));
    }

    #[test]
    fn only_the_key_that_signed_a_text_signed_it() {
        let (key, other) =
            (AuditKey::from_seed([7; 32]).expect("a key"), AuditKey::from_seed([8; 32]).expect("a key"));
        let signature = key.sign("what was done");
        assert!(key.public_key().verify_signature("what was done", &signature));
        assert!(!key.public_key().verify_signature("what was not done", &signature));
        assert!(!other.public_key().verify_signature("what was done", &signature));
        assert!(!key.public_key().verify_signature("what was done", &signature.to_uppercase()));
        assert!(!key.public_key().verify_signature("what was done", ""));
    }
}
