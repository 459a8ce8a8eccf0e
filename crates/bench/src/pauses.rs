//! How much of the time the machine ran nothing of ours: a shared machine may stop for a while, and then every latency
//! is its own.
//!
//! A thread that sleeps a millisecond at a time sees each pause as a sleep that took much longer. Threads that want the
//! processor at the same time delay it as well, by a few milliseconds; what counts here is longer than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::report::BenchGoal;

const STEP: Duration = Duration::from_millis(1);
/// A longer gap is a pause.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// A watch for pauses, from its start to its end.
pub(crate) struct PauseMonitor {
    over: Arc<AtomicBool>,
    thread: JoinHandle<PauseTotals>,
}

#[derive(Debug, Clone, Copy, Default)]
struct PauseTotals {
    whole: Duration,
    paused: Duration,
    longest: Duration,
}

impl PauseTotals {
    fn add_gap(&mut self, gap: Duration) {
        self.whole += gap;
        if gap >= PAUSE_MIN {
            self.paused += gap;
            self.longest = self.longest.max(gap);
        }
    }
}

impl PauseMonitor {
    /// Begins to watch.
    pub(crate) fn start_watching() -> anyhow::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = std::thread::Builder::new().name("pauses".to_owned()).spawn(move || {
            let mut seen = PauseTotals::default();
            let mut last = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(STEP);
                let now = Instant::now();
                seen.add_gap(now - last);
                last = now;
            }
            seen
        });
        Ok(Self { over, thread: thread.context("failed to start the watch for pauses")? })
    }

    /// Ends the watch and returns what it measured.
    pub(crate) fn finish_goals(self) -> anyhow::Result<Vec<BenchGoal>> {
        self.over.store(true, Ordering::Relaxed);
        let Ok(seen) = self.thread.join() else { anyhow::bail!("the watch for pauses panicked") };
        let share = seen.paused.as_secs_f64() / seen.whole.as_secs_f64().max(f64::MIN_POSITIVE) * 100.0;
        let longest = seen.longest.as_secs_f64() * 1000.0;
        Ok(vec![
            BenchGoal::without_target(
                "M.paused",
                share,
                "%",
                "of the time the machine ran nothing of this, 50 ms or more in a row",
            ),
            BenchGoal::without_target(
                "M.longest",
                longest,
                "ms",
                "the longest such pause; no latency is below it",
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gaps_are_pauses() {
        let mut seen = PauseTotals::default();
        for gap in [1, 10, 49, 50, 200] {
            seen.add_gap(Duration::from_millis(gap));
        }
        assert_eq!(seen.paused, Duration::from_millis(250));
        assert_eq!((seen.whole, seen.longest), (Duration::from_millis(310), Duration::from_millis(200)));
    }
}
