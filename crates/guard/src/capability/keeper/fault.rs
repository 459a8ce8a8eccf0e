//! Faults of capabilities: the tenant reads what to do, the log has the cause.

use dromia_contracts::store::{CommitOutcome, CommitRefusal, ReadError};
use dromia_contracts::{CapabilityId, ErrorCode, Fault};

use super::super::token::TokenError;

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
            tracing::warn!(%cause, "capabilities could not be read");
            Fault::new(ErrorCode::StoreUnavailable, "the store did not answer")
        }
        ReadError::Damaged { place, problem } => {
            tracing::error!(%place, %problem, "a capability is damaged");
            Fault::new(ErrorCode::JournalDamaged, "a stored capability is damaged")
        }
    }
}

pub(super) fn commit_fault(answer: CommitOutcome) -> Result<(), Fault> {
    let (code, text) = match answer {
        CommitOutcome::Done(_) => return Ok(()),
        CommitOutcome::Unknown { cause } => {
            tracing::warn!(%cause, "a change of a capability has no known outcome");
            (ErrorCode::OutcomeUnknown, "the store could not say whether the write is durable")
        }
        CommitOutcome::Refused(CommitRefusal::ReadOnly { .. }) => {
            (ErrorCode::StoreReadOnly, "the store answers reads only, because a write failed")
        }
        CommitOutcome::Refused(CommitRefusal::Damaged { .. }) => {
            (ErrorCode::JournalDamaged, "what the write touches is damaged, and nothing was written")
        }
        CommitOutcome::Refused(CommitRefusal::Overloaded) => {
            (ErrorCode::Overloaded, "the tenant's share of the writer is used up")
        }
        CommitOutcome::Refused(CommitRefusal::NotFound(_)) => (ErrorCode::AgentNotFound, "no such agent"),
        CommitOutcome::Refused(refusal) => {
            tracing::warn!(%refusal, "a change of a capability was refused");
            (ErrorCode::Internal, "the store refused the write")
        }
    };
    Err(Fault::new(code, text))
}
