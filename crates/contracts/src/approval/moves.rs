//! What moves an approval: an answer, an entry of a run, and the end of its agent.
//!
//! A move that is not asked for where the approval stands is refused with how it stands, and changes nothing. Whoever keeps
//! the row writes it in the commit of what moved it; here nothing is kept.

use super::{Answered, Approval, ApprovalState};
use crate::content::CallStatus;
use crate::digest::Digest;
use crate::entry::{Entry, Park, RunParked};
use crate::id::{ApprovalId, RunId};

/// What an entry does to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The call of this action begins.
    Use(Digest),
    /// The run goes on without it.
    Release,
    /// The call will not begin.
    Withdraw,
    /// The call begins, and nobody need allow it any more. What somebody refused stands, and such a start does not.
    Retract,
}

/// Tells what an entry does to which approval, if it does anything.
pub fn touched(entry: &Entry) -> Option<(ApprovalId, Touch)> {
    match entry {
        Entry::ToolStarted(started) => {
            let used = started.approval.map(|id| (id, Touch::Use(started.action)));
            used.or_else(|| started.unneeded.map(|id| (id, Touch::Retract)))
        }
        // The call that was asked for before its turn is asked for anew.
        Entry::RunParked(RunParked { park: Park::Approval { replaces, .. } }) => {
            replaces.map(|id| (id, Touch::Withdraw))
        }
        Entry::ToolRefused(refused) => refused.approval.map(|id| {
            let released = refused.status == CallStatus::Awaiting;
            (id, if released { Touch::Release } else { Touch::Withdraw })
        }),
        _ => None,
    }
}

impl Approval {
    /// Answers it. Refused with how it stands, unless it stands as the caller found it and has not expired. The same
    /// answer again changes nothing.
    pub fn answer(
        &mut self,
        from: ApprovalState,
        approved: bool,
        answered: &Answered,
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

    /// Withdraws it if it was approved for a run of its own whose call has not begun: its agent has ended, so none will. Tells
    /// whether it was.
    pub fn give_up(&mut self) -> bool {
        let is_idle = self.state == ApprovalState::Approved && self.released;
        if is_idle {
            self.state = ApprovalState::Withdrawn;
        }
        is_idle
    }

    /// Moves it as an entry of a run asks for. Refused with how it stands, if it stands otherwise.
    pub fn touch(&mut self, run: RunId, touch: Touch) -> Result<(), ApprovalState> {
        match (touch, self.state) {
            (Touch::Use(action), ApprovalState::Approved) => {
                // One whose run waited is for that run, and one whose run did not is for a run of its own.
                if action != self.action || (run == self.run) == self.released {
                    return Err(self.state);
                }
                self.state = ApprovalState::Used;
                self.used_by = Some(run);
                Ok(())
            }
            (Touch::Release, ApprovalState::Holding) if run == self.run => {
                self.state = ApprovalState::Waiting;
                self.released = true;
                Ok(())
            }
            (Touch::Withdraw | Touch::Retract, ApprovalState::Holding | ApprovalState::Approved) => {
                self.state = ApprovalState::Withdrawn;
                Ok(())
            }
            (Touch::Withdraw, ApprovalState::Denied | ApprovalState::Withdrawn) => Ok(()),
            (Touch::Use(_) | Touch::Release | Touch::Withdraw | Touch::Retract, found) => Err(found),
        }
    }
}
