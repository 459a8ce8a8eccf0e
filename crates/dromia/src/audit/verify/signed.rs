//! The file of checkpoints: whether each line is signed and follows the one before, and how far it says that chains go.

use std::collections::HashMap;
use std::path::Path;

use dromia_contracts::audit::AuditMark;
use dromia_contracts::{Digest, TenantId};
use dromia_guard::audit::{AuditCheckpoint, CheckpointError, PublicKey};
use dromia_store::TenantCheckpoint;

use super::verified::VerifyFinding;
use crate::audit::file::BoundedLines;
use crate::system;

/// The word for a line that the key did not sign.
const SIGNATURE_WRONG: &str = "signature_wrong";

/// What the file of checkpoints says.
#[derive(Default)]
pub(super) struct SignedCheckpoints {
    pub(super) key: Option<PublicKey>,
    pub(super) count: u64,
    pub(super) last: Option<AuditMark>,
    pub(super) chains: HashMap<TenantId, Vec<TenantCheckpoint>>,
    /// The digests of the checkpoints that were asked for, by number.
    pub(super) digests: HashMap<u64, Digest>,
    pub(super) findings: Vec<VerifyFinding>,
    /// Who signed the first line that the wanted key did not sign, if there is one.
    other: Option<PublicKey>,
}

/// Reads the file of checkpoints. `asked` are numbers whose digests are wanted.
///
/// Where all of it is signed by another key, one finding says so, and the rest is what that key signed.
pub(super) fn read_checkpoints(
    path: &Path,
    key: Option<PublicKey>,
    asked: &[u64],
) -> anyhow::Result<SignedCheckpoints> {
    let found = read_signed_lines(path, key, asked)?;
    let (Some(wanted), 0, Some(other)) = (key, found.count, found.other) else { return Ok(found) };
    let mut theirs = read_signed_lines(path, Some(other), asked)?;
    if theirs.findings.iter().any(|finding| finding.problem == SIGNATURE_WRONG) {
        return Ok(found);
    }
    theirs.findings.insert(0, VerifyFinding::of_key(other, wanted, "the checkpoints"));
    Ok(theirs)
}

fn read_signed_lines(
    path: &Path,
    key: Option<PublicKey>,
    asked: &[u64],
) -> anyhow::Result<SignedCheckpoints> {
    let mut signed = SignedCheckpoints { key, ..SignedCheckpoints::default() };
    let Some(mut lines) = BoundedLines::open(path)? else { return Ok(signed) };
    let (mut line, mut number, mut before) = (0, 0, Some(AuditCheckpoint::origin_digest()));
    while let Some(text) = lines.next()? {
        line += 1;
        let Some(bare) = text.strip_suffix('\n') else {
            // A crash cuts a line off, too: whether one is missing the store knows.
            break;
        };
        let read = match AuditCheckpoint::read_line(bare, signed.key) {
            Ok(read) => read,
            Err(error) => {
                let problem = match error {
                    CheckpointError::Form(_) => "checkpoint_changed",
                    CheckpointError::Version(_) => {
                        let text = format!("{}, line {line}: {error}", path.display());
                        return Err(system::ExitError::usage_error(text));
                    }
                    CheckpointError::Signature(_) => SIGNATURE_WRONG,
                };
                if signed.other.is_none() && problem == SIGNATURE_WRONG {
                    signed.other = AuditCheckpoint::read_line(bare, None).ok().map(|read| read.key);
                }
                number += 1;
                let found = VerifyFinding::of_checkpoint(problem, number, error.to_string());
                signed.findings.push(VerifyFinding { line: Some(line), ..found });
                before = None;
                continue;
            }
        };
        let found = read.head.number;
        if found != number + 1 {
            let text = format!("checkpoint {} was removed: {found} follows {number}", number + 1);
            let finding = VerifyFinding::of_checkpoint("checkpoint_removed", number + 1, text);
            signed.findings.push(VerifyFinding { line: Some(line), ..finding });
        } else if before.is_some_and(|before| before != read.head.before) {
            let text = "it does not match the digest of the checkpoint before it";
            let finding = VerifyFinding::of_checkpoint("checkpoint_changed", found, text);
            signed.findings.push(VerifyFinding { line: Some(line), ..finding });
        }
        (number, before) = (found, Some(read.digest));
        signed.key = Some(read.key);
        signed.count += 1;
        signed.last = Some(read.to_mark());
        if asked.contains(&found) {
            signed.digests.insert(found, read.digest);
        }
        for one in read.chains {
            let said = TenantCheckpoint { checkpoint: found, seal: one.seal, chain: one.chain };
            signed.chains.entry(one.tenant).or_default().push(said);
        }
    }
    Ok(signed)
}
