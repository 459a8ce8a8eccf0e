//! Faults of capabilities: the tenant reads what to do, the log has the cause.

use dromia_contracts::store::{CommitOutcome, CommitRefusal, ReadError};
use dromia_contracts::{CapabilityId, ErrorCode, Fault};

use super::super::token_error::TokenError;

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
    let (code, text) = match answer {
        CommitOutcome::Done(_) => return Ok(()),
        CommitOutcome::Unknown { cause } => {
            tracing::warn!(%cause, "the outcome of a change of a capability is unknown");
            (ErrorCode::OutcomeUnknown, "the store does not know whether the write is durable")
        }
        CommitOutcome::Refused(CommitRefusal::ReadOnly { .. }) => {
            (ErrorCode::StoreReadOnly, "the store only answers reads because a write failed")
        }
        CommitOutcome::Refused(CommitRefusal::Damaged { .. }) => (
            ErrorCode::JournalDamaged,
            "the data that the write touches is damaged, so the store wrote nothing",
        ),
        CommitOutcome::Refused(CommitRefusal::Overloaded) => {
            (ErrorCode::Overloaded, "the tenant has used up its share of the writer")
        }
        CommitOutcome::Refused(CommitRefusal::NotFound(_)) => {
            (ErrorCode::AgentNotFound, "there is no such agent")
        }
        CommitOutcome::Refused(refusal) => {
            tracing::warn!(%refusal, "the store refused a change of a capability");
            (ErrorCode::Internal, "the store refused the write")
        }
    };
    Err(Fault::new(code, text))
}
