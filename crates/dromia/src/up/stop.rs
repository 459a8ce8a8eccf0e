//! The signals to stop: SIGTERM or Ctrl-C. The first makes the server drain, the second ends it at once.
//!
//! Nothing is lost by the second: a run that did not end is taken over at the next start, as after a crash.

use std::time::Duration;

use dromia_cli::output::count_noun;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who sent the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopSignal {
    /// A person at the terminal, who waits.
    Interrupt,
    /// Whatever looks after the process.
    Terminate,
}

/// Receives the signals, each time that one is sent.
pub(super) struct StopListener {
    terminate: Signal,
    interrupt: Signal,
}

impl StopListener {
    /// Begins to listen; signals from here on are received.
    pub(super) fn start_listening() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub(super) async fn next_signal(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

/// Has a write beyond the limit of file sizes fail where it is made, instead of ending the process by SIGXFSZ. Counts for the life of
/// the process, whether or not what is given back is kept.
pub(super) fn outlive_file_size() -> std::io::Result<Signal> {
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
}

/// Tells a person what is waited for, and how long at most.
pub(super) fn draining_text(active: usize, drain: Duration) -> String {
    let are = if active == 1 { "is" } else { "are" };
    let seconds = drain.as_millis().div_ceil(1000);
    format!(
        "stopping: {} {are} open; waiting up to {seconds} s; press Ctrl-C again to stop at once",
        count_noun(active, "run")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopping_server_names_open_runs_and_the_longest_wait() {
        let told = |active| draining_text(active, Duration::from_millis(3_500));
        assert_eq!(told(1), "stopping: 1 run is open; waiting up to 4 s; press Ctrl-C again to stop at once");
        assert_eq!(
            told(0),
            "stopping: 0 runs are open; waiting up to 4 s; press Ctrl-C again to stop at once"
        );
    }
}
