//! When an owner makes its entries durable, and what becomes of a run whose entries the store refuses.

use dromia_contracts::approval::OPEN_MAX;
use dromia_contracts::content::ContentPart;
use dromia_contracts::runs::RunOutcome;
use dromia_contracts::store::CommitRefusal;

use super::interim_replies::interim_deliveries;
use super::journal::JournalAppend;
use super::session_notice::is_superseded;
use super::{OwnershipError, RunOwner};
use crate::decide::{CallJudgement, DecisionInput, FULL, NextAction};
use crate::outcome::answer_parts;

impl RunOwner {
    /// Makes the start of a call durable. If a budget is exhausted, the run ends instead, and the next action is
    /// returned.
    pub(super) async fn commit_call_start(&mut self) -> Result<Option<NextAction>, OwnershipError> {
        match self.try_commit().await? {
            None => Ok(None),
            Some(CommitRefusal::BudgetExhausted(exhausted)) => Ok(Some(self.exhaust_budget(exhausted))),
            Some(refusal) => {
                tracing::warn!(run = %self.identity.run, %refusal, "the store refused an append");
                Err(OwnershipError::Fenced)
            }
        }
    }

    /// Makes the pending entries durable. Returns a refusal that only concerns the messages of the batch.
    pub(super) async fn try_commit(&mut self) -> Result<Option<CommitRefusal>, OwnershipError> {
        self.append_pending().await.map(Result::err)
    }

    async fn append_pending(&mut self) -> Result<Result<(), CommitRefusal>, OwnershipError> {
        if self.journal.is_durable() {
            return Ok(Ok(()));
        }
        self.superseded |= is_superseded(&self.core, &self.identity, &self.state).await;
        let mut messages = interim_deliveries(&self.identity, &self.journal, &self.state.taken_items());
        messages.extend(self.answer_delivery(&messages));
        let append = JournalAppend {
            core: &self.core,
            identity: &self.identity,
            state: &self.state,
            payer: self.pending_payer(),
            messages,
            wake: self.end_notice(),
        };
        let appended = self.journal.append_pending(append).await?;
        Ok(appended.map(|receipt| {
            self.waiting |= receipt.waiting;
            // The notification may be lost, or may have been made in another process.
            if receipt.signals_last > self.state.signals_taken {
                self.active.notify_owner();
            }
        }))
    }

    /// Withdraws pending requests, because the tenant has the most open that it may have: first the early ones, and
    /// then the one request, whose call is refused instead; the run goes on. `None` if no request is pending.
    pub(super) fn withdraw_requests(&mut self) -> Option<NextAction> {
        if let Some(state) = self.journal.withdraw_ahead() {
            self.state = state;
            return Some(NextAction::Rest);
        }
        let (ask, state) = self.journal.withdraw_request()?;
        self.state = state;
        self.core.activity.calls.count_denied(&ask.judged.tool);
        tracing::warn!(run = %self.identity.run, tool = %ask.judged.tool, "no person is asked: too many approvals of the tenant are open");
        let reason = format!(
            "This call needs an approval first ({}), and no person is asked: {OPEN_MAX} calls of this tenant \
             already wait for an answer, which is the most. Nothing was done. People must answer some of them \
             (`dromia approval list`); until then continue without it, or say what you wait for.",
            ask.reason
        );
        let denied = CallJudgement::Denied { rule: FULL.to_owned(), reason, policy: None };
        Some(self.decide_next(DecisionInput::Judged(ask.source.call, denied)))
    }

    /// Makes the last entries durable and answers the waiting callers. If the store refuses the approval requests
    /// because too many are open, returns what to do instead.
    pub(super) async fn commit_and_rest(&mut self) -> Result<Result<bool, NextAction>, OwnershipError> {
        if let Err(refusal) = self.append_pending().await? {
            if matches!(refusal, CommitRefusal::ApprovalsFull { .. })
                && let Some(instead) = self.withdraw_requests()
            {
                return Ok(Err(instead));
            }
            tracing::warn!(run = %self.identity.run, %refusal, "the store refused the last append");
            return Err(OwnershipError::Fenced);
        }
        if self.state.is_ended() {
            let outcome = RunOutcome {
                run: self.identity.run,
                last_seq: self.journal.durable,
                head: self.state.run_head(),
                reply: answer_parts(self.state.status(), &self.story).map(<[ContentPart]>::to_vec),
                failure: self.state.failure_fault(),
            };
            self.core.hub.resolve_waiters(&self.state.taken_items(), &Ok(outcome));
            self.core.hub.end_watch(self.identity.run);
        }
        // The commit that ended the run may have been an earlier one: a transactional call commits its own end.
        Ok(Ok(self.waiting))
    }
}
