//! The keys with which tokens begin: one of a tenant, and the previous one while keys are changed.

use std::fmt;

use biscuit_auth::{Algorithm, KeyPair, PrivateKey, PublicKey};

use super::token_error::TokenError;

/// The most keys of a tenant that count at a time.
pub const ROOTS_MAX: usize = 2;

/// The number of the key that every tenant has today.
pub const ROOT_ID: u32 = 1;

/// The secret half of a tenant's key.
pub struct RootKey {
    id: u32,
    key: KeyPair,
}

impl RootKey {
    /// Makes a key of 32 secret bytes; every token that begins with it names its number.
    pub fn new(id: u32, secret: &[u8; 32]) -> Result<Self, TokenError> {
        Ok(Self { id, key: key_of(secret)? })
    }

    /// The half that checks.
    pub fn public_root(&self) -> PublicRoot {
        PublicRoot { id: self.id, key: self.key.public() }
    }

    pub(super) fn key_id(&self) -> u32 {
        self.id
    }

    pub(super) fn key_pair(&self) -> &KeyPair {
        &self.key
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The half of a tenant's key that checks.
#[derive(Debug, Clone, Copy)]
pub struct PublicRoot {
    id: u32,
    key: PublicKey,
}

/// The keys of one tenant that count now.
#[derive(Debug, Clone)]
pub struct RootKeys(Vec<PublicRoot>);

impl RootKeys {
    /// Takes the keys that count.
    pub fn new(keys: Vec<PublicRoot>) -> Result<Self, TokenError> {
        if keys.len() > ROOTS_MAX {
            return Err(TokenError::TooManyRoots { found: keys.len() });
        }
        Ok(Self(keys))
    }

    /// Returns the key of this number, if it counts.
    pub(super) fn find_key(&self, id: Option<u32>) -> Option<PublicKey> {
        self.0.iter().find(|root| Some(root.id) == id).map(|root| root.key)
    }
}

/// Makes a pair of keys of 32 bytes.
pub(super) fn key_of(bytes: &[u8; 32]) -> Result<KeyPair, TokenError> {
    let private = PrivateKey::from_bytes(bytes, Algorithm::Ed25519).map_err(|_| TokenError::Key)?;
    Ok(KeyPair::from(&private))
}
