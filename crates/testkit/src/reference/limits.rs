//! The limits of a batch, and the ways in which one contradicts itself. They are checked before any row is read.

use bytes::Bytes;
use dromia_contracts::CapabilityId;
use dromia_contracts::entry::Entry;
use dromia_contracts::file::FILE_PATH_BYTES_MAX;
use dromia_contracts::store::{CommitRefusal, FoldedState, Mutation, NewEntry, SecretErase, WriteBatch};
use dromia_contracts::vault::SealedSecret;

/// Counts the rows of a batch and refuses one that is too large or contradicts itself.
pub(super) fn measure_batch(batch: &WriteBatch) -> Result<usize, CommitRefusal> {
    let malformed = |what: &str| Err(CommitRefusal::Malformed(what.to_owned()));
    let entries = |entries: &[NewEntry]| {
        let bytes = |new: &NewEntry| new.entry.encode().len() + new.body.as_ref().map_or(0, Bytes::len);
        (entries.len(), entries.iter().map(bytes).sum::<usize>())
    };
    let sets = |mutation: &Mutation| matches!(mutation, Mutation::BudgetSet(_) | Mutation::BudgetRemove(_));
    if batch.payer.is_some() && batch.mutations.iter().any(sets) {
        return malformed("a batch that sets budgets has no payer");
    }
    let (mut rows, mut bytes) = (0, 0);
    for mutation in &batch.mutations {
        let (more_rows, more_bytes) = match mutation {
            Mutation::RunAppend(append) if append.entries.is_empty() => {
                return malformed("an append holds at least one entry");
            }
            Mutation::RunAppend(append) => {
                let folded = append.checkpoint.as_ref().map_or(0, |folded| folded.bytes.len());
                if folded > FoldedState::BYTES_MAX {
                    return malformed("a checkpoint has at most 262144 bytes");
                }
                let (rows, bytes) = entries(&append.entries);
                (rows + usize::from(append.checkpoint.is_some()), bytes + folded)
            }
            Mutation::InboxPut(put) => {
                if put.key.as_ref().is_some_and(|key| key.key.len() > 512) {
                    return malformed("an item's key has at most 512 bytes");
                }
                if !put.owner.takes_kind(put.kind) {
                    return malformed("the item is of a kind that its inbox does not take");
                }
                (1, put.body.len())
            }
            Mutation::PinPut(pin) if blake3::hash(&pin.bytes).as_bytes() != pin.digest.as_bytes() => {
                return malformed("a pin does not match its digest");
            }
            Mutation::PinPut(pin) => (1, pin.bytes.len()),
            Mutation::StatePut(put) if put.name.len() > 128 => {
                return malformed("a state entry's name has at most 128 bytes");
            }
            Mutation::StatePut(put) => (1, put.value.len()),
            Mutation::AgentCreate(create) => (1, create.config.instructions.len()),
            Mutation::AgentRevise(revise) => {
                let pin = revise.document.as_ref();
                if pin.is_some_and(|pin| blake3::hash(&pin.bytes).as_bytes() != pin.digest.as_bytes()) {
                    return malformed("a pin does not match its digest");
                }
                (1, revise.config.instructions.len() + pin.map_or(0, |pin| pin.bytes.len()))
            }
            Mutation::DeliveryPrepare(prepare) => (1, prepare.body.len()),
            Mutation::FeedNumber(number) => (1 + number.deliveries.len(), 0),
            Mutation::SecretPut(SealedSecret { secret, .. }) if secret_changes(batch, &secret.name) > 1 => {
                return malformed("a batch changes a secret once");
            }
            Mutation::SecretPut(sealed) => (1, sealed.key.len() + sealed.value.len()),
            Mutation::SecretErase(SecretErase { name, .. }) if secret_changes(batch, name) > 1 => {
                return malformed("a batch changes a secret once");
            }
            Mutation::VaultKeyPut(put) => (1, put.key.len()),
            Mutation::CapabilityPut(_) | Mutation::CapabilityRevoke(_) | Mutation::CapabilityDrop(_)
                if changed_capability(mutation).is_some_and(|id| capability_changes(batch, id) > 1) =>
            {
                return malformed("a batch changes a capability once");
            }
            Mutation::CapabilityPut(put) => (1, put.token.len()),
            Mutation::FileLabelsPut(put) => {
                let same = |other: &&Mutation| matches!(other, Mutation::FileLabelsPut(other) if other.agent == put.agent);
                if batch.mutations.iter().filter(same).count() > 1 {
                    return malformed("a batch says once what an agent's files hold");
                }
                let paths = put.said.files.keys();
                if paths.clone().any(|path| path.is_empty() || path.len() > FILE_PATH_BYTES_MAX) {
                    return malformed("a file's path has 1 to 4096 bytes");
                }
                (1 + put.said.files.len(), paths.map(String::len).sum::<usize>())
            }
            Mutation::ApprovalAsk(ask) => (1, ask.judged.arguments.len()),
            Mutation::AnswerPut(put) => {
                let same =
                    |other: &&Mutation| matches!(other, Mutation::AnswerPut(other) if other.key == put.key);
                if batch.mutations.iter().filter(same).count() > 1 {
                    return malformed("a batch says one thing of a key");
                }
                (1, put.answer.as_ref().map_or(0, Bytes::len))
            }
            Mutation::TenantErase(_) => {
                if batch.mutations.len() > 1 || batch.claim.is_some() {
                    return malformed("a batch that erases its tenant does nothing else");
                }
                (WriteBatch::ROWS_MAX, 0)
            }
            Mutation::SessionErase(_) => {
                if batch.mutations.len() > 1 || batch.claim.is_some() {
                    return malformed("a batch that erases a session does nothing else");
                }
                (WriteBatch::ROWS_MAX, 0)
            }
            Mutation::DeliveryStart(_)
            | Mutation::DeliverySettle(_)
            | Mutation::DeliveryDrop(_)
            | Mutation::DeliveryRedrive(_)
            | Mutation::CursorMove(_)
            | Mutation::SecretErase(_)
            | Mutation::CapabilityRevoke(_)
            | Mutation::CapabilityDrop(_)
            | Mutation::BudgetSet(_)
            | Mutation::BudgetRemove(_)
            | Mutation::ApprovalAnswer(_)
            | Mutation::ApprovalRulePut(_)
            | Mutation::ApprovalRuleRemove(_)
            | Mutation::TenantCreate(_)
            | Mutation::TokenCreate(_)
            | Mutation::TokenRevoke(_)
            | Mutation::TenantSuspensionSet(_)
            | Mutation::AgentStateSet(_)
            | Mutation::AgentRename(_)
            | Mutation::SessionOpen(_)
            | Mutation::ImportEnd(_)
            | Mutation::SessionHoldSet(_)
            | Mutation::RunTakeover(_) => (1, 0),
        };
        rows += more_rows;
        bytes += more_bytes;
    }
    if let Some(claim) = &batch.claim {
        let begins = match claim.entries.first().map(|first| &first.entry) {
            Some(Entry::RunStarted(started)) => {
                (started.session, started.agent) == (claim.session, claim.agent)
            }
            Some(_) | None => false,
        };
        if !begins || claim.take.is_empty() {
            return malformed("a claim takes at least one item and begins with its own RunStarted");
        }
        let (more_rows, more_bytes) = entries(&claim.entries);
        rows += 1 + more_rows;
        bytes += more_bytes;
    }
    if rows > WriteBatch::ROWS_MAX || bytes > WriteBatch::BYTES_MAX {
        return malformed("a batch has at most 256 rows and 1 MiB");
    }
    Ok(rows)
}

/// Counts how often a batch changes a secret.
fn secret_changes(batch: &WriteBatch, name: &str) -> usize {
    let changed = |mutation: &&Mutation| match mutation {
        Mutation::SecretPut(sealed) => sealed.secret.name == name,
        Mutation::SecretErase(erase) => erase.name == name,
        _ => false,
    };
    batch.mutations.iter().filter(changed).count()
}

/// The capability that a mutation changes, if it changes one.
fn changed_capability(mutation: &Mutation) -> Option<CapabilityId> {
    match mutation {
        Mutation::CapabilityPut(put) => Some(put.id),
        Mutation::CapabilityRevoke(revoke) => Some(revoke.capability),
        Mutation::CapabilityDrop(drop) => Some(drop.capability),
        _ => None,
    }
}

/// Counts how often a batch changes a capability.
fn capability_changes(batch: &WriteBatch, id: CapabilityId) -> usize {
    batch.mutations.iter().filter(|mutation| changed_capability(mutation) == Some(id)).count()
}
