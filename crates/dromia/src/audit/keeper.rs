//! Writes the checkpoints of a served home: at the start, once a minute where something happened, and at the end.
//!
//! A checkpoint is synced first and remembered by the store after that: a crash in between leaves a file that knows one
//! more than the store, and never a store that knows one more than the file, which is how a truncated file is
//! recognized. Bounds: one number for each tenant in memory; a line names 2,048 tenants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use dromia_contracts::audit::{AuditHead, AuditLog};
use dromia_contracts::runtime::Clock;
use dromia_contracts::store::{PageRequest, Store};
use dromia_contracts::{Digest, OperatorScope, TenantId};
use dromia_guard::audit::{AuditCheckpoint, AuditKey, CheckpointHead, TENANTS_MAX};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::file::{AuditDirectory, CheckpointFile};

/// The longest that something that happened waits for a checkpoint.
const EVERY: Duration = Duration::from_mins(1);

/// How long the last checkpoint may take when the server stops.
const LAST: Duration = Duration::from_secs(5);

/// Writes checkpoints.
pub(crate) struct CheckpointWriter {
    key: Arc<AuditKey>,
    log: Arc<dyn AuditLog>,
    operator: OperatorScope,
    clock: Arc<dyn Clock>,
    file: Arc<Mutex<CheckpointFile>>,
    /// The last seal of each tenant that a checkpoint of this life names.
    known: HashMap<TenantId, u64>,
    /// The number and the digest of the last checkpoint.
    number: u64,
    before: Digest,
}

/// A keeper at work.
pub(crate) struct CheckpointTask {
    stop: CancellationToken,
    task: JoinHandle<CheckpointWriter>,
}

impl CheckpointWriter {
    /// Takes up the file of a home where it ends.
    pub(crate) async fn open(
        book: &AuditDirectory,
        key: Arc<AuditKey>,
        log: Arc<dyn AuditLog>,
        operator: OperatorScope,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let (mut file, last) = CheckpointFile::open(book.checkpoints_path())?;
        let mark = log.audit_mark(&operator).await?;
        let read = last.map(|line| AuditCheckpoint::read_line(&line, Some(key.public_key()))).transpose();
        let last = match read {
            Ok(last) => last.map(|last| last.to_mark()),
            Err(problem) => {
                let aside = file.begin_anew().context("failed to move a damaged checkpoint file aside")?;
                let aside = aside.display().to_string();
                tracing::error!(%problem, aside, "the last checkpoint is damaged; a new file starts");
                None
            }
        };
        // Where the store knows of a later one, the file was cut off; the gap stays to be seen.
        let newest = match (last, mark) {
            (Some(last), Some(mark)) if mark.number > last.number => Some(mark),
            (last, mark) => last.or(mark),
        };
        if newest != last {
            tracing::error!("checkpoints are missing; `dromia audit verify` names them");
        }
        let (number, before) =
            newest.map_or((0, AuditCheckpoint::origin_digest()), |mark| (mark.number, mark.digest));
        let file = Arc::new(Mutex::new(file));
        Ok(Self { key, log, operator, clock, file, known: HashMap::new(), number, before })
    }

    /// Seals for every tenant under which configuration it is served, where that is another one than before.
    pub(crate) async fn note_configuration(&self, store: &dyn Store, config: Digest) -> anyhow::Result<()> {
        seal_configuration(&*self.log, store, &self.operator, config, self.clock.now()).await
    }

    /// Writes what has grown since the last checkpoint, if anything has. Returns how many lines that took.
    pub(crate) async fn write_checkpoint(&mut self, why: &str) -> anyhow::Result<usize> {
        let grown = self.grown_heads().await?;
        let mut lines = 0;
        for chains in grown.chunks(TENANTS_MAX) {
            let head = CheckpointHead {
                number: self.number + 1,
                at: self.clock.now().to_string(),
                before: self.before,
                why: why.to_owned(),
            };
            let (made, text) = AuditCheckpoint::make_signed(&self.key, head, chains);
            let file = Arc::clone(&self.file);
            let appended = tokio::task::spawn_blocking(move || {
                file.lock().unwrap_or_else(PoisonError::into_inner).append_line(&text)
            });
            appended.await?.context("failed to append a checkpoint")?;
            self.number = made.head.number;
            self.before = made.digest;
            self.known.extend(chains.iter().map(|one| (one.tenant, one.seal)));
            lines += 1;
            self.log.audit_marked(&self.operator, made.to_mark()).await?;
        }
        Ok(lines)
    }

    async fn grown_heads(&self) -> anyhow::Result<Vec<AuditHead>> {
        let mut grown = Vec::new();
        let mut page = PageRequest::first_page(PageRequest::<TenantId>::LIMIT_MAX);
        loop {
            let heads = self.log.audit_heads(&self.operator, page).await?;
            let is_new =
                |head: &&AuditHead| head.seal > self.known.get(&head.tenant).copied().unwrap_or_default();
            grown.extend(heads.iter().filter(is_new).copied());
            match heads.last() {
                Some(last) if heads.len() == page.limit => page.after = Some(last.tenant),
                _ => return Ok(grown),
            }
        }
    }

    /// Goes on in the background until it is stopped.
    pub(crate) fn spawn_task(mut self, store: Arc<dyn Store>, config: Digest) -> CheckpointTask {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = self.note_configuration(&*store, config).await {
                tracing::warn!(%error, "failed to record the configuration; the next start records it");
            }
            let mut why = "start";
            loop {
                if let Err(error) = self.write_checkpoint(why).await {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "failed to write a checkpoint; the server retries in a minute"
                    );
                }
                why = "time";
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => return self,
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
        });
        CheckpointTask { stop, task }
    }
}

/// Seals for every tenant under which configuration it is served from a time on, where that is another one than before.
pub(crate) async fn seal_configuration(
    log: &dyn AuditLog,
    store: &dyn Store,
    operator: &OperatorScope,
    config: Digest,
    at: Timestamp,
) -> anyhow::Result<()> {
    let mut page = PageRequest::first_page(PageRequest::<TenantId>::LIMIT_MAX);
    loop {
        let tenants = store.tenants(operator, page).await?;
        for tenant in &tenants {
            log.audit_config(operator, tenant.id, config, at).await?;
        }
        match tenants.last() {
            Some(last) if tenants.len() == page.limit => page.after = Some(last.id),
            _ => return Ok(()),
        }
    }
}

impl CheckpointTask {
    /// Writes the last checkpoint, after everything else has come to its end.
    pub(crate) async fn stop_and_write(self) {
        self.stop.cancel();
        let last = async {
            let mut keeper = self.task.await?;
            keeper.write_checkpoint("stop").await
        };
        match tokio::time::timeout(LAST, last).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "the last checkpoint is missing"),
            Err(_) => tracing::error!("the last checkpoint was not written in time"),
        }
    }
}
