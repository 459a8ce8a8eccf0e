//! The faults for a commit that was not done, and for rows that are not there.

use dromia_contracts::retention::SessionObstacle;
use dromia_contracts::store::{CommitOutcome, CommitRefusal};
use dromia_contracts::{AgentId, ErrorCode, Fault, ItemId, RunId, SessionId};

use crate::config::WAITERS_MAX;

/// The fault for a commit that was not done.
pub(crate) fn commit_fault(answer: CommitOutcome) -> Fault {
    match answer {
        CommitOutcome::Unknown { cause } => {
            tracing::warn!(%cause, "a commit has no known outcome");
            Fault::new(ErrorCode::OutcomeUnknown, "the store does not know whether the write is durable")
                .with_hint("repeat the request with the same idempotency key")
        }
        CommitOutcome::Refused(CommitRefusal::ReadOnly { cause }) => {
            tracing::warn!(%cause, "the store accepts no writes");
            Fault::new(ErrorCode::StoreReadOnly, "the store only answers reads because a write failed")
                .with_hint("free disk space or repair the disk; the server retries by itself")
        }
        CommitOutcome::Refused(CommitRefusal::Damaged { problem }) => {
            tracing::warn!(%problem, "a write touched damaged data");
            Fault::new(
                ErrorCode::JournalDamaged,
                "the data that the write touches is damaged, so the store wrote nothing",
            )
            .with_hint("run `dromia doctor`, and restore the home from a backup")
        }
        CommitOutcome::Refused(CommitRefusal::Overloaded) => {
            Fault::new(ErrorCode::Overloaded, "the tenant has used up its share of the writer")
                .with_hint("send the request again later")
        }
        CommitOutcome::Refused(CommitRefusal::HandleTaken(handle)) => {
            Fault::new(ErrorCode::HandleTaken, format!("the handle {handle} already exists"))
                .with_hint("choose another handle")
        }
        CommitOutcome::Refused(CommitRefusal::TenantActive) => {
            Fault::new(ErrorCode::TenantActive, "the tenant is not suspended, so it is not deleted")
                .with_hint("suspend it first with `dromia tenant suspend`")
        }
        CommitOutcome::Refused(CommitRefusal::SessionKept { session, obstacle }) => {
            session_kept(session, obstacle)
        }
        CommitOutcome::Refused(CommitRefusal::LeaseLasts { .. }) => {
            Fault::new(ErrorCode::Overloaded, "another process works on the run")
                .with_hint("send the request again later")
        }
        CommitOutcome::Refused(CommitRefusal::RunTerminal) => {
            Fault::new(ErrorCode::RunTerminal, "the run has ended")
        }
        CommitOutcome::Refused(refusal) => Fault::new(ErrorCode::InvalidRequest, refusal.to_string()),
        CommitOutcome::Done(_) => {
            Fault::new(ErrorCode::Internal, "a finished commit was handled as a failed one")
        }
    }
}

/// The fault for a session that something keeps.
fn session_kept(session: SessionId, obstacle: SessionObstacle) -> Fault {
    let text = format!("{session} {}, so nothing was deleted", obstacle.text());
    match obstacle {
        SessionObstacle::Hold => Fault::new(ErrorCode::SessionHeld, text).with_hint(format!(
            "see who set the hold with `dromia session show {session}`; end it with `dromia session hold {session} --off`"
        )),
        _ => Fault::new(ErrorCode::SessionInUse, text),
    }
}

/// The fault for a session that does not exist or cannot be seen.
pub(crate) fn session_not_found(session: SessionId) -> Fault {
    Fault::new(ErrorCode::SessionNotFound, format!("there is no session {session}"))
        .with_hint("list the sessions with `dromia session list`")
}

/// The fault for input to an agent that takes none any more.
pub(crate) fn agent_terminated(agent: AgentId) -> Fault {
    Fault::new(ErrorCode::AgentTerminated, format!("{agent} is terminated and accepts no input"))
        .with_hint("create another agent with `dromia agent create`")
}

/// The fault for an input that no turn took before its agent ended.
pub(crate) fn agent_ended(agent: AgentId, item: ItemId) -> Fault {
    let text =
        format!("{item} gets no answer: {agent} was terminated or erased before a turn took the input");
    Fault::new(ErrorCode::AgentTerminated, text)
        .with_hint("create another agent with `dromia agent create` and send the input to it")
}

/// The fault for an input whose run was erased with its agent while a caller waited for the answer.
pub(crate) fn item_erased(agent: AgentId, item: ItemId) -> Fault {
    let text =
        format!("{item} gets no answer: {agent} was erased together with the run that had taken the input");
    Fault::new(ErrorCode::AgentTerminated, text)
        .with_hint("create another agent with `dromia agent create` and send the input to it")
}

/// The fault for a run that was erased with its agent while a caller waited for its end.
pub(crate) fn run_erased(run: RunId) -> Fault {
    Fault::new(
        ErrorCode::AgentTerminated,
        format!("{run} gives no answer: it was erased together with its agent"),
    )
    .with_hint("create another agent with `dromia agent create` and send the input to it")
}

/// The fault for a caller that would wait while too many of its tenant wait already. Its input is admitted all the
/// same, so the hint does not ask to send it again.
pub(crate) fn too_many_wait(item: ItemId) -> Fault {
    let text = format!("{item} is stored, but {WAITERS_MAX} callers of the tenant already wait for answers");
    Fault::new(ErrorCode::RunUnfinished, text)
        .with_hint("find its run with `dromia run list`, and the answer with `dromia run show`")
}

/// The fault for a run that does not exist or cannot be seen.
pub(crate) fn run_not_found(run: RunId) -> Fault {
    Fault::new(ErrorCode::RunNotFound, format!("there is no run {run}"))
        .with_hint("list the runs with `dromia run list`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_meets_damage_reports_journal_damage() {
        let problem = "the page of /home/x is torn".to_owned();
        let fault = commit_fault(CommitOutcome::Refused(CommitRefusal::Damaged { problem }));
        assert_eq!(fault.code, ErrorCode::JournalDamaged);
        assert!(!fault.message.contains("/home/x"), "what failed inside is for the log: {}", fault.message);
    }
}
