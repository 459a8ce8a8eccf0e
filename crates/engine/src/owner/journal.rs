//! The writer of a run's journal: entries that are not durable yet, their commit, and their withdrawal.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::approval::ApprovalRequest;
use dromia_contracts::budget::BudgetPayer;
use dromia_contracts::file::FileLabels;
use dromia_contracts::runs::LiveEvent;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    CommitOutcome, CommitReceipt, CommitRefusal, DeliveryPrepare, FileLabelsPut, InboxPut, Mutation,
    NewEntry, RunAppend, RunTakeover, SessionOpen, WriteBatch,
};

use super::error::OwnershipError;
use super::identity::RunIdentity;
use crate::checkpoint::CheckpointMarks;
use crate::core::EngineCore;
use crate::decide::RunDecision;
use crate::scheduler::ReadyWork;
use crate::state::RunState;

/// How often an append that found the writer's queue full is offered again, 20 ms apart.
const OVERLOAD_TRIES: u32 = 500;

/// The state before a call was to begin.
struct RollbackPoint {
    state: RunState,
    pending: usize,
    asks: usize,
}

/// The entries of a run that are not durable yet, and what becomes durable with them.
#[derive(Default)]
pub(crate) struct JournalWriter {
    /// The number of the last durable entry; the entries after it are in `pending`.
    pub(crate) durable: u64,
    pub(crate) pending: Vec<NewEntry>,
    /// The takeover of a run whose state was kept: durable with the first commit.
    pub(crate) takeover: Option<RunTakeover>,
    pub(crate) sends: Vec<InboxPut>,
    /// Sessions that are opened before these items are put.
    pub(crate) opens: Vec<SessionOpen>,
    /// What a checkpoint needs beside the state.
    pub(crate) marks: CheckpointMarks,
    /// What a person is asked with the pending entries.
    pub(crate) asks: Vec<ApprovalRequest>,
    /// How many bytes were scanned for secrets to quote them in the pending requests.
    pub(crate) looked: usize,
    /// The labels of the files that the calls with pending results changed.
    pub(crate) files: FileLabels,
    /// The rollback point before the call whose start is pending, in case a budget is exhausted.
    before: Option<RollbackPoint>,
    /// The rollback point before the first approval that is requested before its call's turn.
    ahead: Option<RollbackPoint>,
}

/// What a commit of the pending entries is about.
pub(super) struct JournalAppend<'a> {
    pub(super) core: &'a Arc<EngineCore>,
    pub(super) identity: &'a RunIdentity,
    pub(super) state: &'a RunState,
    pub(super) payer: BudgetPayer,
    /// What the run says, where a channel gets it, in order.
    pub(super) messages: Vec<DeliveryPrepare>,
    /// The message to the session that waits for the end of the run, if it has ended.
    pub(super) wake: Option<InboxPut>,
}

impl JournalWriter {
    /// Begins behind the last durable entry.
    pub(super) fn after_entry(durable: u64) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Returns whether everything is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.pending.is_empty() && self.takeover.is_none()
    }

    /// Adds what a decision writes.
    pub(super) fn add_decision(&mut self, decision: &mut RunDecision) {
        self.pending.append(&mut decision.entries);
        self.sends.append(&mut decision.sends);
        self.opens.append(&mut decision.opens);
        self.asks.append(&mut decision.asks);
    }

    /// Sets the rollback point before a call.
    pub(super) fn note_call(&mut self, state: &RunState) {
        self.before = Some(self.rollback_point(state));
    }

    /// Sets the rollback point before the first early request, in case the tenant may not have all of them open.
    pub(super) fn note_ahead(&mut self, state: &RunState) {
        if self.ahead.is_none() {
            self.ahead = Some(self.rollback_point(state));
        }
    }

    /// Withdraws the entries and requests of the call that was to begin; returns the state before it. The entries before
    /// the call are still pending.
    pub(super) fn withdraw_call(&mut self) -> Option<RunState> {
        let before = self.before.take()?;
        self.asks.truncate(before.asks);
        Some(self.roll_back(before))
    }

    /// Withdraws the last open request and the entries of its call; returns it, and the state before it.
    pub(super) fn withdraw_request(&mut self) -> Option<(ApprovalRequest, RunState)> {
        let index = self.asks.iter().rposition(|ask| ask.state.is_open())?;
        let before = self.before.take()?;
        Some((self.asks.remove(index), self.roll_back(before)))
    }

    /// Withdraws all early requests if the tenant may not have all of them open: the run rests for the one call, and
    /// the others are requested in their turn. Returns the state before them, if there was any.
    pub(super) fn withdraw_ahead(&mut self) -> Option<RunState> {
        let before = self.ahead.take().filter(|before| before.asks < self.asks.len())?;
        self.asks.truncate(before.asks);
        Some(self.roll_back(before))
    }

    fn rollback_point(&self, state: &RunState) -> RollbackPoint {
        RollbackPoint { state: state.clone(), pending: self.pending.len(), asks: self.asks.len() }
    }

    fn roll_back(&mut self, before: RollbackPoint) -> RunState {
        self.pending.truncate(before.pending);
        before.state
    }

    /// Makes the pending entries durable with all that goes with them. Returns the receipt, or why the store refused it.
    pub(super) async fn append_pending(
        &mut self,
        append: JournalAppend<'_>,
    ) -> Result<Result<CommitReceipt, CommitRefusal>, OwnershipError> {
        let JournalAppend { core, identity, state, payer, messages, mut wake } = append;
        let rings = !messages.is_empty();
        let (sends, opens) = (std::mem::take(&mut self.sends), std::mem::take(&mut self.opens));
        let asks = std::mem::take(&mut self.asks);
        let files = std::mem::take(&mut self.files);
        let mut batch = WriteBatch::new(identity.scope.tenant());
        batch.payer = Some(payer);
        batch.mutations.extend(opens.iter().cloned().map(Mutation::SessionOpen));
        batch.mutations.extend(sends.iter().cloned().map(Mutation::InboxPut));
        batch.mutations.extend(messages.into_iter().map(Mutation::DeliveryPrepare));
        batch.mutations.extend(wake.clone().map(Mutation::InboxPut));
        batch.mutations.extend(asks.iter().cloned().map(|ask| Mutation::ApprovalAsk(Box::new(ask))));
        if !files.is_empty() {
            let put = FileLabelsPut { agent: identity.agent.id, said: files.clone() };
            batch.mutations.push(Mutation::FileLabelsPut(put));
        }
        batch.mutations.extend(self.takeover.clone().map(Mutation::RunTakeover));
        // A takeover without an entry is a claim that counts, so that a run which is woken in vain is held some day.
        if !self.pending.is_empty() {
            let bodies = self
                .pending
                .iter()
                .filter_map(|new| new.body.as_ref())
                .chain(sends.iter().map(|put| &put.body));
            // The next commit may have the room.
            let has_room = bodies.map(bytes::Bytes::len).sum::<usize>() <= WriteBatch::BYTES_MAX / 2;
            let checkpoint = self.marks.write_if_due(state).filter(|_| has_room);
            batch.mutations.push(Mutation::RunAppend(RunAppend {
                run: identity.run,
                epoch: identity.epoch,
                after: self.durable,
                entries: std::mem::take(&mut self.pending),
                head: state.run_head(),
                checkpoint,
            }));
        }
        for _ in 0..OVERLOAD_TRIES {
            match core.ports.store.commit(batch.clone()).await {
                CommitOutcome::Done(receipt) => {
                    (self.durable, self.takeover) = (state.seq, None);
                    let (seq, status) = (self.durable, state.status());
                    if let Some(Mutation::RunAppend(append)) = batch.mutations.last() {
                        if append.checkpoint.is_some() {
                            self.marks.last = seq;
                        }
                        core.activity.counts.count_rest(status);
                        core.activity.counts.count_usage(&append.entries);
                        let whose = (identity.scope.tenant(), identity.agent.id);
                        core.activity.usage.count_run(
                            whose,
                            &identity.agent.config.model,
                            status,
                            &append.entries,
                        );
                    }
                    core.hub.publish(identity.run, || LiveEvent::Committed { seq, status });
                    for put in sends.into_iter().chain(wake) {
                        let ready = match put.owner {
                            InboxOwner::Session(session) => ReadyWork::Session(session),
                            InboxOwner::Run(run) if core.hub.signal_run(run) => continue,
                            InboxOwner::Run(run) => ReadyWork::Run(run),
                        };
                        core.enqueue_ready(identity.scope.tenant(), ready);
                    }
                    core.delays.look_at_all(&asks);
                    if rings {
                        core.notify_delivery();
                    }
                    (self.before, self.ahead, self.looked) = (None, None, 0);
                    return Ok(Ok(receipt));
                }
                CommitOutcome::Refused(CommitRefusal::Overloaded) => {
                    core.ports.runtime.clock.sleep(Duration::from_millis(20)).await;
                }
                CommitOutcome::Refused(CommitRefusal::ReadOnly { .. } | CommitRefusal::Damaged { .. }) => {
                    return Err(OwnershipError::Store);
                }
                CommitOutcome::Unknown { .. } => {
                    // They may be durable by now, or soon.
                    core.delays.look_at_all(&asks);
                    return Err(OwnershipError::Store);
                }
                CommitOutcome::Refused(
                    CommitRefusal::EpochStale { .. }
                    | CommitRefusal::LeaseLasts { .. }
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
                        (self.files, self.opens) = (files, opens);
                    }
                    return Ok(Err(refusal));
                }
            }
        }
        Err(OwnershipError::Store)
    }
}
