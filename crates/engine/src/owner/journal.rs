//! How an owner makes its entries durable.

use std::time::Duration;

use dromia_contracts::runs::LiveEvent;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, FileLabelsPut, Mutation, RunAppend, WriteBatch};

use super::{OwnershipError, RunOwner};
use crate::decide::NextAction;
use crate::scheduler::ReadyWork;

/// How often an append that found the writer's queue full is offered again, 20 ms apart.
const OVERLOAD_TRIES: u32 = 500;

impl RunOwner {
    /// Makes the start of a call durable. If a budget is exhausted, the run ends instead, and the next action is
    /// returned.
    pub(super) async fn commit_call_start(&mut self) -> Result<Option<NextAction>, OwnershipError> {
        match self.try_commit().await? {
            None => Ok(None),
            Some(CommitRefusal::BudgetExhausted(exhausted)) => Ok(Some(self.exhaust_budget(exhausted))),
            Some(refusal) => {
                tracing::warn!(run = %self.run, %refusal, "the store refused an append");
                Err(OwnershipError::Fenced)
            }
        }
    }

    /// Makes the pending entries durable. Returns a refusal that only concerns the messages of the batch.
    pub(super) async fn try_commit(&mut self) -> Result<Option<CommitRefusal>, OwnershipError> {
        self.append_pending().await.map(Result::err)
    }

    pub(super) async fn append_pending(&mut self) -> Result<Result<(), CommitRefusal>, OwnershipError> {
        if self.pending.is_empty() {
            return Ok(Ok(()));
        }
        let message = self.delivery_message();
        let rings = message.is_some();
        let sends = std::mem::take(&mut self.sends);
        let asks = std::mem::take(&mut self.asks);
        let files = std::mem::take(&mut self.files);
        let mut wake = self.wake_message();
        let mut batch = WriteBatch::new(self.scope.tenant());
        batch.payer = Some(self.pending_payer());
        batch.mutations.extend(sends.iter().cloned().map(Mutation::InboxPut));
        batch.mutations.extend(message.map(Mutation::DeliveryPrepare));
        batch.mutations.extend(wake.clone().map(Mutation::InboxPut));
        batch.mutations.extend(asks.iter().cloned().map(|ask| Mutation::ApprovalAsk(Box::new(ask))));
        if !files.is_empty() {
            let put = FileLabelsPut { agent: self.agent.id, said: files.clone() };
            batch.mutations.push(Mutation::FileLabelsPut(put));
        }
        batch.mutations.push(Mutation::RunAppend(RunAppend {
            run: self.run,
            epoch: self.epoch,
            after: self.durable,
            entries: std::mem::take(&mut self.pending),
            head: self.state.run_head(),
        }));
        for _ in 0..OVERLOAD_TRIES {
            match self.core.ports.store.commit(batch.clone()).await {
                CommitOutcome::Done(receipt) => {
                    self.durable = self.state.seq;
                    let (seq, status) = (self.durable, self.state.status());
                    self.core.counts.count_rest(status);
                    if let Some(Mutation::RunAppend(append)) = batch.mutations.last() {
                        self.core.counts.count_usage(&append.entries);
                    }
                    self.core.hub.publish(self.run, || LiveEvent::Committed { seq, status });
                    for put in sends.into_iter().chain(wake) {
                        if let InboxOwner::Session(session) = put.owner {
                            self.core.enqueue_ready(self.scope.tenant(), ReadyWork::Session(session));
                        }
                    }
                    self.core.delays.look_at_all(&asks);
                    self.waiting |= receipt.waiting;
                    if rings {
                        self.core.notify_delivery();
                    }
                    (self.before, self.ahead, self.looked) = (None, None, 0);
                    return Ok(Ok(()));
                }
                CommitOutcome::Refused(CommitRefusal::Overloaded) => {
                    self.core.ports.runtime.clock.sleep(Duration::from_millis(20)).await;
                }
                CommitOutcome::Refused(CommitRefusal::ReadOnly { .. } | CommitRefusal::Damaged { .. }) => {
                    return Err(OwnershipError::Store);
                }
                CommitOutcome::Unknown { .. } => {
                    // They may be durable by now, or soon.
                    self.core.delays.look_at_all(&asks);
                    return Err(OwnershipError::Store);
                }
                CommitOutcome::Refused(
                    CommitRefusal::EpochStale { .. }
                    | CommitRefusal::SequenceMoved { .. }
                    | CommitRefusal::RunTerminal,
                ) => {
                    return Err(OwnershipError::Fenced);
                }
                // The session that would get the message takes no input any more: its agent ended with this run.
                CommitOutcome::Refused(CommitRefusal::AgentState { .. } | CommitRefusal::NotFound(_))
                    if wake.is_some() =>
                {
                    let told = wake.take().map(|put| put.item);
                    batch.mutations.retain(
                        |mutation| !matches!(mutation, Mutation::InboxPut(put) if Some(put.item) == told),
                    );
                }
                CommitOutcome::Refused(refusal) => {
                    if let (
                        CommitRefusal::BudgetExhausted(_) | CommitRefusal::ApprovalsFull { .. },
                        Some(Mutation::RunAppend(append)),
                    ) = (&refusal, batch.mutations.pop())
                    {
                        // All of it but the call that was to begin, or to be asked for, is still to be written.
                        (self.pending, self.sends, self.asks) = (append.entries, sends, asks);
                        self.files = files;
                    }
                    return Ok(Err(refusal));
                }
            }
        }
        Err(OwnershipError::Store)
    }
}
