//! A checkpoint: how far the chains of tenants go, signed, and tied to the checkpoint before.
//!
//! One line is one checkpoint: `{"dromia_checkpoint":1,"number":…,"at":…,"before":…,"key":…,"why":…,"chains":[[TENANT,
//! SEAL,CHAIN],…],"signature":…}`. `before` is the BLAKE3 of the previous line without its line end, and of nothing for
//! the first. The signature is over everything before it. A reader that meets another version refuses the line.

use dromia_contracts::audit::{AuditHead, AuditMark};
use dromia_contracts::{Digest, TenantId};
use serde::{Deserialize, Serialize};

use super::digest_of;
use super::key::{AuditKey, PublicKey};

/// The version of the form.
const VERSION: u32 = 1;
/// The most tenants of one line; a node with more of them writes more lines.
pub const TENANTS_MAX: usize = 2_048;
/// The longest line that is read.
pub const LINE_BYTES_MAX: usize = 1 << 20;

const SIGNATURE: &str = ",\"signature\":\"";
const END: &str = "\"}";

/// What a checkpoint says in addition to the chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointHead {
    /// Its number, counted from 1 without gap.
    pub number: u64,
    /// When it was made, as RFC 3339.
    pub at: String,
    /// BLAKE3 of the line before; of nothing for the first.
    pub before: Digest,
    /// What it was made for: `start`, `time` or `stop`.
    pub why: String,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// What it says in addition to the chains.
    pub head: CheckpointHead,
    /// Who signed it.
    pub key: PublicKey,
    /// How far the chains go that have grown since the checkpoint before.
    pub chains: Vec<AuditHead>,
    /// BLAKE3 of its line.
    pub digest: Digest,
}

/// Says why a line is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It was changed, or written by something else.
    #[error("the line was changed: {0}")]
    Form(String),
    /// A newer program wrote it.
    #[error("it has version {0}, and this program supports up to {known}; use the newer program", known = VERSION)]
    Version(u32),
    /// The expected key did not sign it.
    #[error("its signature is not from {0}")]
    Signature(PublicKey),
}

/// The line as JSON, without its signature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    dromia_checkpoint: u32,
    number: u64,
    at: String,
    before: Digest,
    key: Digest,
    why: String,
    chains: Vec<(TenantId, u64, Digest)>,
}

#[derive(Debug, Deserialize)]
struct CheckpointVersion {
    dromia_checkpoint: u32,
}

impl AuditCheckpoint {
    /// The `before` of the first checkpoint: the digest of nothing.
    pub fn origin_digest() -> Digest {
        digest_of(b"")
    }

    /// Makes a checkpoint and returns its line without the line end. At most [`TENANTS_MAX`] chains are taken.
    pub fn make_signed(key: &AuditKey, head: CheckpointHead, chains: &[AuditHead]) -> (Self, String) {
        let chains = &chains[..chains.len().min(TENANTS_MAX)];
        let line = CheckpointLine {
            dromia_checkpoint: VERSION,
            number: head.number,
            at: head.at.clone(),
            before: head.before,
            key: key.public_key().to_digest(),
            why: head.why.clone(),
            chains: chains.iter().map(|one| (one.tenant, one.seal, one.chain)).collect(),
        };
        let open = signed_part(&line);
        let signature = key.sign(&open);
        let text = format!("{open}{SIGNATURE}{signature}{END}");
        let made =
            Self { head, key: key.public_key(), chains: chains.to_vec(), digest: digest_of(text.as_bytes()) };
        (made, text)
    }

    /// Reads a line without its line end. With a key only what that key signed is taken; without one, what the key signed
    /// that the line names.
    pub fn read_line(text: &str, key: Option<PublicKey>) -> Result<Self, CheckpointError> {
        let form = |problem: &str| CheckpointError::Form(problem.to_owned());
        let versioned: CheckpointVersion =
            serde_json::from_str(text).map_err(|error| CheckpointError::Form(error.to_string()))?;
        match versioned.dromia_checkpoint {
            VERSION => {}
            newer if newer > VERSION => return Err(CheckpointError::Version(newer)),
            never => return Err(CheckpointError::Form(format!("version {never} never existed"))),
        }
        let (open_text, signature) =
            text.rsplit_once(SIGNATURE).ok_or_else(|| form("it has no signature"))?;
        let signature =
            signature.strip_suffix(END).ok_or_else(|| form("it does not end with its signature"))?;
        let line: CheckpointLine = serde_json::from_str(&format!("{open_text}}}"))
            .map_err(|error| CheckpointError::Form(error.to_string()))?;
        if signed_part(&line) != open_text {
            return Err(form("it is not in the form in which it was written"));
        }
        let named = PublicKey::of_digest(line.key);
        let key = key.unwrap_or(named);
        if key != named || !key.verify_signature(open_text, signature) {
            return Err(CheckpointError::Signature(key));
        }
        let chain = |(tenant, seal, chain)| AuditHead { tenant, seal, chain };
        Ok(Self {
            head: CheckpointHead { number: line.number, at: line.at, before: line.before, why: line.why },
            key,
            chains: line.chains.into_iter().map(chain).collect(),
            digest: digest_of(text.as_bytes()),
        })
    }

    /// What the database remembers of it.
    pub fn to_mark(&self) -> AuditMark {
        AuditMark { number: self.head.number, digest: self.digest }
    }
}

/// Writes the part that is signed: all but the last brace.
fn signed_part(line: &CheckpointLine) -> String {
    // Strings, numbers, ids and digests only, so serialization has no failing case.
    let whole = serde_json::to_string(line).unwrap_or_default();
    whole.strip_suffix('}').unwrap_or_default().to_owned()
}
