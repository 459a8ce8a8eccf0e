//! The readers: a few threads, each with a connection that cannot write. Tenants take turns, and one that reads much, or long,
//! leaves a thread to others.
//!
//! A read is one transaction, sees one snapshot and ends after one page. If the writer needs the log restarted, the
//! read is interrupted and begins again with a newer snapshot, at most [`YIELDS_MAX`] times; after five seconds in all
//! it is interrupted for good. A read that does not end, also by a panic, is [`ReadError::Unavailable`]. A row that
//! does not match its digest is [`ReadError::DamageStatus`] and is never given out; the gauge remembers the first one.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use dromia_contracts::id::TenantId;
use dromia_contracts::pool::FairQueue;
use dromia_contracts::store::{Read, ReadError};

use crate::apply::BodyKeys;
use crate::body::FileBodies;
use crate::config::{READ_TIME_MAX, READS_MAX, StoreConfig, TENANT_READS_MAX};
use crate::counters::StoreGauge;
use crate::open;
use crate::read::recent::TailCache;

/// How many times a read yields to the writer and begins again. Each takes a whole log full of writes, so one that is
/// interrupted more often is itself what holds the log up.
const YIELDS_MAX: usize = 8;

/// Why a read gives nothing.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// SQLite failed, or a column holds a value that the store never writes.
    Sql(rusqlite::Error),
    /// A row does not match its digest.
    Damaged { place: String, problem: String },
}

impl From<rusqlite::Error> for ReadFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl ReadFailure {
    pub(crate) fn damaged_row(place: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Damaged { place: place.to_string(), problem: problem.into() }
    }
}

impl From<ReadFailure> for ReadError {
    fn from(problem: ReadFailure) -> Self {
        match problem {
            ReadFailure::Damaged { place, problem } => Self::Damaged { place, problem },
            ReadFailure::Sql(error) => match damaged_place(&error) {
                Some(place) => Self::Damaged { place: place.into(), problem: error.to_string() },
                None => Self::Unavailable { cause: error.to_string() },
            },
        }
    }
}

/// Says what is damaged if that is why SQLite failed, or why a column is not what its reader expects.
pub(crate) fn damaged_place(error: &rusqlite::Error) -> Option<&'static str> {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => Some("a row"),
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Some("the main file"),
            _ => None,
        },
    }
}

/// What a read works with.
#[derive(Debug)]
pub(crate) struct ReadContext {
    pub(crate) db: Connection,
    pub(crate) keys: BodyKeys,
    pub(crate) files: FileBodies,
    pub(crate) recent: Arc<TailCache>,
}

impl Deref for ReadContext {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.db
    }
}

type Job = Box<dyn FnOnce(&mut ReaderThread) + Send>;

/// The readers and their queue.
pub(crate) struct ReaderPool {
    queue: Arc<ReaderQueue>,
    threads: Vec<JoinHandle<()>>,
}

/// Whose reads are those of the node, such as looking up a token.
pub(crate) const NODE: TenantId = TenantId::from_bytes([0; 16]);

struct ReaderQueue {
    state: Mutex<ReaderQueueState>,
    changed: Condvar,
}

struct ReaderQueueState {
    jobs: FairQueue<Job>,
    closed: bool,
}

impl ReaderQueue {
    /// A queue for so many threads. Of three and more, one is in reserve.
    fn new(threads: usize) -> Self {
        let jobs = FairQueue::new(threads, usize::from(threads > 2));
        Self { state: Mutex::new(ReaderQueueState { jobs, closed: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ReaderQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReaderPool {
    pub(crate) fn start(
        config: &StoreConfig,
        gauge: &Arc<StoreGauge>,
        recent: &Arc<TailCache>,
    ) -> std::io::Result<Self> {
        let threads = config.readers.clamp(1, 4);
        let mut readers = Self { queue: Arc::new(ReaderQueue::new(threads)), threads: Vec::new() };
        for number in 0..threads {
            let queue = readers.queue.clone();
            let mut reader = ReaderThread::new(config.clone(), gauge.clone(), recent.clone());
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || reader.run(&queue))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs a read of a tenant on one of the threads.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        tenant: TenantId,
        read: impl Fn(&mut ReadContext) -> Result<T, ReadFailure> + Send + 'static,
    ) -> Read<'static, T> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            // A read whose caller went away is skipped.
            if !tx.is_closed() {
                drop(tx.send(reader.read_with_retry(&read)));
            }
        });
        let mut waiting = self.queue.lock();
        let refused = if waiting.closed {
            Some("the store is closed")
        } else if waiting.jobs.waiting_count() >= READS_MAX
            || waiting.jobs.waiting_of(tenant) >= TENANT_READS_MAX
        {
            Some("too many reads wait")
        } else {
            waiting.jobs.push(tenant, job);
            None
        };
        drop(waiting);
        self.queue.changed.notify_one();
        Box::pin(async move {
            if let Some(cause) = refused {
                return Err(ReadError::Unavailable { cause: cause.to_owned() });
            }
            // Dropped unsent: the read panicked.
            let lost =
                || ReadError::Unavailable { cause: "a defect of this program ended the read".to_owned() };
            rx.await.unwrap_or_else(|_| Err(lost()))
        })
    }
}

impl fmt::Debug for ReaderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader panicked");
            }
        }
    }
}

/// One thread's connection, opened at its first read and again after a failure.
struct ReaderThread {
    config: StoreConfig,
    gauge: Arc<StoreGauge>,
    recent: Arc<TailCache>,
    /// When the current read must end, in nanoseconds after `epoch`, and the yields it may live through.
    limits: Arc<ReadLimits>,
    reading: Option<ReadContext>,
}

#[derive(Debug)]
struct ReadLimits {
    epoch: Instant,
    end_nanos: AtomicU64,
    yields: AtomicU64,
}

impl ReadLimits {
    fn is_over(&self) -> bool {
        saturating_nanos(self.epoch.elapsed()) > self.end_nanos.load(Ordering::Relaxed)
    }
}

impl ReaderThread {
    fn new(config: StoreConfig, gauge: Arc<StoreGauge>, recent: Arc<TailCache>) -> Self {
        let limits =
            ReadLimits { epoch: Instant::now(), end_nanos: AtomicU64::new(0), yields: AtomicU64::new(0) };
        Self { config, gauge, recent, limits: Arc::new(limits), reading: None }
    }

    fn run(&mut self, queue: &ReaderQueue) {
        loop {
            let mut waiting = queue.lock();
            let (tenant, job) = loop {
                if let Some(next) = waiting.jobs.take_next() {
                    break next;
                }
                if waiting.closed && waiting.jobs.waiting_count() == 0 {
                    return;
                }
                waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            };
            drop(waiting);
            // The thread outlives the read: behind a dead one reads would wait for ever. The panic drops the sender of
            // the answer, so the caller gets an error.
            if catch_unwind(AssertUnwindSafe(|| job(self))).is_err() {
                self.reading = None;
                tracing::error!("a read panicked; its connection is reopened");
            }
            queue.lock().jobs.give_back(tenant);
            // What this thread was kept from may be for another one.
            queue.changed.notify_one();
        }
    }

    /// Reads, and where that meets damage reads once more: an erasure takes the file of a body away under a snapshot that is
    /// older, and a newer one knows better. What is damaged is so again.
    fn read_with_retry<T>(
        &mut self,
        read: &impl Fn(&mut ReadContext) -> Result<T, ReadFailure>,
    ) -> Result<T, ReadError> {
        let end = self.limits.epoch.elapsed() + READ_TIME_MAX;
        self.limits.end_nanos.store(saturating_nanos(end), Ordering::Relaxed);
        let mut result = self.read_through_yields(read);
        if matches!(result, Err(ReadError::Damaged { .. })) {
            result = self.read_through_yields(read);
        }
        if let Err(ReadError::Damaged { place, problem }) = &result {
            self.gauge.meet_damage(place, problem);
        }
        result
    }

    /// Reads once, and again after each time that it yielded.
    fn read_through_yields<T>(
        &mut self,
        read: &impl Fn(&mut ReadContext) -> Result<T, ReadFailure>,
    ) -> Result<T, ReadError> {
        for _ in 0..YIELDS_MAX {
            match self.try_read(read) {
                Err(problem) if is_interrupted(&problem) && !self.limits.is_over() => {}
                result => return result.map_err(ReadError::from),
            }
        }
        self.try_read(read).map_err(ReadError::from)
    }

    fn try_read<T>(
        &mut self,
        read: &impl Fn(&mut ReadContext) -> Result<T, ReadFailure>,
    ) -> Result<T, ReadFailure> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.open_context()?,
        };
        self.limits.yields.store(self.gauge.yield_count(), Ordering::Relaxed);
        let result = read_snapshot(&mut reading, read);
        // After a failure the state of the connection is unknown; a new one costs less than a millisecond.
        if result.is_ok() && reading.db.is_autocommit() {
            self.reading = Some(reading);
        }
        result
    }

    fn open_context(&self) -> rusqlite::Result<ReadContext> {
        let mut db = open::open_reader(&self.config)?;
        let (limits, gauge) = (self.limits.clone(), self.gauge.clone());
        let expired =
            move || limits.is_over() || gauge.yield_count() != limits.yields.load(Ordering::Relaxed);
        db.progress_handler(1_000, Some(expired))?;
        Ok(ReadContext {
            db,
            keys: BodyKeys::default(),
            files: FileBodies::new(self.config.blobs_path()),
            recent: self.recent.clone(),
        })
    }
}

fn read_snapshot<T>(
    reading: &mut ReadContext,
    read: &impl Fn(&mut ReadContext) -> Result<T, ReadFailure>,
) -> Result<T, ReadFailure> {
    reading.db.prepare_cached("BEGIN")?.execute([])?;
    let value = read(reading)?;
    reading.db.prepare_cached("COMMIT")?.execute([])?;
    Ok(value)
}

fn is_interrupted(problem: &ReadFailure) -> bool {
    matches!(problem, ReadFailure::Sql(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
}

fn saturating_nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// A reader of an empty file, and what the writer tells it.
    fn reader(dir: &tempfile::TempDir) -> (ReaderThread, Arc<StoreGauge>) {
        let gauge = Arc::new(StoreGauge::default());
        (ReaderThread::new(StoreConfig::new(dir.path()), gauge.clone(), Arc::default()), gauge)
    }

    /// Reads long enough that SQLite asks whether it may go on.
    fn long(reading: &ReadContext) -> Result<i64, ReadFailure> {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) FROM n";
        Ok(reading.db.query_row(sql, [], |row| row.get(0))?)
    }

    /// Reads while the writer needs the log at the first `yields` attempts.
    fn read_beside_writer(yields: usize) -> (Result<i64, ReadError>, usize) {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut reader, gauge) = reader(&dir);
        let attempts = AtomicUsize::new(0);
        let result = reader.read_with_retry(&|reading: &mut ReadContext| {
            if attempts.fetch_add(1, Ordering::Relaxed) < yields {
                gauge.interrupt_readers();
            }
            long(reading)
        });
        (result, attempts.into_inner())
    }

    #[test]
    fn a_read_that_yields_to_the_writer_begins_again() {
        for yields in 0..=YIELDS_MAX {
            let (result, attempts) = read_beside_writer(yields);
            assert_eq!((result.ok(), attempts), (Some(100_000), yields + 1));
        }
    }

    #[test]
    fn a_read_that_always_holds_the_log_up_ends() {
        let (result, attempts) = read_beside_writer(usize::MAX);
        assert!(matches!(result, Err(ReadError::Unavailable { .. })), "{result:?}");
        assert_eq!(attempts, YIELDS_MAX + 1);
    }

    #[test]
    fn a_read_whose_time_is_over_does_not_begin_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut reader, _) = reader(&dir);
        let limits = reader.limits.clone();
        let attempts = AtomicUsize::new(0);
        let result = reader.read_with_retry(&|reading: &mut ReadContext| {
            attempts.fetch_add(1, Ordering::Relaxed);
            limits.end_nanos.store(0, Ordering::Relaxed);
            long(reading)
        });
        assert!(matches!(result, Err(ReadError::Unavailable { .. })), "{result:?}");
        assert_eq!(attempts.into_inner(), 1);
    }

    #[test]
    fn damage_is_reported_only_after_a_second_look() {
        for (damaged_looks, is_damaged) in [(1, false), (2, true), (usize::MAX, true)] {
            let dir = tempfile::tempdir().expect("a directory");
            let (mut reader, gauge) = reader(&dir);
            let looks = AtomicUsize::new(0);
            let result = reader.read_with_retry(&|reading: &mut ReadContext| {
                if looks.fetch_add(1, Ordering::Relaxed) < damaged_looks {
                    return Err(ReadFailure::damaged_row("entry 3", "its body is missing"));
                }
                long(reading)
            });
            assert_eq!((result.is_err(), looks.into_inner()), (is_damaged, 2), "{damaged_looks}");
            let told = gauge.known_damage().map(|damage| (damage.problem, damage.met));
            let expected = is_damaged.then(|| ("entry 3: its body is missing".to_owned(), 1));
            assert_eq!(told, expected, "{damaged_looks}");
        }
    }

    #[tokio::test]
    async fn a_panicking_read_is_answered_and_its_thread_continues() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig { readers: 1, ..StoreConfig::new(dir.path()) };
        let readers = ReaderPool::start(&config, &Arc::default(), &Arc::default()).expect("a thread");
        let planted = readers.read(NODE, |reading: &mut ReadContext| -> Result<i64, ReadFailure> {
            let read = long(reading)?;
            panic!("planted after {read} rows")
        });
        let behind = readers.read(NODE, |reading: &mut ReadContext| long(reading));
        let answer = planted.await;
        assert!(matches!(answer, Err(ReadError::Unavailable { .. })), "{answer:?}");
        assert_eq!(behind.await, Ok(100_000));
        assert_eq!(readers.read(NODE, |reading: &mut ReadContext| long(reading)).await, Ok(100_000));
    }

    /// Fills the only thread and the line with reads of one tenant, then lets another one read: which of them is served when.
    async fn place_of_another(flood: TenantId, other: TenantId) -> usize {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig { readers: 1, ..StoreConfig::new(dir.path()) };
        let readers = ReaderPool::start(&config, &Arc::default(), &Arc::default()).expect("a thread");
        let served = Arc::new(AtomicUsize::new(0));
        let note = |tenant| {
            let served = Arc::clone(&served);
            readers.read(tenant, move |reading: &mut ReadContext| {
                long(reading)?;
                Ok(served.fetch_add(1, Ordering::SeqCst))
            })
        };
        let reads: Vec<_> = (0..20).map(|_| note(flood)).collect();
        let place = note(other).await.expect("it reads");
        for read in reads {
            read.await.expect("it reads");
        }
        place
    }

    #[tokio::test]
    async fn a_read_waits_for_at_most_two_of_another_tenant() {
        let (flood, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        assert!(place_of_another(flood, other).await <= 2);
    }

    /// Planted fault: as if all were of one tenant.
    #[tokio::test]
    async fn reads_that_are_served_as_they_come_are_caught() {
        let all = TenantId::from_bytes([1; 16]);
        assert_eq!(place_of_another(all, all).await, 20, "nothing notices it");
    }

    /// Of three threads, one tenant's long reads leave one.
    #[tokio::test]
    async fn long_reads_of_one_tenant_leave_a_thread_to_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let readers = ReaderPool::start(&StoreConfig::new(dir.path()), &Arc::default(), &Arc::default());
        let readers = readers.expect("threads");
        let (flood, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let mut stuck: Vec<_> = (0..6)
            .map(|_| {
                let held = Arc::clone(&held);
                readers.read(flood, move |_| {
                    // Let go, or the test has ended.
                    let _let_go = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                })
            })
            .collect();
        let read = readers.read(other, |reading: &mut ReadContext| long(reading));
        assert_eq!(read.await, Ok(100_000));
        drop(let_go);
        for stuck in stuck.drain(..) {
            assert_eq!(stuck.await, Ok(()));
        }
    }
}
