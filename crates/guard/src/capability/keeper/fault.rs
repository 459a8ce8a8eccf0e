//! Faults of capabilities: the tenant reads what to do, the log has the cause.

use dromia_contracts::store::{CommitOutcome, CommitRefusal, ReadError};
use dromia_contracts::{CapabilityId, ErrorCode, Fault};

use super::super::token_error::TokenError;
use crate::commit_fault::change_outcome;

pub(super) fn invalid_request(text: String) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, text)
}

pub(super) fn not_found(id: CapabilityId) -> Fault {
    Fault::new(ErrorCode::CapabilityNotFound, format!("there is no capability {id}"))
}

pub(super) fn refused_token(error: &TokenError) -> Fault {
    Fault::new(ErrorCode::CapabilityRefused, error.to_string())
}

/// Says why what was presented is no token of this tenant.
pub(super) fn unreadable_token(error: &TokenError) -> Fault {
    let code = match error {
        TokenError::UnknownRoot => ErrorCode::CapabilityForeign,
        _ => ErrorCode::CapabilityUnreadable,
    };
    Fault::new(code, error.to_string())
}

pub(super) fn read_fault(error: &ReadError) -> Fault {
    match error {
        ReadError::Unavailable { cause } => {
            tracing::warn!(%cause, "failed to read capabilities");
            Fault::new(ErrorCode::StoreUnavailable, "the store did not answer")
        }
        ReadError::Damaged { place, problem } => {
            tracing::error!(%place, %problem, "a capability is damaged");
            Fault::new(ErrorCode::JournalDamaged, "a stored capability is damaged")
        }
    }
}

pub(super) fn commit_fault(answer: CommitOutcome) -> Result<(), Fault> {
    change_outcome(answer, "capability", |refusal| match refusal {
        CommitRefusal::NotFound(_) => Some((ErrorCode::AgentNotFound, "there is no such agent")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_change_of_a_capability_is_an_error() {
        for (refusal, code) in [
            (CommitRefusal::NotFound("agent".to_owned()), ErrorCode::AgentNotFound),
            (CommitRefusal::Overloaded, ErrorCode::Overloaded),
        ] {
            let fault = commit_fault(CommitOutcome::Refused(refusal)).expect_err("a refusal");
            assert_eq!(fault.code, code);
        }
    }
}
