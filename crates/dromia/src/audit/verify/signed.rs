//! The file of checkpoints: whether each line is signed and follows the one before, and how far it says that chains go.

use std::collections::HashMap;
use std::path::Path;

use dromia_contracts::audit::AuditMark;
use dromia_contracts::{Digest, TenantId};
use dromia_guard::audit::{Checkpoint, CheckpointError, PublicKey};
use dromia_store::Checkpointed;

use super::verified::Finding;
use crate::audit::file::Lines;
use crate::system;

/// The word for a line that the key did not sign.
const SIGNATURE_WRONG: &str = "signature_wrong";

/// What the file of checkpoints says.
#[derive(Default)]
pub(super) struct Signed {
    pub(super) key: Option<PublicKey>,
    pub(super) count: u64,
    pub(super) last: Option<AuditMark>,
    pub(super) chains: HashMap<TenantId, Vec<Checkpointed>>,
    /// The digests of the checkpoints that were asked for, by number.
    pub(super) digests: HashMap<u64, Digest>,
    pub(super) findings: Vec<Finding>,
    /// Who signed the first line that the wanted key did not sign, if somebody did.
    other: Option<PublicKey>,
}

/// Reads the file of checkpoints. `asked` are numbers whose digests are wanted.
///
/// Where all of it is signed by another key, one finding says so, and the rest is what that key signed.
pub(super) fn signed(path: &Path, key: Option<PublicKey>, asked: &[u64]) -> anyhow::Result<Signed> {
    let found = read(path, key, asked)?;
    let (Some(wanted), 0, Some(other)) = (key, found.count, found.other) else { return Ok(found) };
    let mut theirs = read(path, Some(other), asked)?;
    if theirs.findings.iter().any(|finding| finding.problem == SIGNATURE_WRONG) {
        return Ok(found);
    }
    theirs.findings.insert(0, Finding::of_key(other, wanted, "the checkpoints"));
    Ok(theirs)
}

fn read(path: &Path, key: Option<PublicKey>, asked: &[u64]) -> anyhow::Result<Signed> {
    let mut signed = Signed { key, ..Signed::default() };
    let Some(mut lines) = Lines::open(path)? else { return Ok(signed) };
    let (mut line, mut number, mut before) = (0, 0, Some(Checkpoint::origin()));
    while let Some(text) = lines.next()? {
        line += 1;
        let Some(bare) = text.strip_suffix('\n') else {
            // A crash cuts a line off, too: whether one is missing the store knows.
            break;
        };
        let read = match Checkpoint::read(bare, signed.key) {
            Ok(read) => read,
            Err(error) => {
                let problem = match error {
                    CheckpointError::Form(_) => "checkpoint_changed",
                    CheckpointError::Version(_) => {
                        let text = format!("{}, line {line}: {error}", path.display());
                        return Err(system::Exit::usage(text));
                    }
                    CheckpointError::Signature(_) => SIGNATURE_WRONG,
                };
                if signed.other.is_none() && problem == SIGNATURE_WRONG {
                    signed.other = Checkpoint::read(bare, None).ok().map(|read| read.key);
                }
                number += 1;
                let found = Finding::of_checkpoint(problem, number, error.to_string());
                signed.findings.push(Finding { line: Some(line), ..found });
                before = None;
                continue;
            }
        };
        let found = read.head.number;
        if found != number + 1 {
            let text = format!("checkpoint {} was removed: {found} follows {number}", number + 1);
            let finding = Finding::of_checkpoint("checkpoint_removed", number + 1, text);
            signed.findings.push(Finding { line: Some(line), ..finding });
        } else if before.is_some_and(|before| before != read.head.before) {
            let text = "it does not follow the checkpoint before it";
            let finding = Finding::of_checkpoint("checkpoint_changed", found, text);
            signed.findings.push(Finding { line: Some(line), ..finding });
        }
        (number, before) = (found, Some(read.digest));
        signed.key = Some(read.key);
        signed.count += 1;
        signed.last = Some(read.mark());
        if asked.contains(&found) {
            signed.digests.insert(found, read.digest);
        }
        for one in read.chains {
            let said = Checkpointed { checkpoint: found, seal: one.seal, chain: one.chain };
            signed.chains.entry(one.tenant).or_default().push(said);
        }
    }
    Ok(signed)
}
