//! The chained digest of a journal.
//!
//! `chain = BLAKE3(chain before | seq | at ms | epoch | kind 0 | version | length | fields | body hash)`, numbers
//! big-endian, the length of the fields in 32 bits. The body enters by its keyed hash only, and not at all where
//! there is none: an erased body leaves the chain whole. The chain begins with 32 zero bytes.

use jiff::Timestamp;

/// The digest before the first entry.
pub(crate) const ORIGIN: [u8; 32] = [0; 32];

/// The bytes of everything else that a link covers.
const BESIDE_FIELDS: usize = 32 + 8 + 8 + 8 + 1 + 2 + 4 + 32;

/// What one link covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainLink<'a> {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) epoch: u64,
    pub(crate) kind: &'a str,
    pub(crate) version: u16,
    pub(crate) fields: &'a str,
    pub(crate) body_hash: Option<&'a [u8; 32]>,
}

/// Returns the digest after an entry.
pub(crate) fn next(previous: &[u8; 32], link: &ChainLink<'_>) -> [u8; 32] {
    // One piece is digested faster than ten.
    let mut bytes = Vec::with_capacity(BESIDE_FIELDS + link.kind.len() + link.fields.len());
    bytes.extend(previous);
    bytes.extend(link.seq.to_be_bytes());
    bytes.extend(link.at.as_millisecond().to_be_bytes());
    bytes.extend(link.epoch.to_be_bytes());
    bytes.extend(link.kind.as_bytes());
    bytes.push(0);
    bytes.extend(link.version.to_be_bytes());
    // A batch is at most 1 MiB, so the length of its fields fits.
    bytes.extend(u32::try_from(link.fields.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(link.fields.as_bytes());
    if let Some(hash) = link.body_hash {
        bytes.extend(hash);
    }
    *blake3::hash(&bytes).as_bytes()
}

/// Returns the digest of a checkpoint behind the entry that ends with this chain: of the journal up to there, and of the state
/// with the version of its fold.
pub(crate) fn checkpoint_digest(chain: &[u8; 32], version: u32, state: &[u8]) -> [u8; 32] {
    let mut digest = blake3::Hasher::new_derive_key("dromia run checkpoint 1");
    digest.update(chain).update(&version.to_be_bytes()).update(state);
    *digest.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> ChainLink<'static> {
        ChainLink {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            kind: "ab",
            version: 1,
            fields: "c",
            body_hash: None,
        }
    }

    #[test]
    fn every_part_of_an_entry_changes_its_link() {
        let base = next(&ORIGIN, &link());
        let changed = [
            next(&base, &link()),
            next(&ORIGIN, &ChainLink { seq: 2, ..link() }),
            next(&ORIGIN, &ChainLink { at: Timestamp::from_millisecond(1).expect("is a time"), ..link() }),
            next(&ORIGIN, &ChainLink { epoch: 2, ..link() }),
            next(&ORIGIN, &ChainLink { kind: "a", fields: "bc", ..link() }),
            next(&ORIGIN, &ChainLink { version: 2, ..link() }),
            next(&ORIGIN, &ChainLink { fields: "d", ..link() }),
            next(&ORIGIN, &ChainLink { body_hash: Some(&[0; 32]), ..link() }),
        ];
        for (index, other) in changed.iter().enumerate() {
            assert_ne!(&base, other, "change {index} goes unnoticed");
        }
    }
}
