//! How far a copy is, shown to a person at a terminal, and how it is stopped: Ctrl-C and SIGTERM end it at the next step,
//! and the code that wrote a half file removes it.

use std::io::{self, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

const MIB: u64 = 1 << 20;
/// How often the line changes.
const EVERY: Duration = Duration::from_millis(100);

/// The work was stopped by a signal.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub(super) struct StoppedBySignal;

/// Shows how far the work is, and says when it must end.
#[derive(Debug)]
pub(super) struct CopyWatch {
    is_terminal: bool,
    is_stopped: Arc<AtomicBool>,
    shown_at: Option<Instant>,
}

impl CopyWatch {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, is_stopped: Arc::default(), shown_at: None }
    }

    /// Shows a step, such as `store: 12 of 80 MiB`, and fails if the work has to end.
    pub(super) fn note_step(&mut self, what: &str, done: u64, total: Option<u64>) -> anyhow::Result<()> {
        if self.is_stopped.load(Ordering::Relaxed) {
            return Err(StoppedBySignal.into());
        }
        if self.is_terminal && self.shown_at.is_none_or(|at| at.elapsed() > EVERY) {
            self.shown_at = Some(Instant::now());
            let done = done / MIB;
            let text = total.map_or_else(
                || format!("{what}: {done} MiB"),
                |total| format!("{what}: {done} of {} MiB", total.div_ceil(MIB)),
            );
            show_line(&text);
        }
        Ok(())
    }

    fn clear_line(&self) {
        if self.shown_at.is_some() {
            show_line("");
        }
    }
}

fn show_line(text: &str) {
    let mut err = anstream::stderr().lock();
    // A line of progress that cannot be shown is no reason to end the work.
    drop(write!(err, "\r{text}\u{1b}[K").and_then(|()| err.flush()));
}

impl Drop for CopyWatch {
    fn drop(&mut self) {
        self.clear_line();
    }
}

/// Shows how far a read is, and ends it when the work has to end.
pub(super) struct WatchedRead<'a> {
    pub(super) inner: &'a mut dyn Read,
    pub(super) watch: &'a mut CopyWatch,
    pub(super) what: &'static str,
    /// Bytes that were read, with those of members before.
    pub(super) bytes: u64,
}

impl Read for WatchedRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watch.note_step(self.what, self.bytes, None).map_err(io::Error::other)?;
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Does work in a thread of its own, and returns nothing if a signal ended it.
pub(super) fn run_stoppable<T: Send + 'static>(
    mut watch: CopyWatch,
    work: impl FnOnce(&mut CopyWatch) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<Option<T>> {
    // A copy must not take the processor from a server beside it; where this fails, it is only slower there.
    let _as_it_was = rustix::process::nice(10);
    let flag = Arc::clone(&watch.is_stopped);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = tokio.block_on(async move {
        let mut terminate = signal(SignalKind::terminate()).context("failed to listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for signals")?;
        let mut thread = tokio::task::spawn_blocking(move || work(&mut watch));
        tokio::select! {
            ended = &mut thread => return ended.context("the copy failed")?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        flag.store(true, Ordering::Relaxed);
        thread.await.context("the copy failed")?
    });
    match ended {
        Err(error) if error.is::<StoppedBySignal>() => Ok(None),
        ended => ended.map(Some),
    }
}
