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
                if action != self.judged.action || (run == self.source.run) == self.released {
                    return Err(self.state);
                }
                self.state = ApprovalState::Used;
                self.used_by = Some(run);
                Ok(())
            }
            (ApprovalTransition::Release, ApprovalState::Holding) if run == self.source.run => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{ToolRefused, ToolStarted};
    use crate::id::CallId;
    use crate::tool::EffectClass;

    const ID: ApprovalId = ApprovalId::from_bytes([1; 16]);
    const CALL: CallId = CallId { step: 1, index: 0 };

    fn refused(status: CallStatus, approval: Option<ApprovalId>) -> Entry {
        Entry::ToolRefused(ToolRefused {
            call: CALL,
            tool: "t".to_owned(),
            status,
            rule: None,
            policy: None,
            approval,
            in_plan: None,
            network: None,
            opinion: None,
        })
    }

    fn started(approval: Option<ApprovalId>, unneeded: Option<ApprovalId>) -> Entry {
        Entry::ToolStarted(ToolStarted {
            call: CALL,
            tool: "t".to_owned(),
            effect: EffectClass::Pure,
            attempt: 1,
            action: Digest::from_bytes([7; 32]),
            rule: "r".to_owned(),
            policy: None,
            approval,
            unneeded,
            in_plan: None,
            network: None,
            context: None,
            endorsed: Vec::new(),
            opinion: None,
        })
    }

    fn asked_again(replaces: Option<ApprovalId>) -> Entry {
        let approval = ApprovalId::from_bytes([2; 16]);
        let (action, binding, until) = (Digest::default(), Digest::default(), jiff::Timestamp::UNIX_EPOCH);
        let park = ParkReason::Approval {
            approval,
            call: CALL,
            action,
            binding,
            until,
            cools_until: None,
            replaces,
        };
        Entry::RunParked(RunParked { park })
    }

    #[test]
    fn entries_move_the_approval_they_name() {
        use ApprovalTransition::{Release, Retract, Use, Withdraw};
        for (entry, moved) in [
            (started(Some(ID), None), Some(Use(Digest::from_bytes([7; 32])))),
            (started(None, Some(ID)), Some(Retract)),
            (started(None, None), None),
            (asked_again(Some(ID)), Some(Withdraw)),
            (asked_again(None), None),
            (refused(CallStatus::Awaiting, Some(ID)), Some(Release)),
            (refused(CallStatus::Denied, Some(ID)), Some(Withdraw)),
            (refused(CallStatus::Denied, None), None),
            (Entry::RunParked(RunParked { park: ParkReason::AgentPaused }), None),
        ] {
            assert_eq!(approval_transition(&entry), moved.map(|moved| (ID, moved)), "{entry:?}");
        }
    }

    #[test]
    fn a_batch_knows_its_entries_and_what_they_take_back() {
        use crate::budget::BudgetPayer;
        use crate::id::{AgentId, SessionId, TenantId};
        use crate::model::TokenUsage;
        use crate::run::{RunHead, RunStatus};
        use crate::scope::Actor;
        use crate::store::{Mutation, NewEntry, RunAppend, TurnClaim, WriteBatch};
        let (run, other) = (RunId::from_bytes([3; 16]), RunId::from_bytes([4; 16]));
        let new = |entry| NewEntry { at: jiff::Timestamp::UNIX_EPOCH, entry, body: None };
        let (usage, status) = (TokenUsage::default(), RunStatus::Running);
        let head =
            RunHead { status, wake_at: None, model_calls: 0, usage, cost_micros: 0, unpriced_calls: 0 };
        let entries = vec![
            new(refused(CallStatus::Denied, Some(ID))),
            new(refused(CallStatus::Awaiting, Some(ApprovalId::from_bytes([5; 16])))),
        ];
        let append = RunAppend { run, epoch: 1, after: 4, entries: entries.clone(), head, checkpoint: None };
        let mut batch =
            WriteBatch::new(TenantId::from_bytes([6; 16])).with_mutation(Mutation::RunAppend(append));
        let written = |batch: &WriteBatch, run| -> Vec<u64> {
            (0..9).filter(|seq| batch.writes_entry(run, *seq)).collect()
        };
        assert_eq!((written(&batch, run), written(&batch, other)), (vec![5, 6], vec![]));
        assert!(batch.takes_back().is_empty(), "without a payer nothing moves");
        batch.payer = Some(BudgetPayer { actor: Actor::new("cli:0"), priced: true });
        assert_eq!(batch.takes_back().into_iter().collect::<Vec<_>>(), [ID]);
        let (session, agent) = (SessionId::from_bytes([7; 16]), AgentId::from_bytes([8; 16]));
        let holder = crate::Digest::default();
        let claim = TurnClaim {
            session,
            agent,
            run: other,
            holder,
            after: 0,
            take: vec![],
            entries,
            head,
            notice: None,
        };
        let batch = WriteBatch { claim: Some(claim), ..batch };
        assert_eq!((written(&batch, run), written(&batch, other)), (vec![5, 6], vec![1, 2]));
        let by = batch.wanted_by(&Actor::new("cli:0"), jiff::Timestamp::UNIX_EPOCH);
        assert!(by.wanted.is_some_and(|wanted| wanted.by == Actor::new("cli:0")));
    }
}
