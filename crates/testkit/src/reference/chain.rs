//! The chained digest of a journal, by the rule that every store follows.
//!
//! `chain = BLAKE3(chain before | seq | at ms | epoch | kind 0 | version | length | fields | body hash)`, numbers
//! big-endian. The body hash is BLAKE3 keyed with the tenant's body key, or nothing where there is no body, so
//! a body can be erased later without breaking the chain. The chain begins with 32 zero bytes.

use dromia_contracts::Digest;
use dromia_contracts::store::StoredEntry;

/// Computes the digest of an entry that follows one with the digest `before`.
pub(crate) fn chain_digest(before: Digest, entry: &StoredEntry, body_key: &[u8; 32]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    hasher.update(&entry.seq.to_be_bytes());
    hasher.update(&entry.at.as_millisecond().to_be_bytes());
    hasher.update(&entry.epoch.to_be_bytes());
    hasher.update(entry.kind.as_bytes());
    hasher.update(&[0]);
    hasher.update(&entry.version.to_be_bytes());
    // A batch is at most 1 MiB, so the length of its fields fits.
    hasher.update(&u32::try_from(entry.fields.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(entry.fields.as_bytes());
    if let Some(body) = &entry.body {
        hasher.update(blake3::keyed_hash(body_key, body).as_bytes());
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}
