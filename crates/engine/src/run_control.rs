//! What people do to a run from outside: watch it, end it, resume it, ask why.
//!
//! Nothing here appends to a journal. A decision is a signal in the run's inbox or an item in the session's;
//! the owner journals what it takes.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{InputReceipt, InputTarget, LiveEvent, RunEndMode, Watch};
use dromia_contracts::session::{InboxOwner, ItemKind, ResumeBody};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, InboxPut, ItemKey, KeyLifetime, Mutation, WriteBatch,
};
use dromia_contracts::{Digest, ErrorCode, Fault, RunId, Scope};
use tokio::sync::broadcast::error::RecvError;

use crate::core::EngineCore;
use crate::journal_reads::find_run;
use crate::refusal::{commit_fault, run_not_found};
use crate::scheduler::ReadyWork;
use crate::submit::{InputSubmission, NewItem};

/// Watches, ends and resumes runs.
pub(crate) struct RunControl<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> RunControl<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Watches a run from now on.
    pub(crate) async fn watch_run(&self, scope: Scope, run: RunId) -> Result<Watch, Fault> {
        // Watch first and look then, so that nothing falls between.
        let receiver = self.core.hub.watch_run(run);
        let row = find_run(&*self.core.ports.store, &scope, run).await?;
        let first = LiveEvent::Committed { seq: row.last_seq, status: row.head.status };
        let rest = futures_util::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(live) => Some((live, receiver)),
                Err(RecvError::Lagged(_)) => Some((LiveEvent::Lagged, receiver)),
                Err(RecvError::Closed) => None,
            }
        });
        Ok(Box::pin(futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest)))
    }

    /// Puts a signal into a run's inbox and notifies its owner.
    pub(crate) async fn signal_run(&self, scope: &Scope, run: RunId, kind: ItemKind) -> Result<(), Fault> {
        let _step = self.core.begin_step(scope.tenant()).await;
        let put = InboxPut {
            owner: InboxOwner::Run(run),
            item: self.core.ports.runtime.item_id(),
            at: self.core.ports.runtime.clock.now(),
            kind,
            author: scope.actor().clone(),
            body: Bytes::new(),
            key: None,
        };
        let answer = self
            .core
            .ports
            .store
            .commit(WriteBatch::new(scope.tenant()).with_mutation(Mutation::InboxPut(put)))
            .await;
        let result = match answer {
            CommitOutcome::Done(_) => Ok(()),
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => return Err(run_not_found(run)),
            // It may be durable, so the owner must look all the same.
            CommitOutcome::Unknown { .. } => Err(commit_fault(answer)),
            other @ CommitOutcome::Refused(_) => return Err(commit_fault(other)),
        };
        if !self.core.hub.signal_run(run) {
            self.core.enqueue_ready(scope.tenant(), ReadyWork::Run(run));
        }
        result
    }

    /// Asks a run to end.
    pub(crate) async fn end_run(&self, scope: Scope, run: RunId, end: RunEndMode) -> Result<(), Fault> {
        let kind = match end {
            RunEndMode::Cancel => ItemKind::Cancel,
            RunEndMode::Terminate => ItemKind::Terminate,
        };
        let status = find_run(&*self.core.ports.store, &scope, run).await?.head.status;
        if status.is_terminal() {
            return ended_already(run, status);
        }
        match self.signal_run(&scope, run, kind).await {
            // It ended between the look and the commit; the store took nothing.
            Err(fault) if fault.code == ErrorCode::RunTerminal => {
                ended_already(run, find_run(&*self.core.ports.store, &scope, run).await?.head.status)
            }
            told => told,
        }
    }

    /// Continues a yielded run with a new one, or releases a held one.
    pub(crate) async fn resume_run(&self, scope: Scope, run: RunId) -> Result<InputReceipt, Fault> {
        let row = find_run(&*self.core.ports.store, &scope, run).await?;
        match row.head.status {
            RunStatus::Yielded => {
                let body = serde_json::to_vec(&ResumeBody { run })
                    .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
                // A run is resumed once: a repeated request joins the new run.
                let key = ItemKey {
                    key: resume_key(run),
                    request: Digest::from_bytes(*blake3::hash(&body).as_bytes()),
                    lifetime: KeyLifetime::Forever,
                };
                let item = NewItem {
                    kind: ItemKind::Resume,
                    author: scope.actor().clone(),
                    body: Bytes::from(body),
                    key: Some(key),
                    wait: false,
                    when_busy: None,
                };
                InputSubmission::new(self.core)
                    .admit_item(&scope, InputTarget::Session(row.session), item)
                    .await
            }
            RunStatus::Held => {
                self.signal_run(&scope, run, ItemKind::Release).await?;
                Ok(InputReceipt {
                    item: self.core.ports.runtime.item_id(),
                    session: row.session,
                    position: 0,
                    run: Some(run),
                    replayed: false,
                    outcome: None,
                })
            }
            status => Err(Fault::new(
                ErrorCode::RunNotResumable,
                format!("{run} is {}; only a yielded or held run can be resumed", status.as_str()),
            )
            .with_hint(format!("see what it does with `dromia run why {run}`"))),
        }
    }
}

/// The key of the one input that resumes a yielded run.
pub(crate) fn resume_key(run: RunId) -> String {
    format!("resume:{run}")
}

/// The answer to a request to end a run that has ended. Asking twice is no mistake.
fn ended_already(run: RunId, status: RunStatus) -> Result<(), Fault> {
    if status == RunStatus::Cancelled {
        return Ok(());
    }
    let text = format!("{run} is already {}, so this request changed nothing", status.as_str());
    Err(Fault::new(ErrorCode::RunTerminal, text)
        .with_hint(format!("see how it ended with `dromia run show {run}`")))
}
