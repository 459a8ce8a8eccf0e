//! What a refused change of a right or a secret tells its caller. The cause goes to the log.

use dromia_contracts::store::{CommitOutcome, CommitRefusal};
use dromia_contracts::{ErrorCode, Fault};

/// Says how a change of a `noun` ended; `own` words the refusals that only this noun has.
pub(crate) fn change_outcome(
    answer: CommitOutcome,
    noun: &'static str,
    own: impl FnOnce(&CommitRefusal) -> Option<(ErrorCode, &'static str)>,
) -> Result<(), Fault> {
    let (code, text) = match answer {
        CommitOutcome::Done(_) => return Ok(()),
        CommitOutcome::Unknown { cause } => {
            tracing::warn!(%cause, noun, "the outcome of a change is unknown");
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
        CommitOutcome::Refused(refusal) => own(&refusal).unwrap_or_else(|| {
            tracing::warn!(%refusal, noun, "the store refused a change");
            (ErrorCode::Internal, "the store refused the write")
        }),
    };
    Err(Fault::new(code, text))
}
