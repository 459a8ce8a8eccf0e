//! What becomes of a panic in the writer: a group of which nobody knows, and nothing more.
//!
//! A panic is a defect of this program. It must not end the thread: behind a dead one jobs would wait for ever. Nor may it
//! leave a transaction open, or what memory believes of rows that are rolled back. So the connection is closed, which rolls
//! back, and the file is opened anew as after a disk that failed. Whoever waits for a job of the group is answered unknown,
//! because what it would have been told with is dropped.
//!
//! It does not play the group again: a batch that panics once does so again, and its caller asks again if it must.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::queue::Queue;
use super::{Writer, refuse};
use crate::apply::BodyKeys;
use crate::gauge::Gauge;

/// Why the store answers reads only while the file is opened anew.
const PANICKED: &str = "a defect of this program ended a write";
/// Why it answers reads only once its thread is gone.
const ENDED: &str = "a defect of this program ended the writer; start the program again";

impl Writer {
    /// Does a piece of work. Nothing is returned if it panicked; the store takes writes again then, or is closed.
    pub(super) fn mind<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if let Ok(done) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            return Some(done);
        }
        loop {
            self.seals.forget();
            self.keys = BodyKeys::default();
            // What may be gone from the disk is gone from memory.
            self.recent.erase();
            // It rests before each look at the file, so one that panics there is no spin.
            if catch_unwind(AssertUnwindSafe(|| self.fail(Vec::new(), PANICKED))).is_ok() {
                return None;
            }
        }
    }
}

/// Has the last word when the thread ends. If a panic ended it, the queue takes nothing more, whoever waits in it is
/// refused, and the store says that it answers reads only.
pub(super) struct Last {
    queue: Arc<Queue>,
    gauge: Arc<Gauge>,
}

impl Last {
    pub(super) fn of(writer: &Writer) -> Self {
        Self { queue: Arc::clone(&writer.queue), gauge: Arc::clone(&writer.gauge) }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // It ended because its queue was closed and empty.
            return;
        }
        self.gauge.set_read_only(Some(ENDED.to_owned()));
        self.queue.close();
        let (_, jobs) = self.queue.pause(Duration::ZERO);
        refuse(jobs, ENDED);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Wake, Waker};
    use std::time::Instant;

    use dromia_contracts::id::TenantId;
    use dromia_contracts::store::{Batch, Commit, ReadError, Refusal};
    use tokio::sync::oneshot;

    use super::super::queue::{Job, Rejected, Write};
    use super::*;
    use crate::config::StoreConfig;
    use crate::{erase, open};

    /// A writer of a new file.
    fn writer(dir: &tempfile::TempDir) -> Writer {
        let config = StoreConfig::new(dir.path());
        let db = open::open_writer(&config).expect("a new file");
        Writer::new(config, db, Arc::default(), Arc::default(), Arc::default()).expect("a writer")
    }

    /// Adds a table, and panics if it is told to.
    fn add_table(writer: &mut Writer, name: &str, panics: bool) -> Result<(), ReadError> {
        writer.alone(|db| {
            db.execute_batch(&format!("CREATE TABLE {name} (n INTEGER)"))?;
            assert!(!panics, "planted");
            Ok(((), erase::Unlink::default()))
        })
    }

    fn has_table(writer: &Writer, name: &str) -> bool {
        let db = writer.db.as_ref().expect("it is open");
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
        db.query_row(sql, [name], |row| row.get::<_, i64>(0)).expect("it reads") > 0
    }

    #[test]
    fn a_panic_within_a_transaction_leaves_nothing_of_it_and_the_next_one_stands() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = writer(&dir);
        assert!(writer.mind(|writer| add_table(writer, "planted", true)).is_none());
        assert_eq!(writer.gauge.read_only(), None, "the file is open again");
        assert!(!has_table(&writer, "planted"));
        assert_eq!(writer.mind(|writer| add_table(writer, "next", false)), Some(Ok(())));
        assert!(has_table(&writer, "next"));
    }

    /// A caller that panics when it is told the answer, which happens on the writer's thread.
    struct Planted;

    impl Wake for Planted {
        fn wake(self: Arc<Self>) {
            panic!("planted");
        }
    }

    fn push(queue: &Queue, tenant: u8) -> Result<oneshot::Receiver<Commit>, Rejected> {
        let (ack, answer) = oneshot::channel();
        let batch = Batch::new(TenantId::from_bytes([tenant; 16]));
        queue.push(Job::Write(Write { batch, ack })).map(|()| answer)
    }

    #[test]
    fn a_panic_in_the_thread_is_caught_and_nobody_waits_for_ever() {
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
                Commit::Refused(Refusal::ReadOnly { cause }) => assert_eq!(cause, PANICKED),
                _ => break,
            }
            assert!(Instant::now() < until, "the store takes no writes again");
        }
        queue.close();
        thread.join().expect("the thread lived on");
    }

    #[test]
    fn a_thread_that_ends_by_a_panic_leaves_nobody_waiting_and_takes_nothing_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let writer = writer(&dir);
        let (queue, gauge) = (Arc::clone(&writer.queue), Arc::clone(&writer.gauge));
        let waiting = push(&queue, 1).expect("there is room");
        let thread = std::thread::spawn(move || {
            let _last = Last::of(&writer);
            panic!("planted");
        });
        assert!(thread.join().is_err());
        let answer = waiting.blocking_recv().expect("it is answered");
        assert!(matches!(answer, Commit::Refused(Refusal::ReadOnly { .. })), "{answer:?}");
        assert_eq!(push(&queue, 2).err(), Some(Rejected::Closed));
        assert_eq!(gauge.read_only().as_deref(), Some(ENDED));
    }
}
