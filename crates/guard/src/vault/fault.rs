//! How what goes wrong in the vault is told: the tenant reads what to do, the log has the cause. Neither holds a value, and
//! the tenant reads no file name of the machine.

use dromia_contracts::store::{Commit, ReadError, Refusal};
use dromia_contracts::vault::KeyError;
use dromia_contracts::{ErrorCode, Fault};

pub(super) fn invalid(text: String) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, text)
}

/// What was written is not repeated: it may be the value.
pub(super) fn not_found() -> Fault {
    Fault::new(ErrorCode::SecretNotFound, "there is no secret of this name")
}

/// The words of the error name a file of the machine, so they go to the log and not to the tenant.
pub(super) fn locked(error: &KeyError) -> Fault {
    tracing::error!(%error, "the vault cannot be opened");
    Fault::new(
        ErrorCode::VaultLocked,
        "the secrets of this home cannot be opened: its key is missing or another one",
    )
}

pub(super) fn damaged(problem: &str) -> Fault {
    tracing::error!(problem, "the vault is damaged");
    Fault::new(ErrorCode::VaultLocked, "the secrets of this tenant cannot be opened: they are damaged")
}

pub(super) fn read_fault(error: &ReadError) -> Fault {
    match error {
        ReadError::Unavailable { cause } => {
            tracing::warn!(%cause, "secrets could not be read");
            Fault::new(ErrorCode::StoreUnavailable, "the store did not answer")
        }
        ReadError::Damaged { place, problem } => {
            tracing::error!(%place, %problem, "a secret is damaged");
            Fault::new(
                ErrorCode::VaultLocked,
                "the secrets of this tenant cannot be opened: they are damaged",
            )
        }
    }
}

pub(super) fn commit_fault(answer: Commit) -> Result<(), Fault> {
    let (code, text) = match answer {
        Commit::Done(_) => return Ok(()),
        Commit::Unknown { cause } => {
            tracing::warn!(%cause, "a change of a secret has no known outcome");
            (ErrorCode::OutcomeUnknown, "the store could not say whether the write is durable")
        }
        Commit::Refused(Refusal::ReadOnly { .. }) => {
            (ErrorCode::StoreReadOnly, "the store answers reads only, because a write failed")
        }
        Commit::Refused(Refusal::Overloaded) => {
            (ErrorCode::Overloaded, "the tenant's share of the writer is used up")
        }
        Commit::Refused(Refusal::SecretVersion { .. }) => {
            (ErrorCode::VersionConflict, "the secret was changed meanwhile")
        }
        Commit::Refused(refusal) => {
            tracing::warn!(%refusal, "a change of a secret was refused");
            (ErrorCode::Internal, "the store refused the write")
        }
    };
    Err(Fault::new(code, text))
}
