//! The readers: a few threads, each with a connection that cannot write.
//!
//! A read is one transaction, sees one snapshot and ends after one page. If the writer needs the log to begin anew, it is
//! interrupted and begins again with a newer snapshot, at most [`YIELDS_MAX`] times; after five seconds in all it is
//! interrupted for good. What does not come to its end, be it by a panic, is [`ReadError::Unavailable`]. A row that does not
//! match its digest is [`ReadError::Damaged`] and is never given out; the gauge remembers the first one.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use dromia_contracts::store::{Read, ReadError};

use crate::apply::BodyKeys;
use crate::body::FileBodies;
use crate::config::{READ_TIME_MAX, READS_MAX, StoreConfig};
use crate::gauge::Gauge;
use crate::open;
use crate::read::recent::Recent;

/// How many times a read yields to the writer and begins again. Each takes a whole log full of writes, so one that is
/// interrupted more often is itself what holds the log up.
const YIELDS_MAX: usize = 8;

/// Why a read gives nothing.
#[derive(Debug)]
pub(crate) enum Problem {
    /// SQLite failed, or a column holds what nobody wrote.
    Sql(rusqlite::Error),
    /// A row does not match its digest.
    Damaged { place: String, problem: String },
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Problem {
    pub(crate) fn damaged(place: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Damaged { place: place.to_string(), problem: problem.into() }
    }
}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Damaged { place, problem } => Self::Damaged { place, problem },
            Problem::Sql(error) => match damaged_place(&error) {
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
pub(crate) struct Reading {
    pub(crate) db: Connection,
    pub(crate) keys: BodyKeys,
    pub(crate) files: FileBodies,
    pub(crate) recent: Arc<Recent>,
}

type Job = Box<dyn FnOnce(&mut Reader) + Send>;

/// The readers and their queue.
pub(crate) struct Readers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    pub(crate) fn start(
        config: &StoreConfig,
        gauge: &Arc<Gauge>,
        recent: &Arc<Recent>,
    ) -> std::io::Result<Self> {
        let mut readers = Self { queue: Arc::default(), threads: Vec::new() };
        for number in 0..config.readers.clamp(1, 4) {
            let queue = readers.queue.clone();
            let mut reader = Reader::new(config.clone(), gauge.clone(), recent.clone());
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || reader.run(&queue))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs a read on one of the threads.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&mut Reading) -> Result<T, Problem> + Send + 'static,
    ) -> Read<'static, T> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            // Nobody reads for a caller that went away.
            if !tx.is_closed() {
                drop(tx.send(reader.read(&read)));
            }
        });
        let mut waiting = self.queue.lock();
        let refused = if waiting.closed {
            Some("the store is closed")
        } else if waiting.jobs.len() >= READS_MAX {
            Some("too many reads wait")
        } else {
            waiting.jobs.push_back(job);
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

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Drop for Readers {
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
struct Reader {
    config: StoreConfig,
    gauge: Arc<Gauge>,
    recent: Arc<Recent>,
    /// When the current read must end, in nanoseconds after `epoch`, and the yields it may live through.
    limits: Arc<Limits>,
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Limits {
    epoch: Instant,
    end_nanos: AtomicU64,
    yields: AtomicU64,
}

impl Limits {
    fn is_over(&self) -> bool {
        nanos(self.epoch.elapsed()) > self.end_nanos.load(Ordering::Relaxed)
    }
}

impl Reader {
    fn new(config: StoreConfig, gauge: Arc<Gauge>, recent: Arc<Recent>) -> Self {
        let limits =
            Limits { epoch: Instant::now(), end_nanos: AtomicU64::new(0), yields: AtomicU64::new(0) };
        Self { config, gauge, recent, limits: Arc::new(limits), reading: None }
    }

    fn run(&mut self, queue: &Queue) {
        loop {
            let waiting = queue.lock();
            let mut waiting = queue
                .changed
                .wait_while(waiting, |waiting| waiting.jobs.is_empty() && !waiting.closed)
                .unwrap_or_else(PoisonError::into_inner);
            let Some(job) = waiting.jobs.pop_front() else { return };
            drop(waiting);
            // The thread outlives the read: behind a dead one reads would wait for ever. Its caller is answered, because what
            // it would have been told with is dropped.
            if catch_unwind(AssertUnwindSafe(|| job(self))).is_err() {
                self.reading = None;
                tracing::error!("a read panicked; its connection is opened anew");
            }
        }
    }

    /// Reads, and where that meets damage reads once more: an erasure takes the file of a body away under a snapshot that is
    /// older, and a newer one knows better. What is damaged is so again.
    fn read<T>(&mut self, read: &impl Fn(&mut Reading) -> Result<T, Problem>) -> Result<T, ReadError> {
        let end = self.limits.epoch.elapsed() + READ_TIME_MAX;
        self.limits.end_nanos.store(nanos(end), Ordering::Relaxed);
        let mut result = self.look(read);
        if matches!(result, Err(ReadError::Damaged { .. })) {
            result = self.look(read);
        }
        if let Err(ReadError::Damaged { place, problem }) = &result {
            self.gauge.meet_damage(place, problem);
        }
        result
    }

    /// Reads once, and again after each time that it yielded.
    fn look<T>(&mut self, read: &impl Fn(&mut Reading) -> Result<T, Problem>) -> Result<T, ReadError> {
        for _ in 0..YIELDS_MAX {
            match self.attempt(read) {
                Err(problem) if is_interrupted(&problem) && !self.limits.is_over() => {}
                result => return result.map_err(ReadError::from),
            }
        }
        self.attempt(read).map_err(ReadError::from)
    }

    fn attempt<T>(&mut self, read: &impl Fn(&mut Reading) -> Result<T, Problem>) -> Result<T, Problem> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.open()?,
        };
        self.limits.yields.store(self.gauge.yields(), Ordering::Relaxed);
        let result = snapshot(&mut reading, read);
        // After a failure nobody knows what state the connection is in; a new one costs less than a millisecond.
        if result.is_ok() && reading.db.is_autocommit() {
            self.reading = Some(reading);
        }
        result
    }

    fn open(&self) -> rusqlite::Result<Reading> {
        let mut db = open::open_reader(&self.config)?;
        let (limits, gauge) = (self.limits.clone(), self.gauge.clone());
        let expired = move || limits.is_over() || gauge.yields() != limits.yields.load(Ordering::Relaxed);
        db.progress_handler(1_000, Some(expired))?;
        Ok(Reading {
            db,
            keys: BodyKeys::default(),
            files: FileBodies::new(self.config.blobs()),
            recent: self.recent.clone(),
        })
    }
}

fn snapshot<T>(
    reading: &mut Reading,
    read: &impl Fn(&mut Reading) -> Result<T, Problem>,
) -> Result<T, Problem> {
    reading.db.prepare_cached("BEGIN")?.execute([])?;
    let value = read(reading)?;
    reading.db.prepare_cached("COMMIT")?.execute([])?;
    Ok(value)
}

fn is_interrupted(problem: &Problem) -> bool {
    matches!(problem, Problem::Sql(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// A reader of an empty file, and what the writer tells it.
    fn reader(dir: &tempfile::TempDir) -> (Reader, Arc<Gauge>) {
        let gauge = Arc::new(Gauge::default());
        (Reader::new(StoreConfig::new(dir.path()), gauge.clone(), Arc::default()), gauge)
    }

    /// Reads long enough that SQLite asks whether it may go on.
    fn long(reading: &Reading) -> Result<i64, Problem> {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) FROM n";
        Ok(reading.db.query_row(sql, [], |row| row.get(0))?)
    }

    /// Reads while the writer needs the log at the first `yields` attempts.
    fn read_beside_writer(yields: usize) -> (Result<i64, ReadError>, usize) {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut reader, gauge) = reader(&dir);
        let attempts = AtomicUsize::new(0);
        let result = reader.read(&|reading: &mut Reading| {
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
        let result = reader.read(&|reading: &mut Reading| {
            attempts.fetch_add(1, Ordering::Relaxed);
            limits.end_nanos.store(0, Ordering::Relaxed);
            long(reading)
        });
        assert!(matches!(result, Err(ReadError::Unavailable { .. })), "{result:?}");
        assert_eq!(attempts.into_inner(), 1);
    }

    #[test]
    fn what_is_damaged_is_so_at_a_second_look() {
        for (damaged_looks, is_damaged) in [(1, false), (2, true), (usize::MAX, true)] {
            let dir = tempfile::tempdir().expect("a directory");
            let (mut reader, gauge) = reader(&dir);
            let looks = AtomicUsize::new(0);
            let result = reader.read(&|reading: &mut Reading| {
                if looks.fetch_add(1, Ordering::Relaxed) < damaged_looks {
                    return Err(Problem::damaged("entry 3", "its body is missing"));
                }
                long(reading)
            });
            assert_eq!((result.is_err(), looks.into_inner()), (is_damaged, 2), "{damaged_looks}");
            let told = gauge.damaged().map(|damage| (damage.problem, damage.met));
            let expected = is_damaged.then(|| ("entry 3: its body is missing".to_owned(), 1));
            assert_eq!(told, expected, "{damaged_looks}");
        }
    }

    #[tokio::test]
    async fn a_read_that_panics_is_answered_and_its_thread_reads_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig { readers: 1, ..StoreConfig::new(dir.path()) };
        let readers = Readers::start(&config, &Arc::default(), &Arc::default()).expect("a thread");
        let planted = readers.read(|reading: &mut Reading| -> Result<i64, Problem> {
            let read = long(reading)?;
            panic!("planted after {read} rows")
        });
        let behind = readers.read(|reading: &mut Reading| long(reading));
        let answer = planted.await;
        assert!(matches!(answer, Err(ReadError::Unavailable { .. })), "{answer:?}");
        assert_eq!(behind.await, Ok(100_000));
        assert_eq!(readers.read(|reading: &mut Reading| long(reading)).await, Ok(100_000));
    }
}
