//! The writer: one thread, one connection, one transaction per group of batches.
//!
//! A batch is acknowledged after the COMMIT of its group, which syncs the log. Each batch is checked before any
//! row of it is written, so a refused one leaves nothing. If SQLite fails in a way that is one batch's own, the
//! group is rolled back and played again batch by batch. A batch that meets a damaged page or row then is refused and
//! has left no row: the rest of the file is served, and the writes of others go on.
//!
//! If the disk fails, nobody knows what of the group is durable: all of it answers unknown, and the writer takes
//! nothing until it has closed its connection, opened the file anew, and copied and synced the whole log. A sync
//! that failed is never repeated: the kernel may have dropped the pages and would call the second one good.
//!
//! A panic is no end of it: the group answers unknown and the file is opened anew, as after a disk that failed.

mod log;
pub(crate) mod queue;
mod unwound;

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use dromia_contracts::store::{Commit, ReadError, Refusal};

use crate::apply::{BodyKeys, Draft, Stop};
use crate::body::{self, FileBodies, Place};
use crate::config::{GROUP_ROWS_MAX, REOPEN_WAIT_MAX, REOPEN_WAIT_MIN, StoreConfig};
use crate::gauge::{Gauge, count};
use crate::open;
use crate::read::recent::Recent;
use crate::reader::{Problem, damaged_place};
use crate::seal::{self, Seals};
use crate::{erase, sweep};
use log::Log;
use queue::{Job, Next, Note, Queue, Write};

/// After this long without work, what is in the log is copied into the main file.
const IDLE: Duration = Duration::from_secs(1);
/// How long the writer rests once nothing is left to copy or to give back.
const IDLE_SETTLED: Duration = Duration::from_mins(5);

pub(crate) struct Writer {
    config: StoreConfig,
    /// Absent while a failed connection is closed and no new one could be opened.
    db: Option<Connection>,
    queue: Arc<Queue>,
    gauge: Arc<Gauge>,
    recent: Arc<Recent>,
    keys: BodyKeys,
    seals: Seals,
    files: FileBodies,
    log: Log,
    /// Whether the log of the process says already that the file is damaged.
    damage_told: bool,
}

/// How a group failed.
enum Failure {
    /// In a way that concerns one batch; the disk is sound.
    Row(rusqlite::Error),
    /// At a page or a row that is damaged; who does not need it is not concerned.
    Damaged(rusqlite::Error),
    /// Nobody knows what the disk holds.
    Disk(String),
}

impl From<rusqlite::Error> for Failure {
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

impl Writer {
    pub(crate) fn new(
        config: StoreConfig,
        mut db: Connection,
        queue: Arc<Queue>,
        gauge: Arc<Gauge>,
        recent: Arc<Recent>,
    ) -> Result<Self, rusqlite::Error> {
        let log = Log::new(gauge.clone());
        log.attach(&mut db)?;
        let files = FileBodies::new(config.blobs());
        let (keys, seals) = (BodyKeys::default(), Seals::default());
        let damage_told = false;
        Ok(Self { config, db: Some(db), queue, gauge, recent, keys, seals, files, log, damage_told })
    }

    /// Serves the queue until it is closed and empty.
    pub(crate) fn run(mut self) {
        let _last = unwound::Last::of(&self);
        let mut patience = IDLE;
        loop {
            match self.queue.next(patience, self.log.rows_max(GROUP_ROWS_MAX)) {
                Next::Group(group) => {
                    self.mind(|writer| writer.serve(group));
                    patience = IDLE;
                }
                Next::Idle => {
                    // Nothing changes while nothing is written, so a log that is settled is left alone.
                    let settled = self.mind(|writer| writer.tend_log(true));
                    patience = if settled == Some(true) { IDLE_SETTLED } else { IDLE };
                }
                Next::Closed => break,
            }
        }
        if let Some(db) = &self.db {
            // A courtesy to the next start, which would do the same.
            if let Err(error) = self.log.truncate(db) {
                tracing::warn!(%error, "the log could not be emptied at the end");
            }
        }
    }

    fn serve(&mut self, group: Vec<Job>) {
        let begun = cpu_micros();
        let mut writes = Vec::with_capacity(group.len());
        for job in group {
            match job {
                Job::Write(write) => writes.push(write),
                Job::Erase { tenant, agent, ack } => {
                    let erased = self.alone(|db| erase::page(db, tenant, agent));
                    // Whatever came of it: what may be gone from the disk is gone from memory.
                    self.recent.erase();
                    answer(ack, erased);
                }
                Job::Sweep { tenant, hashes, ack } => {
                    let swept = self.alone(|db| sweep::page(db, tenant, &hashes));
                    answer(ack, swept);
                }
                Job::Audit { tenant, note, ack } => {
                    // Kept only where the transaction stands; without it the heads are looked up again.
                    let mut seals = std::mem::take(&mut self.seals);
                    let noted = self.alone(|db| {
                        match note {
                            Note::Mark(mark) => seal::mark(db, &mark)?,
                            Note::Config { config, at } => seals.config(db, tenant, config, at)?,
                            Note::Act { act, at } => seals.noted(db, tenant, &act, at)?,
                        }
                        Ok(((), erase::Unlink::default()))
                    });
                    if noted.is_ok() {
                        self.seals = seals;
                    }
                    answer(ack, noted);
                }
            }
        }
        if !writes.is_empty() {
            self.serve_writes(writes);
        }
        self.tend_log(false);
        count(&self.gauge.writer_micros, cpu_micros().saturating_sub(begun));
    }

    fn serve_writes(&mut self, writes: Vec<Write>) {
        match self.try_group(&writes) {
            Ok(answers) => {
                for (write, commit) in writes.into_iter().zip(answers) {
                    answer(write.ack, commit);
                }
            }
            Err(Failure::Disk(cause)) => self.fail(writes, &cause),
            Err(Failure::Row(error)) if writes.len() == 1 => {
                tracing::error!(%error, "a batch passed its checks and could not be written");
                for write in writes {
                    answer(write.ack, Commit::Unknown { cause: error.to_string() });
                }
            }
            Err(Failure::Damaged(error)) if writes.len() == 1 => {
                self.tell_damage(&error);
                for write in writes {
                    let problem = error.to_string();
                    answer(write.ack, Commit::Refused(Refusal::Damaged { problem }));
                }
            }
            Err(Failure::Row(_) | Failure::Damaged(_)) => {
                for write in writes {
                    if let Some(cause) = self.gauge.read_only() {
                        answer(write.ack, Commit::Refused(Refusal::ReadOnly { cause }));
                    } else {
                        self.serve_writes(vec![write]);
                    }
                }
            }
        }
    }

    /// Plays a group in one transaction. An error leaves no row of it, as far as the disk is sound.
    fn try_group(&mut self, writes: &[Write]) -> Result<Vec<Commit>, Failure> {
        let Some(db) = &self.db else { return Err(Failure::Disk("the file is not open".into())) };
        let mut refused_files = Vec::new();
        for write in writes {
            refused_files.push(write_files(db, &mut self.keys, &self.files, write)?);
        }
        run_cached(db, "BEGIN IMMEDIATE")?;
        let played = play(db, &mut self.keys, &mut self.seals, writes, refused_files);
        let (answers, rows) = match played {
            Ok(played) => played,
            Err(error) => {
                self.seals.forget();
                // The error that counts is the first; a rollback that fails shows at the next BEGIN.
                if let Err(error) = run_cached(db, "ROLLBACK") {
                    tracing::warn!(%error, "a rollback failed");
                }
                return Err(error.into());
            }
        };
        // After the append to the log, before its sync: a crash here may leave the group durable without an
        // acknowledgement; whoever asks again is recognised by the rows.
        if let Err(error) = run_cached(db, "COMMIT") {
            self.seals.forget();
            return Err(Failure::Disk(error.to_string()));
        }
        count(&self.gauge.commits, u64::from(rows > 0));
        count(&self.gauge.batches, writes.len() as u64);
        count(&self.gauge.rows, rows);
        Ok(answers)
    }

    /// Runs a job in a transaction of its own.
    fn alone<T>(
        &mut self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<(T, erase::Unlink)>,
    ) -> Result<T, ReadError> {
        let done = match &self.db {
            None => Err(Failure::Disk("the file is not open".into())),
            Some(db) => run_alone(db, &self.files, job).inspect(|_| count(&self.gauge.commits, 1)),
        };
        done.map_err(|failure| match failure {
            Failure::Row(error) => ReadError::Unavailable { cause: error.to_string() },
            Failure::Damaged(error) => {
                self.tell_damage(&error);
                Problem::from(error).into()
            }
            Failure::Disk(cause) => {
                self.fail(Vec::new(), &cause);
                ReadError::Unavailable { cause }
            }
        })
    }

    /// Says that the file is damaged; the log is told once, for whoever needs what is damaged comes again and again.
    fn tell_damage(&mut self, error: &rusqlite::Error) {
        self.gauge.meet_damage(damaged_place(error).unwrap_or("the main file"), &error.to_string());
        if std::mem::replace(&mut self.damage_told, true) {
            tracing::debug!(%error, "a write met what is damaged");
        } else {
            tracing::error!(
                %error,
                "the database is damaged, writes that need the damaged part are refused; stop the server, look with \
                 `dromia doctor --only store` and restore a backup"
            );
        }
    }

    /// Looks after the log; returns whether an idle writer has nothing more to do about it.
    fn tend_log(&mut self, idle: bool) -> bool {
        let Some(db) = &self.db else { return false };
        let shrunk = if idle { Log::shrink(db) } else { Ok(true) };
        match shrunk.and_then(|settled| self.log.tend(db, idle).map(|fits| (settled, fits))) {
            Ok((settled, true)) => return settled && self.log.is_copied(),
            Ok((_, false)) => self.recover("the log is full, and a reader holds it", false),
            Err(error) => self.fail(Vec::new(), &error.to_string()),
        }
        false
    }

    /// Answers unknown to a group, then keeps at it until the store takes writes again or is closed.
    fn fail(&mut self, writes: Vec<Write>, cause: &str) {
        tracing::error!(cause, "a write failed, the store answers reads only");
        self.gauge.set_read_only(Some(cause.to_owned()));
        for write in writes {
            answer(write.ack, Commit::Unknown { cause: cause.to_owned() });
        }
        self.db = None;
        self.recover(cause, true);
    }

    fn recover(&mut self, cause: &str, reopen: bool) {
        self.gauge.set_read_only(Some(cause.to_owned()));
        let mut wait = REOPEN_WAIT_MIN;
        loop {
            let (closed, jobs) = self.queue.pause(wait);
            refuse(jobs, cause);
            if closed {
                return;
            }
            match self.copy_whole_log(reopen) {
                Ok(true) => break,
                Ok(false) => {
                    tracing::warn!("a reader still holds the log");
                    self.gauge.interrupt_readers();
                }
                Err(error) => {
                    tracing::warn!(%error, "the store could not be reopened");
                    if reopen {
                        self.db = None;
                    }
                }
            }
            wait = (wait * 2).min(REOPEN_WAIT_MAX);
        }
        tracing::info!("the store takes writes again");
        self.gauge.set_read_only(None);
    }

    /// Copies the whole log into the main file, syncs both and empties the log. False if a reader holds it.
    fn copy_whole_log(&mut self, reopen: bool) -> Result<bool, rusqlite::Error> {
        if self.db.is_none() || reopen {
            self.db = None;
            let mut db = open::reopen_writer(&self.config)?;
            self.log.attach(&mut db)?;
            self.db = Some(db);
        }
        match &self.db {
            Some(db) => self.log.truncate(db),
            None => Ok(false),
        }
    }
}

/// Checks and writes each batch, and seals what they added. Returns an answer for each, and how many rows there are.
fn play(
    db: &Connection,
    keys: &mut BodyKeys,
    seals: &mut Seals,
    writes: &[Write],
    refused_files: Vec<Option<Refusal>>,
) -> rusqlite::Result<(Vec<Commit>, u64)> {
    let mut answers = Vec::with_capacity(writes.len());
    let mut grown = Vec::with_capacity(writes.len());
    let mut rows = 0;
    for (write, refused) in writes.iter().zip(refused_files) {
        if let Some(refusal) = refused {
            answers.push(Commit::Refused(refusal));
            continue;
        }
        answers.push(match Draft::check(db, keys, &write.batch) {
            Ok(draft) => {
                rows += draft.write(db)?;
                grown.push(draft.grown());
                Commit::Done(draft.into_receipt())
            }
            Err(Stop::Refused(refusal)) => Commit::Refused(refusal),
            Err(Stop::Failed(error)) => return Err(error),
        });
    }
    rows += seals.write(db, grown)?;
    Ok((answers, rows))
}

/// Makes the large bodies of a batch durable before its transaction begins. A batch whose file cannot be written
/// is refused: it left no row.
fn write_files(
    db: &Connection,
    keys: &mut BodyKeys,
    files: &FileBodies,
    write: &Write,
) -> rusqlite::Result<Option<Refusal>> {
    let mut key = None;
    for bytes in crate::apply::bodies(&write.batch) {
        if Place::of(bytes.len()) != Place::File {
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
        if let Err(error) = files.write(write.batch.tenant, &body::hash(&key, bytes), bytes) {
            tracing::error!(%error, "a body could not be written");
            return Ok(Some(Refusal::ReadOnly { cause: format!("a body could not be written: {error}") }));
        }
    }
    Ok(None)
}

fn run_alone<T>(
    db: &Connection,
    files: &FileBodies,
    job: impl FnOnce(&Connection) -> rusqlite::Result<(T, erase::Unlink)>,
) -> Result<T, Failure> {
    run_cached(db, "BEGIN IMMEDIATE")?;
    match job(db) {
        Ok((value, unlink)) => {
            run_cached(db, "COMMIT").map_err(|error| Failure::Disk(error.to_string()))?;
            // After the rows are durably gone. A crash in between leaves files that no row names, for the sweeper.
            unlink.run(files);
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

fn refuse(jobs: Vec<Job>, cause: &str) {
    for job in jobs {
        match job {
            Job::Write(write) => {
                answer(write.ack, Commit::Refused(Refusal::ReadOnly { cause: cause.to_owned() }));
            }
            Job::Erase { ack, .. } => answer(ack, Err(ReadError::Unavailable { cause: cause.to_owned() })),
            Job::Sweep { ack, .. } => answer(ack, Err(ReadError::Unavailable { cause: cause.to_owned() })),
            Job::Audit { ack, .. } => answer(ack, Err(ReadError::Unavailable { cause: cause.to_owned() })),
        }
    }
}

/// Answers whoever still waits; a caller that went away leaves the work done all the same.
fn answer<T>(ack: tokio::sync::oneshot::Sender<T>, value: T) {
    drop(ack.send(value));
}

/// CPU time of this thread, in microseconds.
fn cpu_micros() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec.unsigned_abs() * 1_000_000) + time.tv_nsec.unsigned_abs() / 1_000
}
