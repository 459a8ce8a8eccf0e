//! The live output of a running program, handed to its observers.
//!
//! Invariant: the program never waits for an observer here, and what is handed on is bounded: pieces of at most
//! [`LIVE_PIECE_BYTES_MAX`] bytes, [`BYTES_PER_SECOND`] a second, 256 pieces a second. Faster output waits in a buffer
//! of one piece, which drops its oldest bytes; the offsets show that. The result of the call has all of the output.
//!
//! Text is cut between characters; what is no UTF-8 is replaced.

use std::time::Duration;

use dromia_contracts::runtime::Clock;
use dromia_contracts::tool::{CallProgressSink, LIVE_PIECE_BYTES_MAX};

/// The most bytes of one call that are handed on in a second; so many may come at once.
const BYTES_PER_SECOND: usize = 64 << 10;

/// What a piece counts at least, so that small pieces are bounded too.
const PIECE_COST_MIN: usize = 256;

/// How long one byte of replaced text may be.
const REPLACED_BYTES: usize = '\u{fffd}'.len_utf8();

/// The voice of one call.
pub(crate) struct OutputStreamer<'a> {
    pieces: &'a dyn CallProgressSink,
    clock: &'a dyn Clock,
    /// What was not handed on yet.
    waiting: Vec<u8>,
    /// Where in the output it begins.
    offset: u64,
    /// How many bytes may go out now, and since when that is so by the steady clock: a wall clock that is set neither stops
    /// live output nor lets more of it out.
    room: usize,
    at: Duration,
}

impl<'a> OutputStreamer<'a> {
    pub(crate) fn new(pieces: &'a dyn CallProgressSink, clock: &'a dyn Clock) -> Self {
        Self {
            pieces,
            clock,
            waiting: Vec::new(),
            offset: 0,
            room: BYTES_PER_SECOND,
            at: clock.monotonic_now(),
        }
    }

    /// Takes what was written.
    pub(crate) fn push_output(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(LIVE_PIECE_BYTES_MAX) {
            self.waiting.extend_from_slice(piece);
            self.send_due();
            self.leave_out(self.waiting.len().saturating_sub(LIVE_PIECE_BYTES_MAX));
        }
    }

    /// Hands on what may go out now.
    pub(crate) fn send_due(&mut self) {
        let passed = self.clock.monotonic_now().saturating_sub(self.at).as_millis();
        // Whole milliseconds, of which nothing is lost.
        self.at = self.at.saturating_add(Duration::from_millis(u64::try_from(passed).unwrap_or(u64::MAX)));
        let more = usize::try_from(passed).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_SECOND / 1000);
        self.room = self.room.saturating_add(more).min(BYTES_PER_SECOND);
        while let Some(length) = self.next() {
            let cost = length.max(PIECE_COST_MIN);
            if cost > self.room {
                return;
            }
            self.room -= cost;
            self.hand_on(length);
        }
    }

    /// Returns how long it takes until what waits may go out; nothing if nothing waits.
    pub(crate) fn next_due_at(&self) -> Option<Duration> {
        let short = self.next()?.max(PIECE_COST_MIN).saturating_sub(self.room);
        let wait = u64::try_from(short.div_ceil(BYTES_PER_SECOND / 1000)).unwrap_or(u64::MAX);
        let passed = self.clock.monotonic_now().saturating_sub(self.at);
        Some(Duration::from_millis(wait).saturating_sub(passed))
    }

    /// Hands on what is left, the last of it, however much went out before.
    pub(crate) fn flush_rest(&mut self) {
        self.send_due();
        while !self.waiting.is_empty() {
            self.hand_on(self.next().unwrap_or(self.waiting.len()));
        }
    }

    /// Returns the length of the next piece; nothing if there is no whole character.
    fn next(&self) -> Option<usize> {
        let most = &self.waiting[..self.waiting.len().min(LIVE_PIECE_BYTES_MAX)];
        let most = &most[..before_half_character(most)];
        // A byte that is replaced grows.
        let length = match std::str::from_utf8(most) {
            Ok(_) => most.len(),
            Err(_) => before_half_character(&most[..most.len().min(LIVE_PIECE_BYTES_MAX / REPLACED_BYTES)]),
        };
        (length > 0).then_some(length)
    }

    fn hand_on(&mut self, length: usize) {
        let text = String::from_utf8_lossy(&self.waiting[..length]);
        self.pieces.push_piece(self.offset, length as u64, &text);
        drop(text);
        self.leave_out(length);
    }

    fn leave_out(&mut self, length: usize) {
        self.waiting.drain(..length);
        self.offset += length as u64;
    }
}

/// Counts the bytes before a character at the end that is not there as a whole.
fn before_half_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let needs = match bytes[at] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return bytes.len(),
        };
        return if back < needs { at } else { bytes.len() };
    }
    bytes.len()
}

/// Waits so long, for ever if there is no time.
pub(crate) async fn pause(clock: &dyn Clock, wait: Option<Duration>) {
    match wait {
        Some(wait) => clock.sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use dromia_contracts::BoxFuture;
    use jiff::Timestamp;

    use super::*;

    /// Goes on by hand; its wall clock is set by hand, too.
    #[derive(Debug, Default)]
    struct Stopped {
        steady_ms: AtomicU64,
        wall_ms: AtomicI64,
    }

    impl Stopped {
        fn pass(&self, wait: Duration) {
            let ms = u64::try_from(wait.as_millis()).expect("a short time");
            self.steady_ms.fetch_add(ms, Ordering::SeqCst);
            self.wall_ms.fetch_add(ms.cast_signed(), Ordering::SeqCst);
        }
    }

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_millisecond(self.wall_ms.load(Ordering::SeqCst)).expect("a time")
        }

        fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }

        fn monotonic_now(&self) -> Duration {
            Duration::from_millis(self.steady_ms.load(Ordering::SeqCst))
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<(u64, u64, String)>>);

    impl CallProgressSink for Kept {
        fn push_piece(&self, offset: u64, bytes: u64, text: &str) {
            self.0.lock().expect("nobody panicked").push((offset, bytes, text.to_owned()));
        }
    }

    impl Kept {
        fn take(&self) -> Vec<(u64, u64, String)> {
            std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
        }
    }

    #[test]
    fn live_text_is_cut_between_characters_and_flushed_whole() {
        let (clock, kept) = (Stopped::default(), Kept::default());
        let mut voice = OutputStreamer::new(&kept, &clock);
        for bytes in [&b"a\xc3"[..], b"\xa9\xf0\x9f", b"\x98\x80b\xff", b"\xe2\x82"] {
            voice.push_output(bytes);
        }
        voice.flush_rest();
        let said = kept.take();
        let text: String = said.iter().map(|(_, _, text)| text.as_str()).collect();
        assert_eq!(text, "aé😀b\u{fffd}\u{fffd}");
        let mut next = 0;
        for (offset, bytes, _) in said {
            assert_eq!(offset, next, "nothing was left out");
            next = offset + bytes;
        }
        assert_eq!(next, 11);
    }

    #[test]
    fn a_live_flood_is_bounded_and_reports_what_is_omitted() {
        for (flood, piece) in
            [(vec![b'x'; 1 << 20], 1 << 20), (vec![b'y'; 10_000], 1), (vec![0xff; 1 << 20], 999)]
        {
            let (clock, kept) = (Stopped::default(), Kept::default());
            let mut voice = OutputStreamer::new(&kept, &clock);
            flood.chunks(piece).for_each(|bytes| voice.push_output(bytes));
            let first = kept.take();
            let bytes: u64 = first.iter().map(|(_, bytes, _)| bytes).sum();
            assert!(bytes <= BYTES_PER_SECOND as u64 && first.len() <= BYTES_PER_SECOND / PIECE_COST_MIN);
            assert!(!first.is_empty() && first.iter().all(|(_, _, text)| text.len() <= LIVE_PIECE_BYTES_MAX));
            let due = voice.next_due_at().expect("something waits");
            clock.pass(due);
            voice.send_due();
            let mut later = kept.take();
            assert!(!later.is_empty(), "it goes on when it is due");
            voice.flush_rest();
            later.extend(kept.take());
            let (offset, bytes, _) = later.pop().expect("something was said");
            assert_eq!(offset + bytes, flood.len() as u64, "the end is said");
            assert_eq!(voice.next_due_at(), None);
        }
    }

    /// Says how many pieces go out after a flood when the wall clock was set, which `stopped` holds, and no time passed.
    fn pieces_after_a_step(by_ms: i64, clock: &dyn Clock, stopped: &Stopped) -> usize {
        let kept = Kept::default();
        let mut voice = OutputStreamer::new(&kept, clock);
        voice.push_output(&vec![b'x'; 1 << 20]);
        kept.take();
        stopped.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        voice.send_due();
        kept.take().len()
    }

    #[test]
    fn a_wall_clock_change_neither_raises_nor_stops_live_output() {
        for by_ms in [3_600_000, -3_600_000] {
            let clock = Stopped::default();
            assert_eq!(pieces_after_a_step(by_ms, &clock, &clock), 0, "{by_ms}");
            let (clock, kept) = (Stopped::default(), Kept::default());
            let mut voice = OutputStreamer::new(&kept, &clock);
            voice.push_output(&vec![b'x'; 1 << 20]);
            kept.take();
            clock.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
            let due = voice.next_due_at().expect("something waits");
            assert!(due <= Duration::from_secs(1), "{by_ms}: {due:?}");
            clock.pass(due);
            voice.send_due();
            assert!(!kept.take().is_empty(), "it goes on: {by_ms}");
        }
    }

    /// Planted fault: the rate is reckoned by the wall clock.
    #[test]
    fn a_rate_by_the_wall_clock_is_caught() {
        #[derive(Debug)]
        struct ByWall(Stopped);

        impl Clock for ByWall {
            fn now(&self) -> Timestamp {
                self.0.now()
            }

            fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
                self.0.sleep_until(at)
            }

            fn monotonic_now(&self) -> Duration {
                Duration::from_millis(self.0.now().as_millisecond().unsigned_abs())
            }

            fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
                self.0.sleep(wait)
            }
        }

        let clock = ByWall(Stopped::default());
        assert!(pieces_after_a_step(3_600_000, &clock, &clock.0) > 0, "nothing notices it");
    }
}
