//! What Ctrl-C does: it ends the command, unless the command caught it.
//!
//! A command catches one Ctrl-C and says itself what that one does, such as cancelling the run that it follows. The next
//! one ends the command whatever it does then, so a person always gets out; a command that wants that one as well
//! catches again. Signals are heard by `run_command` alone.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Where the next Ctrl-C goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct InterruptSeam {
    catcher: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    was_caught: Arc<AtomicBool>,
}

impl InterruptSeam {
    /// Catches the next Ctrl-C, until what this returns is dropped. A later catch takes the place of an earlier one.
    pub(crate) fn catch_next(&self) -> InterruptCatch {
        let (sender, receiver) = oneshot::channel();
        *self.catcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        InterruptCatch { receiver: Some(receiver) }
    }

    /// Gives a Ctrl-C to the command; false if the command caught none, so it ends.
    pub(crate) fn hand_over(&self) -> bool {
        let catcher = self.catcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_caught = catcher.is_some_and(|catcher| catcher.send(()).is_ok());
        self.was_caught.fetch_or(is_caught, Ordering::Relaxed);
        is_caught
    }

    /// Whether the command was given a Ctrl-C.
    pub(crate) fn was_caught(&self) -> bool {
        self.was_caught.load(Ordering::Relaxed)
    }
}

/// One Ctrl-C that a command does something about.
#[derive(Debug)]
pub(crate) struct InterruptCatch {
    receiver: Option<oneshot::Receiver<()>>,
}

impl InterruptCatch {
    /// Waits until Ctrl-C is pressed; once it was, this waits for ever. It may be dropped and called again.
    pub(crate) async fn caught(&mut self) {
        let is_pressed = match &mut self.receiver {
            Some(receiver) => receiver.await.is_ok(),
            None => false,
        };
        self.receiver = None;
        if !is_pressed {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caught_interrupt_is_handed_over_once() {
        let seam = InterruptSeam::default();
        assert!(!seam.hand_over(), "a command that caught nothing ends");
        let mut interrupt = seam.catch_next();
        assert!(seam.hand_over());
        assert!(!seam.hand_over(), "the second ends it");
        interrupt.caught().await;
        assert!(seam.was_caught());
        drop(seam.catch_next());
        assert!(!seam.hand_over(), "a command that no longer looks ends");
    }

    #[tokio::test]
    async fn a_dropped_wait_loses_no_interrupt() {
        let seam = InterruptSeam::default();
        let mut interrupt = seam.catch_next();
        tokio::select! {
            biased;
            () = interrupt.caught() => panic!("nobody pressed it"),
            () = std::future::ready(()) => {}
        }
        assert!(seam.hand_over());
        interrupt.caught().await;
    }
}
