//! What moves an approval: an answer, an entry of a run, and the end of its agent.
//!
//! A move that does not fit the approval's state is refused with that state, and changes nothing. The store writes the
//! row in the commit of what moved it; here nothing is kept.

use super::{AnswerRecord, ApprovalRequest, ApprovalState};
use crate::content::CallStatus;
use crate::digest::Digest;
use crate::entry::{Entry, ParkReason, RunParked};
use crate::id::{ApprovalId, RunId};

/// What an entry does to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalTransition {
    /// The call of this action begins.
    Use(Digest),
    /// The run goes on without it.
    Release,
    /// The call will not begin.
    Withdraw,
    /// The call begins and needs no approval any more. A refused one stays refused, and so is such a start.
    Retract,
}

/// Returns what an entry does to which approval, if it does anything.
pub fn approval_transition(entry: &Entry) -> Option<(ApprovalId, ApprovalTransition)> {
    match entry {
        Entry::ToolStarted(started) => {
            let used = started.approval.map(|id| (id, ApprovalTransition::Use(started.action)));
            used.or_else(|| started.unneeded.map(|id| (id, ApprovalTransition::Retract)))
        }
        // The call that was asked for before its turn is asked for again.
        Entry::RunParked(RunParked { park: ParkReason::Approval { replaces, .. } }) => {
            replaces.map(|id| (id, ApprovalTransition::Withdraw))
        }
        Entry::ToolRefused(refused) => refused.approval.map(|id| {
            let released = refused.status == CallStatus::Awaiting;
            (id, if released { ApprovalTransition::Release } else { ApprovalTransition::Withdraw })
        }),
        _ => None,
    }
}

impl ApprovalRequest {
    /// Answers it. Refused with its state, unless that is what the caller found and it has not expired. The same answer
    /// again changes nothing.
    pub fn record_answer(
        &mut self,
        from: ApprovalState,
        approved: bool,
        answered: &AnswerRecord,
    ) -> Result<(), ApprovalState> {
        let to = if approved { ApprovalState::Approved } else { ApprovalState::Denied };
        if self.answer.as_ref() == Some(answered) {
            let denied = self.state == ApprovalState::Denied;
            return if denied == approved { Err(self.state) } else { Ok(()) };
        }
        let found = self.state_at(answered.at);
        if found != from || !found.is_open() {
            return Err(found);
        }
        self.state = to;
        self.answer = Some(answered.clone());
        Ok(())
    }

    /// Withdraws it if it was approved for a run of its own whose call has not begun: its agent has ended, so none
    /// will. Returns whether it was.
    pub fn give_up(&mut self) -> bool {
        let is_idle = self.state == ApprovalState::Approved && self.released;
        if is_idle {
            self.state = ApprovalState::Withdrawn;
        }
        is_idle
    }

    /// Moves it as an entry of a run asks for. Refused with its state, if that does not allow the move.
    pub fn apply_transition(&mut self, run: RunId, touch: ApprovalTransition) -> Result<(), ApprovalState> {
        match (touch, self.state) {
            (ApprovalTransition::Use(action), ApprovalState::Approved) => {
                // One whose run waited is for that run, and one whose run did not is for a run of its own.
                if action != self.action || (run == self.run) == self.released {
                    return Err(self.state);
                }
                self.state = ApprovalState::Used;
                self.used_by = Some(run);
                Ok(())
            }
            (ApprovalTransition::Release, ApprovalState::Holding) if run == self.run => {
                self.state = ApprovalState::Waiting;
                self.released = true;
                Ok(())
            }
            (
                ApprovalTransition::Withdraw | ApprovalTransition::Retract,
                ApprovalState::Holding | ApprovalState::Approved,
            ) => {
                self.state = ApprovalState::Withdrawn;
                Ok(())
            }
            (ApprovalTransition::Withdraw, ApprovalState::Denied | ApprovalState::Withdrawn) => Ok(()),
            (
                ApprovalTransition::Use(_)
                | ApprovalTransition::Release
                | ApprovalTransition::Withdraw
                | ApprovalTransition::Retract,
                found,
            ) => Err(found),
        }
    }
}
