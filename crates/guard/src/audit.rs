//! What proves a history outside of the database: signed checkpoints, and signed files of records.
//!
//! Pure: lines of text in, lines of text out. Where the files lie and what the database says is known to others. Both
//! files are JSON lines with a version; every line is written here and nowhere else, and is taken only as it was
//! written, byte for byte: a line that means the same and reads otherwise is refused.
//!
//! The holder of the key can write a history of his own. To prove a history against the machine's owner, the public key
//! and the number and digest of a checkpoint must be in other hands.

mod checkpoint;
mod export;
mod key;

pub use self::checkpoint::{AuditCheckpoint, CheckpointError, CheckpointHead, LINE_BYTES_MAX, TENANTS_MAX};
pub use self::export::{
    AuditExport, ExportError, ExportHead, check_export, first_line, last_line, record_line,
};
pub use self::key::{AuditKey, KeyError, PublicKey};

/// Hashes bytes.
fn digest_of(bytes: &[u8]) -> dromia_contracts::Digest {
    dromia_contracts::Digest::from_bytes(*blake3::hash(bytes).as_bytes())
}
