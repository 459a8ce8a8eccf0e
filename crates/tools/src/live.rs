//! What a program says while it runs, handed to whoever looks on.
//!
//! Invariant: the program never waits for anybody here, and what is handed on is bounded: pieces of at most
//! [`LIVE_PIECE_BYTES_MAX`] bytes, [`BYTES_PER_SECOND`] a second, 256 pieces a second. What comes faster waits in the
//! room of one piece, and of that the oldest is left out, which shows in the offsets. The result of the call tells all.
//!
//! Text is cut between characters; what is no UTF-8 is replaced.

use dromia_contracts::runtime::Clock;
use dromia_contracts::tool::{LIVE_PIECE_BYTES_MAX, Pieces};
use jiff::{SignedDuration, Timestamp};

/// The most bytes of one call that are handed on in a second; so many may come at once.
const BYTES_PER_SECOND: usize = 64 << 10;

/// What a piece counts at least, so that small pieces are bounded too.
const PIECE_COST_MIN: usize = 256;

/// How long one byte of replaced text may be.
const REPLACED_BYTES: usize = '\u{fffd}'.len_utf8();

/// The voice of one call.
pub(crate) struct Voice<'a> {
    pieces: &'a dyn Pieces,
    clock: &'a dyn Clock,
    /// What was not handed on yet.
    waiting: Vec<u8>,
    /// Where in the output it begins.
    offset: u64,
    /// How many bytes may go out now, and since when that is so.
    room: usize,
    at: Timestamp,
}

impl<'a> Voice<'a> {
    pub(crate) fn new(pieces: &'a dyn Pieces, clock: &'a dyn Clock) -> Self {
        Self { pieces, clock, waiting: Vec::new(), offset: 0, room: BYTES_PER_SECOND, at: clock.now() }
    }

    /// Takes what was written.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(LIVE_PIECE_BYTES_MAX) {
            self.waiting.extend_from_slice(piece);
            self.speak();
            self.leave_out(self.waiting.len().saturating_sub(LIVE_PIECE_BYTES_MAX));
        }
    }

    /// Hands on what may go out now.
    pub(crate) fn speak(&mut self) {
        let now = self.clock.now();
        let passed = usize::try_from(now.as_millisecond() - self.at.as_millisecond()).unwrap_or(0);
        self.room =
            self.room.saturating_add(passed.saturating_mul(BYTES_PER_SECOND / 1000)).min(BYTES_PER_SECOND);
        self.at = now;
        while let Some(length) = self.next() {
            let cost = length.max(PIECE_COST_MIN);
            if cost > self.room {
                return;
            }
            self.room -= cost;
            self.hand_on(length);
        }
    }

    /// Returns when what waits may go out; nothing if nothing waits.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let short = self.next()?.max(PIECE_COST_MIN).saturating_sub(self.room);
        let wait = i64::try_from(short.div_ceil(BYTES_PER_SECOND / 1000)).unwrap_or(i64::MAX);
        self.at.checked_add(SignedDuration::from_millis(wait)).ok()
    }

    /// Hands on what is left, the last of it, however much went out before.
    pub(crate) fn end(&mut self) {
        self.speak();
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
        self.pieces.push(self.offset, length as u64, &text);
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

/// Waits for a moment, for ever if there is none.
pub(crate) async fn until(clock: &dyn Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use dromia_contracts::BoxFuture;

    use super::*;

    #[derive(Debug, Default)]
    struct Stopped(AtomicI64);

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).expect("a time")
        }

        fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<(u64, u64, String)>>);

    impl Pieces for Kept {
        fn push(&self, offset: u64, bytes: u64, text: &str) {
            self.0.lock().expect("nobody panicked").push((offset, bytes, text.to_owned()));
        }
    }

    impl Kept {
        fn take(&self) -> Vec<(u64, u64, String)> {
            std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
        }
    }

    #[test]
    fn text_is_cut_between_characters_and_the_end_is_said_as_it_is() {
        let (clock, kept) = (Stopped::default(), Kept::default());
        let mut voice = Voice::new(&kept, &clock);
        for bytes in [&b"a\xc3"[..], b"\xa9\xf0\x9f", b"\x98\x80b\xff", b"\xe2\x82"] {
            voice.hear(bytes);
        }
        voice.end();
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
    fn a_flood_is_bounded_in_bytes_and_pieces_and_says_what_is_left_out() {
        for (flood, piece) in
            [(vec![b'x'; 1 << 20], 1 << 20), (vec![b'y'; 10_000], 1), (vec![0xff; 1 << 20], 999)]
        {
            let (clock, kept) = (Stopped::default(), Kept::default());
            let mut voice = Voice::new(&kept, &clock);
            flood.chunks(piece).for_each(|bytes| voice.hear(bytes));
            let first = kept.take();
            let bytes: u64 = first.iter().map(|(_, bytes, _)| bytes).sum();
            assert!(bytes <= BYTES_PER_SECOND as u64 && first.len() <= BYTES_PER_SECOND / PIECE_COST_MIN);
            assert!(!first.is_empty() && first.iter().all(|(_, _, text)| text.len() <= LIVE_PIECE_BYTES_MAX));
            let due = voice.due().expect("something waits");
            clock.0.store(due.as_millisecond(), Ordering::SeqCst);
            voice.speak();
            let mut later = kept.take();
            assert!(!later.is_empty(), "it goes on when it is due");
            voice.end();
            later.extend(kept.take());
            let (offset, bytes, _) = later.pop().expect("something was said");
            assert_eq!(offset + bytes, flood.len() as u64, "the end is said");
            assert_eq!(voice.due(), None);
        }
    }
}
