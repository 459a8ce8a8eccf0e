//! Panic recovery of the writer: a panic costs one group, whose outcome is unknown, and nothing more.
//!
//! A panic is a defect of this program. It must not end the thread: behind a dead one jobs would wait for ever. Nor may
//! it leave a transaction open, or what memory believes of rows that are rolled back. So the connection is closed,
//! which rolls back, and the file is reopened as after a failed disk. Callers that wait for a job of the group are
//! answered unknown, because the panic drops the senders of their answers.
//!
//! It does not play the group again: a batch that panics once does so again, and its caller asks again if it must.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::queue::WriterQueue;
use super::{StoreWriter, refuse_jobs};
use crate::apply::BodyKeys;
use crate::counters::StoreGauge;

/// Why the store answers reads only while the file is reopened.
const PANICKED: &str = "a defect of this program ended a write";
/// Why it answers reads only once its thread is gone.
const ENDED: &str = "a defect of this program ended the writer; restart the server";

impl StoreWriter {
    /// Does a piece of work. Nothing is returned if it panicked; the store takes writes again then, or is closed.
    pub(super) fn catch_panic<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if let Ok(done) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            return Some(done);
        }
        loop {
            self.seals.forget_heads();
            self.keys = BodyKeys::default();
            // What may be gone from the disk is gone from memory.
            self.recent.forget_groups();
            // It rests before each look at the file, so one that panics there is no spin.
            if catch_unwind(AssertUnwindSafe(|| self.fail_group(Vec::new(), PANICKED))).is_ok() {
                return None;
            }
        }
    }
}

/// Runs when the thread ends. If a panic ended it, the queue takes nothing more, callers that wait in it are refused,
/// and the store says that it answers reads only.
pub(super) struct WriterExitGuard {
    queue: Arc<WriterQueue>,
    gauge: Arc<StoreGauge>,
}

impl WriterExitGuard {
    pub(super) fn for_writer(writer: &StoreWriter) -> Self {
        Self { queue: Arc::clone(&writer.queue), gauge: Arc::clone(&writer.gauge) }
    }
}

impl Drop for WriterExitGuard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // It ended because its queue was closed and empty.
            return;
        }
        self.gauge.set_read_only(Some(ENDED.to_owned()));
        self.queue.close();
        let (_, jobs) = self.queue.wait_and_drain(Duration::ZERO);
        refuse_jobs(jobs, ENDED);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Wake, Waker};
    use std::time::Instant;

    use dromia_contracts::id::TenantId;
    use dromia_contracts::store::{CommitOutcome, CommitRefusal, ReadError, WriteBatch};
    use tokio::sync::oneshot;

    use super::super::queue::{BatchWrite, QueueRejection, WriterJob};
    use super::*;
    use crate::acknowledged_end::AcknowledgedEnd;
    use crate::config::StoreConfig;
    use crate::{erase, open};

    /// A writer of a new file.
    fn writer(dir: &tempfile::TempDir) -> StoreWriter {
        let config = StoreConfig::new(dir.path());
        let db = open::open_writer(&config).expect("a new file");
        let end = AcknowledgedEnd::open(&config).expect("a file");
        StoreWriter::new(config, db, Arc::default(), Arc::default(), Arc::default(), Arc::default(), end)
            .expect("a writer")
    }

    /// Adds a table, and panics if it is told to.
    fn add_table(writer: &mut StoreWriter, name: &str, panics: bool) -> Result<(), ReadError> {
        writer.run_in_transaction(|db| {
            db.execute_batch(&format!("CREATE TABLE {name} (n INTEGER)"))?;
            assert!(!panics, "planted");
            Ok(((), erase::UnlinkList::default()))
        })
    }

    fn has_table(writer: &StoreWriter, name: &str) -> bool {
        let db = writer.db.as_ref().expect("it is open");
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
        db.query_row(sql, [name], |row| row.get::<_, i64>(0)).expect("it reads") > 0
    }

    #[test]
    fn a_panic_in_a_transaction_rolls_back_and_writing_continues() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = writer(&dir);
        assert!(writer.catch_panic(|writer| add_table(writer, "planted", true)).is_none());
        assert_eq!(writer.gauge.read_only(), None, "the file is open again");
        assert!(!has_table(&writer, "planted"));
        assert_eq!(writer.catch_panic(|writer| add_table(writer, "next", false)), Some(Ok(())));
        assert!(has_table(&writer, "next"));
    }

    /// A caller that panics when it is told the answer, which happens on the writer's thread.
    struct Planted;

    impl Wake for Planted {
        fn wake(self: Arc<Self>) {
            panic!("planted");
        }
    }

    fn push(queue: &WriterQueue, tenant: u8) -> Result<oneshot::Receiver<CommitOutcome>, QueueRejection> {
        let (ack, answer) = oneshot::channel();
        let batch = WriteBatch::new(TenantId::from_bytes([tenant; 16]));
        queue.push(WriterJob::Write(BatchWrite { batch, ack })).map(|()| answer)
    }

    #[test]
    fn a_panic_in_the_writer_thread_answers_every_waiter() {
        let dir = tempfile::tempdir().expect("a directory");
        let writer = writer(&dir);
        let queue = Arc::clone(&writer.queue);
        let mut first = push(&queue, 1).expect("there is room");
        let waker = Waker::from(Arc::new(Planted));
        assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
        let second = push(&queue, 2).expect("there is room");

        let thread = std::thread::spawn(move || writer.run());
        assert!(second.blocking_recv().is_err(), "it was in the group; the store answers unknown");
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            let answer = push(&queue, 3).expect("the queue is open").blocking_recv();
            match answer.expect("it is answered") {
                CommitOutcome::Refused(CommitRefusal::ReadOnly { cause }) => assert_eq!(cause, PANICKED),
                _ => break,
            }
            assert!(Instant::now() < until, "the store takes no writes again");
        }
        queue.close();
        thread.join().expect("the thread lived on");
    }

    #[test]
    fn a_writer_thread_ended_by_panic_refuses_further_work() {
        let dir = tempfile::tempdir().expect("a directory");
        let writer = writer(&dir);
        let (queue, gauge) = (Arc::clone(&writer.queue), Arc::clone(&writer.gauge));
        let waiting = push(&queue, 1).expect("there is room");
        let thread = std::thread::spawn(move || {
            let _last = WriterExitGuard::for_writer(&writer);
            panic!("planted");
        });
        assert!(thread.join().is_err());
        let answer = waiting.blocking_recv().expect("it is answered");
        assert!(matches!(answer, CommitOutcome::Refused(CommitRefusal::ReadOnly { .. })), "{answer:?}");
        assert_eq!(push(&queue, 2).err(), Some(QueueRejection::Closed));
        assert_eq!(gauge.read_only().as_deref(), Some(ENDED));
    }
}
