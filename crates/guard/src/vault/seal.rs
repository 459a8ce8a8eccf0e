//! Sealing: AES-256-GCM under a key that is used once.
//!
//! Each sealing draws a salt of 32 bytes and derives its own key from it (HMAC-SHA256), so no key meets two messages, no
//! nonce can repeat, and no counter of writes is needed. A sealed text is a version byte, the salt, and the ciphertext
//! with its tag; the context is authenticated and not stored, so what was sealed for one place opens at no other.

use dromia_contracts::vault::KeyBytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

/// The form that is written; others are not opened.
const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;

/// Says that a sealed text does not open: another key, another context, or damage. Authenticated encryption does not
/// tell which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not open")]
pub struct UnsealError;

/// Seals a text. The salt must be drawn for each call.
pub fn seal_text(
    key: &KeyBytes,
    salt: [u8; SALT_BYTES],
    context: &[u8],
    text: &[u8],
) -> Result<Vec<u8>, UnsealError> {
    // Capacity for the tag, so that no copy of the text is left behind by growing.
    let mut sealed = Zeroizing::new(Vec::with_capacity(text.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(text);
    let once = derive_seal_key(key, &salt)?;
    once.seal_in_place_append_tag(zero_nonce(), Aad::from(context), &mut *sealed).map_err(|_| UnsealError)?;
    Ok([&[VERSION][..], &salt[..], &sealed[..]].concat())
}

/// Opens what was sealed with the same key under the same context.
pub fn open_sealed(key: &KeyBytes, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let (version, rest) = sealed.split_first().ok_or(UnsealError)?;
    let (salt, rest) = rest.split_at_checked(SALT_BYTES).ok_or(UnsealError)?;
    if *version != VERSION {
        return Err(UnsealError);
    }
    let mut text = Zeroizing::new(rest.to_vec());
    let length = {
        let once = derive_seal_key(key, salt)?;
        once.open_in_place(zero_nonce(), Aad::from(context), &mut text).map_err(|_| UnsealError)?.len()
    };
    text.truncate(length);
    Ok(text)
}

/// Joins the parts of a context so that no two contexts are the same bytes.
pub fn join_context(parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_be_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

fn derive_seal_key(key: &KeyBytes, salt: &[u8]) -> Result<LessSafeKey, UnsealError> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose_key()), salt);
    let once = UnboundKey::new(&AES_256_GCM, tag.as_ref()).map_err(|_| UnsealError)?;
    Ok(LessSafeKey::new(once))
}

/// The key is used once, so its nonce is always the same.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyBytes {
        KeyBytes::new([byte; 32])
    }

    #[test]
    fn sealed_text_opens_only_with_its_key_and_context() {
        let sealed = seal_text(&key(1), [2; 32], b"here", b"a canary").expect("it is sealed");
        assert!(!sealed.windows(6).any(|piece| piece == b"canary"));
        assert_eq!(open_sealed(&key(1), b"here", &sealed).expect("it opens").as_slice(), b"a canary");
        assert!(open_sealed(&key(3), b"here", &sealed).is_err());
        assert!(open_sealed(&key(1), b"there", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut spoilt = sealed.clone();
            spoilt[at] ^= 1;
            assert!(open_sealed(&key(1), b"here", &spoilt).is_err(), "byte {at}");
            assert!(open_sealed(&key(1), b"here", &sealed[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn one_text_is_sealed_into_other_bytes_each_time() {
        let sealed = |salt| seal_text(&key(1), [salt; 32], b"", b"text").expect("it is sealed");
        assert_ne!(sealed(1)[33..], sealed(2)[33..]);
    }

    #[test]
    fn contexts_do_not_run_together() {
        assert_ne!(join_context(&[b"ab", b"c"]), join_context(&[b"a", b"bc"]));
        assert_ne!(join_context(&[b"a"]), join_context(&[b"a", b""]));
    }
}
