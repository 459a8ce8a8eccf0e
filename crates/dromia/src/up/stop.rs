//! The word to stop: SIGTERM or Ctrl-C. The first has the server drain, the second has it end as it stands.
//!
//! Nothing is lost by the second: a run that did not end is taken over at the next start, as after a crash.

use std::time::Duration;

use dromia_cli::output::counted;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who gave the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// A person at the terminal, who waits.
    Interrupt,
    /// Whatever looks after the process.
    Terminate,
}

/// Hears the word each time that it is given.
pub(super) struct Ear {
    terminate: Signal,
    interrupt: Signal,
}

impl Ear {
    /// Begins to listen; what is said from here on is heard.
    pub(super) fn open() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next word.
    pub(super) async fn word(&mut self) -> Word {
        tokio::select! {
            _ = self.terminate.recv() => Word::Terminate,
            _ = self.interrupt.recv() => Word::Interrupt,
        }
    }

    /// Waits until the word was given twice.
    pub(super) async fn twice(&mut self) {
        self.word().await;
        self.word().await;
    }
}

/// Tells a person what is waited for, and how long at most.
pub(super) fn told(active: usize, drain: Duration) -> String {
    let are = if active == 1 { "is" } else { "are" };
    let seconds = drain.as_millis().div_ceil(1000);
    format!(
        "stopping: {} {are} open; up to {seconds} s, and Ctrl-C again ends it at once",
        counted(active, "run")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_what_is_waited_for_and_how_long() {
        let told = |active| told(active, Duration::from_millis(3_500));
        assert_eq!(told(1), "stopping: 1 run is open; up to 4 s, and Ctrl-C again ends it at once");
        assert_eq!(told(0), "stopping: 0 runs are open; up to 4 s, and Ctrl-C again ends it at once");
    }
}
