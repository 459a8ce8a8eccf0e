//! The writer: one thread, one connection, one transaction per group of batches.
//!
//! A batch is acknowledged after the COMMIT of its group, which syncs the log. Each batch is checked before any
//! row of it is written, so a refused one leaves nothing. If SQLite fails in a way that is one batch's own, the
//! group is rolled back and played again batch by batch. A batch that meets a damaged page or row then is refused and
//! has left no row: the rest of the file is served, and the writes of others go on.
//!
//! If the disk fails, it is unknown what of the group is durable: all of it answers unknown, and the writer takes
//! nothing until it has closed its connection, reopened the file, and copied and synced the whole log. A sync
//! that failed is never repeated: the kernel may have dropped the pages and would call the second one good.
//!
//! A panic does not end the writer: the group answers unknown and the file is reopened, as after a failed disk.

mod log;
mod panics;
pub(crate) mod queue;

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, ReadError, WriteBatch};

use crate::acknowledged_end::AcknowledgedEnd;
use crate::apply::{BatchCheckError, BatchDraft, BodyKeys};
use crate::body::{self, BodyLocation, FileBodies};
use crate::config::{GROUP_ROWS_MAX, REOPEN_WAIT_MAX, REOPEN_WAIT_MIN, StoreConfig};
use crate::counters::{StoreGauge, add_count};
use crate::lease::LeaseTable;
use crate::open;
use crate::read::recent::TailCache;
use crate::reader::{ReadFailure, damaged_place};
use crate::seal::{self, SealWriter};
use crate::{body_sweeper, erase};
use log::WriteAheadLog;
use queue::{AuditNote, BatchWrite, WriterJob, WriterQueue, WriterStep};

/// After this long without work, what is in the log is copied into the main file.
const IDLE: Duration = Duration::from_secs(1);
/// How long the writer rests once nothing is left to copy or to give back.
const IDLE_SETTLED: Duration = Duration::from_mins(5);

pub(crate) struct StoreWriter {
    config: StoreConfig,
    /// Absent while a failed connection is closed and no new one could be opened.
    db: Option<Connection>,
    queue: Arc<WriterQueue>,
    gauge: Arc<StoreGauge>,
    recent: Arc<TailCache>,
    leases: Arc<LeaseTable>,
    keys: BodyKeys,
    seals: SealWriter,
    files: FileBodies,
    log: WriteAheadLog,
    /// Whether the log of the process says already that the file is damaged.
    damage_told: bool,
}

/// How a group failed.
enum GroupFailure {
    /// In a way that concerns one batch; the disk is sound.
    Row(rusqlite::Error),
    /// At a page or a row that is damaged; who does not need it is not concerned.
    Damaged(rusqlite::Error),
    /// It is unknown what the disk holds.
    Disk(String),
}

impl From<rusqlite::Error> for GroupFailure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::NotADatabase
                | ErrorCode::PermissionDenied,
            ) => Self::Disk(error.to_string()),
            _ if damaged_place(&error).is_some() => Self::Damaged(error),
            _ => Self::Row(error),
        }
    }
}

impl StoreWriter {
    pub(crate) fn new(
        config: StoreConfig,
        mut db: Connection,
        queue: Arc<WriterQueue>,
        gauge: Arc<StoreGauge>,
        recent: Arc<TailCache>,
        leases: Arc<LeaseTable>,
        end: AcknowledgedEnd,
    ) -> Result<Self, rusqlite::Error> {
        let log = WriteAheadLog::new(gauge.clone(), end);
        log.attach_hook(&mut db)?;
        let files = FileBodies::new(config.blobs_path());
        let (keys, seals) = (BodyKeys::default(), SealWriter::default());
        let damage_told = false;
        Ok(Self { config, db: Some(db), queue, gauge, recent, leases, keys, seals, files, log, damage_told })
    }

    /// Serves the queue until it is closed and empty.
    pub(crate) fn run(mut self) {
        let _last = panics::WriterExitGuard::for_writer(&self);
        let mut patience = IDLE;
        loop {
            match self.queue.next(patience, self.log.rows_max(GROUP_ROWS_MAX)) {
                WriterStep::Group(group) => {
                    self.catch_panic(|writer| writer.serve_group(group));
                    patience = IDLE;
                }
                WriterStep::Idle => {
                    // Nothing changes while nothing is written, so a log that is settled is left alone.
                    let settled = self.catch_panic(|writer| writer.tend_log(true));
                    patience = if settled == Some(true) { IDLE_SETTLED } else { IDLE };
                }
                WriterStep::Closed => break,
            }
        }
        if let Some(db) = &self.db {
            // A courtesy to the next start, which would do the same.
            if let Err(error) = self.log.truncate_log(db) {
                tracing::warn!(%error, "failed to empty the log at the end");
            }
        }
    }

    fn serve_group(&mut self, group: Vec<WriterJob>) {
        let begun = cpu_micros();
        let mut writes = Vec::with_capacity(group.len());
        for job in group {
            match job {
                WriterJob::Write(write) => writes.push(write),
                WriterJob::Erase { tenant, owner, ack } => {
                    let erased = self.run_in_transaction(|db| erase::erase_one_page(db, tenant, owner));
                    // Whatever came of it: what may be gone from the disk is gone from memory.
                    self.recent.forget_groups();
                    send_answer(ack, erased);
                }
                WriterJob::Sweep { tenant, hashes, ack } => {
                    let swept = self.run_in_transaction(|db| body_sweeper::sweep_page(db, tenant, &hashes));
                    send_answer(ack, swept);
                }
                WriterJob::Audit { tenant, note, ack } => {
                    // Kept only if the transaction commits; without them the heads are looked up again.
                    let mut seals = std::mem::take(&mut self.seals);
                    let noted = self.run_in_transaction(|db| {
                        match note {
                            AuditNote::Mark(mark) => seal::save_checkpoint(db, &mark)?,
                            AuditNote::Config { config, at } => seals.seal_config(db, tenant, config, at)?,
                            AuditNote::Act { act, at } => seals.seal_noted_act(db, tenant, &act, at)?,
                        }
                        Ok(((), erase::UnlinkList::default()))
                    });
                    if noted.is_ok() {
                        self.seals = seals;
                    }
                    send_answer(ack, noted);
                }
            }
        }
        if !writes.is_empty() {
            self.serve_writes(writes);
        }
        self.tend_log(false);
        add_count(&self.gauge.writer_micros, cpu_micros().saturating_sub(begun));
    }

    fn serve_writes(&mut self, writes: Vec<BatchWrite>) {
        match self.try_group(&writes) {
            Ok(answers) => {
                for write in writes.iter().filter(|write| erases_tenant(&write.batch)) {
                    let tenant = write.batch.tenant;
                    let swept = self.run_in_transaction(|db| body_sweeper::sweep_page(db, tenant, &[]));
                    if let Err(error) = swept {
                        tracing::warn!(%error, "the directory of an erased tenant stays until the next sweep");
                    }
                }
                for (write, commit) in writes.into_iter().zip(answers) {
                    send_answer(write.ack, commit);
                }
            }
            Err(GroupFailure::Disk(cause)) => self.fail_group(writes, &cause),
            Err(GroupFailure::Row(error)) if writes.len() == 1 => {
                tracing::error!(%error, "failed to write a batch that had passed its checks");
                for write in writes {
                    send_answer(write.ack, CommitOutcome::Unknown { cause: error.to_string() });
                }
            }
            Err(GroupFailure::Damaged(error)) if writes.len() == 1 => {
                self.tell_damage(&error);
                for write in writes {
                    let problem = error.to_string();
                    send_answer(write.ack, CommitOutcome::Refused(CommitRefusal::Damaged { problem }));
                }
            }
            Err(GroupFailure::Row(_) | GroupFailure::Damaged(_)) => {
                for write in writes {
                    if let Some(cause) = self.gauge.read_only() {
                        send_answer(write.ack, CommitOutcome::Refused(CommitRefusal::ReadOnly { cause }));
                    } else {
                        self.serve_writes(vec![write]);
                    }
                }
            }
        }
    }

    /// Plays a group in one transaction. An error leaves no row of it, as far as the disk is sound.
    fn try_group(&mut self, writes: &[BatchWrite]) -> Result<Vec<CommitOutcome>, GroupFailure> {
        let Some(db) = &self.db else { return Err(GroupFailure::Disk("the file is not open".into())) };
        let mut refused_files = Vec::new();
        for write in writes {
            refused_files.push(write_files(db, &mut self.keys, &self.files, write)?);
        }
        run_cached(db, "BEGIN IMMEDIATE")?;
        let played = write_group((db, &self.leases), &mut self.keys, &mut self.seals, writes, refused_files);
        let (answers, rows) = match played {
            Ok(played) => played,
            Err(error) => {
                self.seals.forget_heads();
                // The error that counts is the first; a rollback that fails shows at the next BEGIN.
                if let Err(error) = run_cached(db, "ROLLBACK") {
                    tracing::warn!(%error, "a rollback failed");
                }
                return Err(error.into());
            }
        };
        // After the append to the log, before its sync: a crash here may leave the group durable without an
        // acknowledgement; a caller that asks again is recognised by the rows.
        if let Err(error) = run_cached(db, "COMMIT") {
            self.seals.forget_heads();
            return Err(GroupFailure::Disk(error.to_string()));
        }
        self.log.reached();
        add_count(&self.gauge.commits, u64::from(rows > 0));
        add_count(&self.gauge.batches, writes.len() as u64);
        add_count(&self.gauge.rows, rows);
        Ok(answers)
    }

    /// Runs a job in a transaction of its own.
    fn run_in_transaction<T>(
        &mut self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<(T, erase::UnlinkList)>,
    ) -> Result<T, ReadError> {
        let done = match &self.db {
            None => Err(GroupFailure::Disk("the file is not open".into())),
            Some(db) => run_alone(db, &self.files, job).inspect(|_| add_count(&self.gauge.commits, 1)),
        };
        if done.is_ok() {
            self.log.reached();
        }
        done.map_err(|failure| match failure {
            GroupFailure::Row(error) => ReadError::Unavailable { cause: error.to_string() },
            GroupFailure::Damaged(error) => {
                self.tell_damage(&error);
                ReadFailure::from(error).into()
            }
            GroupFailure::Disk(cause) => {
                self.fail_group(Vec::new(), &cause);
                ReadError::Unavailable { cause }
            }
        })
    }

    /// Reports that the file is damaged; only the first time is an error in the log, because callers come again.
    fn tell_damage(&mut self, error: &rusqlite::Error) {
        self.gauge.meet_damage(damaged_place(error).unwrap_or("the main file"), &error.to_string());
        if std::mem::replace(&mut self.damage_told, true) {
            tracing::debug!(%error, "a write touched damaged data");
        } else {
            tracing::error!(
                %error,
                "the database is damaged, so writes to the damaged part are refused; stop the server, run \
                 `dromia doctor --only store` and restore a backup"
            );
        }
    }

    /// Looks after the log; returns whether an idle writer has nothing more to do about it.
    fn tend_log(&mut self, idle: bool) -> bool {
        let Some(db) = &self.db else { return false };
        let shrunk = if idle { WriteAheadLog::shrink_file(db) } else { Ok(true) };
        match shrunk
            .and_then(|settled| self.log.copy_if_due(db, &self.config, idle).map(|fits| (settled, fits)))
        {
            Ok((settled, true)) => return settled && self.log.is_copied(),
            Ok((_, false)) => self.recover("the log is full because a reader uses it", false),
            Err(error) => self.fail_group(Vec::new(), &error.to_string()),
        }
        false
    }

    /// Answers unknown to a group, then keeps at it until the store takes writes again or is closed.
    fn fail_group(&mut self, writes: Vec<BatchWrite>, cause: &str) {
        tracing::error!(cause, "a write failed, so the store only answers reads");
        self.gauge.set_read_only(Some(cause.to_owned()));
        for write in writes {
            send_answer(write.ack, CommitOutcome::Unknown { cause: cause.to_owned() });
        }
        self.db = None;
        self.recover(cause, true);
    }

    fn recover(&mut self, cause: &str, reopen: bool) {
        self.gauge.set_read_only(Some(cause.to_owned()));
        let mut wait = REOPEN_WAIT_MIN;
        loop {
            let (closed, jobs) = self.queue.wait_and_drain(wait);
            refuse_jobs(jobs, cause);
            if closed {
                return;
            }
            match self.copy_whole_log(reopen) {
                Ok(true) => break,
                Ok(false) => {
                    tracing::warn!("a reader still uses the log");
                    self.gauge.interrupt_readers();
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to reopen the store");
                    if reopen {
                        self.db = None;
                    }
                }
            }
            wait = (wait * 2).min(REOPEN_WAIT_MAX);
        }
        tracing::info!("the store accepts writes again");
        self.gauge.set_read_only(None);
    }

    /// Copies the whole log into the main file, syncs both and empties the log. False if a reader holds it.
    fn copy_whole_log(&mut self, reopen: bool) -> Result<bool, rusqlite::Error> {
        if self.db.is_none() || reopen {
            self.db = None;
            let mut db = open::reopen_writer(&self.config)?;
            self.log.attach_hook(&mut db)?;
            self.db = Some(db);
        }
        match &self.db {
            Some(db) => self.log.truncate_log(db),
            None => Ok(false),
        }
    }
}

/// Checks and writes each batch, and seals what they added. Returns an answer for each, and how many rows there are.
fn write_group(
    (db, leases): (&Connection, &LeaseTable),
    keys: &mut BodyKeys,
    seals: &mut SealWriter,
    writes: &[BatchWrite],
    refused_files: Vec<Option<CommitRefusal>>,
) -> rusqlite::Result<(Vec<CommitOutcome>, u64)> {
    let mut answers = Vec::with_capacity(writes.len());
    let mut grown = Vec::with_capacity(writes.len());
    let mut rows = 0;
    for (write, refused) in writes.iter().zip(refused_files) {
        if let Some(refusal) = refused {
            answers.push(CommitOutcome::Refused(refusal));
            continue;
        }
        if erases_tenant(&write.batch) {
            keys.forget_tenant(write.batch.tenant);
        }
        answers.push(match BatchDraft::check_batch(db, leases, keys, &write.batch) {
            Ok(draft) => {
                rows += draft.write_rows()?;
                grown.push(draft.chain_growth());
                CommitOutcome::Done(draft.into_receipt())
            }
            Err(BatchCheckError::Refused(refusal)) => CommitOutcome::Refused(refusal),
            Err(BatchCheckError::Failed(error)) => return Err(error),
        });
    }
    rows += seals.write_seals(db, grown)?;
    Ok((answers, rows))
}

/// Tells whether a batch erases its tenant, of which nothing may be remembered then.
fn erases_tenant(batch: &WriteBatch) -> bool {
    matches!(batch.mutations[..], [Mutation::TenantErase(_)])
}

/// Makes the large bodies of a batch durable before its transaction begins. A batch whose file cannot be written
/// is refused: it left no row.
fn write_files(
    db: &Connection,
    keys: &mut BodyKeys,
    files: &FileBodies,
    write: &BatchWrite,
) -> rusqlite::Result<Option<CommitRefusal>> {
    let mut key = None;
    for bytes in crate::apply::batch_bodies(&write.batch) {
        if BodyLocation::for_length(bytes.len()) != BodyLocation::File {
            continue;
        }
        if key.is_none() {
            key = match crate::apply::new_body_key(&write.batch) {
                Some(new) => Some(new),
                None => keys.get(db, write.batch.tenant)?,
            };
        }
        // A batch of a tenant that does not exist is refused by its check.
        let Some(key) = key else { return Ok(None) };
        if let Err(error) = files.write(write.batch.tenant, &body::hash_body(&key, bytes), bytes) {
            tracing::error!(%error, "failed to write a body");
            return Ok(Some(CommitRefusal::ReadOnly { cause: format!("failed to write a body: {error}") }));
        }
    }
    Ok(None)
}

fn run_alone<T>(
    db: &Connection,
    files: &FileBodies,
    job: impl FnOnce(&Connection) -> rusqlite::Result<(T, erase::UnlinkList)>,
) -> Result<T, GroupFailure> {
    run_cached(db, "BEGIN IMMEDIATE")?;
    match job(db) {
        Ok((value, unlink)) => {
            run_cached(db, "COMMIT").map_err(|error| GroupFailure::Disk(error.to_string()))?;
            // After the rows are durably gone. A crash in between leaves files that no row names, for the sweeper.
            unlink.remove_files(files);
            Ok(value)
        }
        Err(error) => {
            if let Err(error) = run_cached(db, "ROLLBACK") {
                tracing::warn!(%error, "a rollback failed");
            }
            Err(error.into())
        }
    }
}

fn run_cached(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

fn refuse_jobs(jobs: Vec<WriterJob>, cause: &str) {
    for job in jobs {
        match job {
            WriterJob::Write(write) => {
                send_answer(
                    write.ack,
                    CommitOutcome::Refused(CommitRefusal::ReadOnly { cause: cause.to_owned() }),
                );
            }
            WriterJob::Erase { ack, .. } => {
                send_answer(ack, Err(ReadError::Unavailable { cause: cause.to_owned() }));
            }
            WriterJob::Sweep { ack, .. } => {
                send_answer(ack, Err(ReadError::Unavailable { cause: cause.to_owned() }));
            }
            WriterJob::Audit { ack, .. } => {
                send_answer(ack, Err(ReadError::Unavailable { cause: cause.to_owned() }));
            }
        }
    }
}

/// Answers a caller that still waits; the work is done even if the caller went away.
fn send_answer<T>(ack: tokio::sync::oneshot::Sender<T>, value: T) {
    drop(ack.send(value));
}

/// CPU time of this thread, in microseconds.
fn cpu_micros() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec.unsigned_abs() * 1_000_000) + time.tv_nsec.unsigned_abs() / 1_000
}
