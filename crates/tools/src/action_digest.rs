//! The digest of one action: a tool and its canonical arguments.

use dromia_contracts::Digest;

/// Hashes what a call does.
pub(crate) fn action_digest(tool: &str, arguments: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tool.as_bytes()).update(&[0]).update(arguments.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}
