//! How an owner makes its entries durable.

use dromia_contracts::runs::Live;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{Batch, Commit, FileLabelsPut, Mutation, Refusal, RunAppend};
use jiff::SignedDuration;

use super::{Lost, Owner};
use crate::decide::Next;
use crate::scheduler::Ready;

/// How often an append that found the writer's queue full is offered again, 20 ms apart.
const OVERLOAD_TRIES: u32 = 500;

impl Owner {
    /// Makes the start of a call durable. If a budget has no room for it, the run ends instead, and what to do then is
    /// given back.
    pub(super) async fn commit(&mut self) -> Result<Option<Next>, Lost> {
        match self.try_commit().await? {
            None => Ok(None),
            Some(Refusal::BudgetExhausted(exhausted)) => Ok(Some(self.unfund(exhausted))),
            Some(refusal) => {
                tracing::warn!(run = %self.run, %refusal, "an append was refused");
                Err(Lost::Fenced)
            }
        }
    }

    /// Makes the pending entries durable. A refusal that only concerns what is sent is given back.
    pub(super) async fn try_commit(&mut self) -> Result<Option<Refusal>, Lost> {
        self.append().await.map(Result::err)
    }

    pub(super) async fn append(&mut self) -> Result<Result<(), Refusal>, Lost> {
        if self.pending.is_empty() {
            return Ok(Ok(()));
        }
        let message = self.message();
        let rings = message.is_some();
        let sends = std::mem::take(&mut self.sends);
        let asks = std::mem::take(&mut self.asks);
        let files = std::mem::take(&mut self.files);
        let mut wake = self.wake();
        let mut batch = Batch::new(self.scope.tenant());
        batch.payer = Some(self.payer());
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
            head: self.state.head(),
        }));
        for _ in 0..OVERLOAD_TRIES {
            match self.core.ports.store.commit(batch.clone()).await {
                Commit::Done(receipt) => {
                    self.durable = self.state.seq;
                    let (seq, status) = (self.durable, self.state.status());
                    self.core.counts.count_rest(status);
                    self.core.hub.publish(self.run, || Live::Committed { seq, status });
                    for put in sends.into_iter().chain(wake) {
                        if let InboxOwner::Session(session) = put.owner {
                            self.core.ready(self.scope.tenant(), Ready::Session(session));
                        }
                    }
                    self.core.delays.look_at_all(&asks);
                    self.waiting |= receipt.waiting;
                    if rings {
                        self.core.ring();
                    }
                    (self.before, self.ahead, self.looked) = (None, None, 0);
                    return Ok(Ok(()));
                }
                Commit::Refused(Refusal::Overloaded) => {
                    let clock = &self.core.ports.runtime.clock;
                    let later = clock.now().checked_add(SignedDuration::from_millis(20));
                    clock.sleep_until(later.unwrap_or_else(|_| clock.now())).await;
                }
                Commit::Refused(Refusal::ReadOnly { .. } | Refusal::Damaged { .. }) => {
                    return Err(Lost::Store);
                }
                Commit::Unknown { .. } => {
                    // They may be durable by now, or soon.
                    self.core.delays.look_at_all(&asks);
                    return Err(Lost::Store);
                }
                Commit::Refused(
                    Refusal::EpochStale { .. } | Refusal::SequenceMoved { .. } | Refusal::RunTerminal,
                ) => {
                    return Err(Lost::Fenced);
                }
                // The session that would be told takes no input any more: its agent ended with this run.
                Commit::Refused(Refusal::AgentState { .. } | Refusal::NotFound(_)) if wake.is_some() => {
                    let told = wake.take().map(|put| put.item);
                    batch.mutations.retain(
                        |mutation| !matches!(mutation, Mutation::InboxPut(put) if Some(put.item) == told),
                    );
                }
                Commit::Refused(refusal) => {
                    if let (
                        Refusal::BudgetExhausted(_) | Refusal::ApprovalsFull { .. },
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
        Err(Lost::Store)
    }
}
