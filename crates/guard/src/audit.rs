//! What proves a history outside of the database: signed checkpoints, and signed files of records.
//!
//! Pure: lines of text in, lines of text out. Where the files lie and what the database says is known to others. Both
//! files are JSON lines with a version; every line is written here and nowhere else, and is taken only as it was
//! written, byte for byte: a line that means the same and reads otherwise is refused.
//!
//! Who holds the key can write a history of his own. So what is to be proved against whoever owns the machine needs the
//! public key, and the number and digest of a checkpoint, in other hands.

mod checkpoint;
mod export;
mod key;

pub use self::checkpoint::{Checkpoint, CheckpointError, CheckpointHead, LINE_BYTES_MAX, TENANTS_MAX};
pub use self::export::{Export, ExportError, ExportHead, check_export, first_line, last_line, line};
pub use self::key::{AuditKey, KeyError, PublicKey};

/// Hashes bytes.
fn digest(bytes: &[u8]) -> dromia_contracts::Digest {
    dromia_contracts::Digest::from_bytes(*blake3::hash(bytes).as_bytes())
}
