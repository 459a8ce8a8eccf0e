//! The queue between what logs and standard error: a line is put into it at once, and a thread of its own writes it.
//!
//! A pipe without a reader blocks its writer. Here that is one thread that nothing waits for. A line that does not fit
//! into the queue is dropped and counted; the count is written as a line as soon as lines are taken again, and is in
//! `/metrics`.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use dromia_gateway::LogMeter;

/// The most bytes of lines that wait to be written.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Lines that wait, and what became of others.
#[derive(Debug, Default)]
struct LineQueueState {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread writes a line that is no longer in the queue.
    is_writing: bool,
    /// How many were dropped since the start.
    dropped: u64,
    /// How many of those a line has said.
    said: u64,
}

/// A bounded queue of lines with a thread that writes them.
#[derive(Debug, Default)]
pub(super) struct LineQueue {
    lines: Mutex<LineQueueState>,
    changed: Condvar,
    meter: OnceLock<LogMeter>,
}

impl LineQueue {
    /// Begins to write to an output, on a thread of its own.
    pub(super) fn start_writer(output: impl Write + Send + 'static) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_lines(output))?;
        Ok(queue)
    }

    /// Puts a line in, or drops it where the queue is full. Never waits for the output.
    pub(super) fn push_or_drop(&self, line: Vec<u8>) {
        let mut lines = self.lock_state();
        if lines.bytes.saturating_add(line.len()) > QUEUE_BYTES_MAX {
            lines.dropped += 1;
            let dropped = lines.dropped;
            drop(lines);
            if let Some(meter) = self.meter.get() {
                meter.set_dropped(dropped);
            }
            return;
        }
        lines.bytes += line.len();
        lines.waiting.push_back(line);
        drop(lines);
        self.changed.notify_all();
    }

    /// Says what counts the lines that are dropped; the first that is named stays.
    pub(super) fn count_with(&self, meter: LogMeter) {
        meter.set_dropped(self.lock_state().dropped);
        self.meter.get_or_init(|| meter);
    }

    /// Waits until every line is written, but no longer than so.
    pub(super) fn drain(&self, patience: Duration) {
        let is_open = |lines: &mut LineQueueState| lines.is_writing || !lines.waiting.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock_state(), patience, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes what comes, for as long as the process lives.
    fn write_lines(&self, mut output: impl Write) {
        loop {
            let line = self.next();
            // An output that takes no lines any more cannot report that either.
            let _ = output.write_all(&line).and_then(|()| output.flush());
            self.lock_state().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for the next line: how many were dropped, before those that come after them.
    fn next(&self) -> Vec<u8> {
        let is_empty = |lines: &mut LineQueueState| lines.waiting.is_empty() && lines.said == lines.dropped;
        let waited = self.changed.wait_while(self.lock_state(), is_empty);
        let mut lines = waited.unwrap_or_else(PoisonError::into_inner);
        lines.is_writing = true;
        if let Some(line) = lines.waiting.pop_front() {
            lines.bytes -= line.len();
            return line;
        }
        let dropped = lines.dropped - lines.said;
        lines.said = lines.dropped;
        format!("WARN dromia::log: dropped {dropped} lines, because this output was not read in time\n")
            .into_bytes()
    }

    // A panic under the lock cannot leave the lines half-written, so a poisoned lock is as good as another.
    fn lock_state(&self) -> MutexGuard<'_, LineQueueState> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    /// An output that takes a line each time that it is let to, and says on which thread.
    struct Pipe {
        reads: Receiver<()>,
        written: Sender<(ThreadId, Vec<u8>)>,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.written
                .send((std::thread::current().id(), line.to_vec()))
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.reads.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Written = Receiver<(ThreadId, Vec<u8>)>;

    fn pipe() -> (Pipe, Sender<()>, Written) {
        let ((reader, reads), (written, lines)) = (channel(), channel());
        (Pipe { reads, written }, reader, lines)
    }

    /// Whether the thread that logs a line writes none to the output.
    fn leaves_the_output_to_another(put: impl FnOnce(), lines: &Written) -> bool {
        put();
        lines.recv().expect("it is written").0 != std::thread::current().id()
    }

    #[test]
    fn logging_never_blocks_and_dropped_lines_are_counted() {
        let (pipe, reader, lines) = pipe();
        let queue = LineQueue::start_writer(pipe).expect("a thread");
        assert!(leaves_the_output_to_another(|| queue.push_or_drop(b"first".to_vec()), &lines));
        // The first one is being written, and nobody reads it.
        queue.push_or_drop(vec![b'x'; QUEUE_BYTES_MAX]);
        for _ in 0..1_000 {
            queue.push_or_drop(b"no room".to_vec());
        }
        assert_eq!(queue.lock_state().dropped, 1_000);
        queue.drain(Duration::ZERO);
        for _ in 0..3 {
            reader.send(()).expect("the output is there");
        }
        assert_eq!(lines.recv().expect("the long one").1.len(), QUEUE_BYTES_MAX);
        let said = String::from_utf8(lines.recv().expect("the count").1).expect("text");
        assert!(said.contains("dropped 1000 lines, because"), "{said}");
        queue.drain(Duration::from_mins(1));
        let lines = queue.lock_state();
        assert_eq!((lines.bytes, lines.said), (0, 1_000));
    }

    /// Planted fault: each line is written by whoever logs it.
    #[test]
    fn a_log_that_writes_where_it_is_called_is_caught() {
        let (mut pipe, reader, lines) = pipe();
        reader.send(()).expect("the output is there");
        let put = || pipe.write_all(b"first").expect("it is taken");
        assert!(!leaves_the_output_to_another(put, &lines), "nothing notices it");
    }
}
