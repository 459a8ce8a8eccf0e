//! Faults of the vault: the tenant reads what to do, the log has the cause. Neither holds a value, and the tenant reads
//! no file name of the machine.

use dromia_contracts::store::{CommitOutcome, CommitRefusal, ReadError};
use dromia_contracts::vault::{GivenUpBy, KeyBytes, KeyError};
use dromia_contracts::{ErrorCode, Fault};

use crate::commit_fault::change_outcome;

/// What is said where the instance's key is there and may be the right one.
const UNUSABLE: &str = "the secrets of this home cannot be opened: the file of its key cannot be read. \
                        `dromia doctor --only vault` shows the problem; move the file aside if it is not a key";

/// The reason where the instance's key is missing: it is kept elsewhere, or its mount did not come up. A tenant can do
/// nothing about it.
const ABSENT: &str = "the secrets of this home cannot be opened: the key file is missing. The operator must \
                      restore vault.key";

/// What is said to a tenant that would give up its secrets then.
const NOT_OURS: &str = "the server discards no secrets while the key file is missing: the operator must \
                        restore vault.key. If the file is lost for good, the owner of the home runs `dromia \
                        secret reset` on the server's machine, which creates a new key";

/// How the key of a tenant is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyLoss {
    /// The instance's key is not there, and its owner says that it stays away.
    KeyAbsent,
    /// The instance's key is another one.
    KeyDiffers,
}

pub(super) fn invalid_request(text: String) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, text)
}

/// Does not repeat the name that was asked for: it may be the value.
pub(super) fn not_found() -> Fault {
    Fault::new(ErrorCode::SecretNotFound, "there is no secret of this name")
}

/// The words of the error name a file of the machine, so they go to the log and not to the tenant.
pub(super) fn vault_locked(error: &KeyError) -> Fault {
    tracing::error!(%error, "the vault cannot be opened");
    let text = match error {
        KeyError::Unread { .. } => {
            return Fault::new(
                ErrorCode::StoreUnavailable,
                "the key of this home could not be read just now",
            );
        }
        KeyError::Missing { .. } => ABSENT,
        KeyError::Wrong { .. } => {
            "the secrets of this home cannot be opened: its key is a different one. Restore the right \
             vault.key; if it is lost, `dromia secret reset` discards the secrets of this tenant"
        }
        KeyError::Unusable { .. } => UNUSABLE,
    };
    Fault::new(ErrorCode::VaultLocked, text)
}

/// Says why the secrets of a tenant are not given up, if they are not: only those that no key of this home opens are lost. A key that
/// is there and cannot be read may be the right one, and whether one that is not there comes back is known to the owner of the home
/// alone.
pub(super) fn is_lost(opened: Result<KeyBytes, KeyError>, by: GivenUpBy) -> Result<KeyLoss, Fault> {
    match opened {
        Ok(_) => Err(invalid_request(
            "the key of this home opens the secrets of this tenant, so the server does not discard them; \
             `dromia secret delete NAME` erases one"
                .to_owned(),
        )),
        Err(KeyError::Wrong { .. }) => Ok(KeyLoss::KeyDiffers),
        Err(error @ KeyError::Missing { .. }) => match by {
            GivenUpBy::Owner => Ok(KeyLoss::KeyAbsent),
            GivenUpBy::Tenant => {
                tracing::error!(%error, "refused to discard secrets while their key may come back");
                Err(Fault::new(ErrorCode::VaultLocked, NOT_OURS))
            }
        },
        Err(error @ (KeyError::Unusable { .. } | KeyError::Unread { .. })) => Err(vault_locked(&error)),
    }
}

pub(super) fn vault_damaged(problem: &str) -> Fault {
    tracing::error!(problem, "the vault is damaged");
    Fault::new(ErrorCode::VaultLocked, "the secrets of this tenant cannot be opened: they are damaged")
}

pub(super) fn read_fault(error: &ReadError) -> Fault {
    match error {
        ReadError::Unavailable { cause } => {
            tracing::warn!(%cause, "failed to read secrets");
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

pub(super) fn commit_fault(answer: CommitOutcome) -> Result<(), Fault> {
    change_outcome(answer, "secret", |refusal| match refusal {
        CommitRefusal::SecretVersion { .. } => {
            Some((ErrorCode::VersionConflict, "another request changed the secret at the same time"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a key that cannot be read for a moment, and of one that must be put right.
    fn codes(fault: impl Fn(&KeyError) -> Fault) -> [ErrorCode; 2] {
        let unread = KeyError::Unread { problem: "too many open files".to_owned() };
        let unusable = KeyError::Unusable { problem: "it can be read by others".to_owned() };
        [fault(&unread).code, fault(&unusable).code]
    }

    #[test]
    fn a_temporarily_unreadable_key_locks_no_vault() {
        assert_eq!(codes(vault_locked), [ErrorCode::StoreUnavailable, ErrorCode::VaultLocked]);
    }

    #[test]
    fn a_refused_change_of_a_secret_is_an_error() {
        for (refusal, code) in [
            (CommitRefusal::SecretVersion { found: 2 }, ErrorCode::VersionConflict),
            (CommitRefusal::Overloaded, ErrorCode::Overloaded),
            (CommitRefusal::NotFound("tenant".to_owned()), ErrorCode::Internal),
        ] {
            let fault = commit_fault(CommitOutcome::Refused(refusal)).expect_err("a refusal");
            assert_eq!(fault.code, code);
        }
    }

    /// Planted fault: whatever went wrong, the vault is locked.
    #[test]
    fn a_passing_error_that_is_called_locked_is_caught() {
        let locks = |error: &KeyError| Fault::new(ErrorCode::VaultLocked, error.to_string());
        assert_ne!(codes(locks), [ErrorCode::StoreUnavailable, ErrorCode::VaultLocked]);
    }
}
