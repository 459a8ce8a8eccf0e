//! Redaction of live text for watchers: text that may be the beginning of a secret's value is buffered.
//!
//! The buffer releases text as soon as nothing in it can become a value any more, with stars over the values; so a
//! value that is split over many pieces is never released. Stars keep the length, so byte offsets stay right. The
//! buffer holds at most [`HELD_BYTES_MAX`]; beyond them all of it becomes stars, which hides more than is needed and
//! never less.
//!
//! A scan reads the whole buffer, and may decompress what is packed in it. So the fuller the buffer, the more must come
//! before the next scan ([`LOOK_SHARE`]): a text in pieces of one byte causes no more than some hundred scans. Each is
//! a quick one, because the run waits for it; if it gives no answer, the whole buffer becomes stars.

use std::sync::Arc;

use dromia_contracts::vault::{SecretScanner, mask_secrets};

/// The most bytes that are buffered: more than the longest value has in its longest encoding.
const HELD_BYTES_MAX: usize = 16 << 10;

/// Up to this many bytes the buffer is scanned with each piece; a value usually fits in them.
const LOOK_BYTES: usize = 256;

/// Beyond them it is scanned again when at least this part of the rest has come.
const LOOK_SHARE: usize = 16;

/// The longest piece that is taken at once; a longer one is taken in parts.
const PIECE_BYTES_MAX: usize = 8 << 10;

/// Text that is on its way.
#[derive(Debug)]
pub(crate) struct RedactionBuffer {
    spotter: Arc<dyn SecretScanner>,
    text: String,
    /// How many bytes of it were scanned and stay buffered.
    looked: usize,
    /// Whether unscanned text before it was dropped.
    is_cut: bool,
}

impl RedactionBuffer {
    /// Begins with nothing.
    pub(crate) fn new(spotter: Arc<dyn SecretScanner>) -> Self {
        Self { spotter, text: String::new(), looked: 0, is_cut: false }
    }

    /// Takes the next piece while there is no watcher; returns how many bytes it drops. It is not scanned: a scan takes
    /// long, and no watcher needs its result.
    pub(crate) fn push_unwatched(&mut self, piece: &str) -> usize {
        self.text.push_str(piece);
        if self.text.len() <= 2 * HELD_BYTES_MAX {
            return 0;
        }
        let gone = self.text.ceil_char_boundary(self.text.len() - HELD_BYTES_MAX);
        self.text.drain(..gone);
        (self.looked, self.is_cut) = (0, true);
        gone
    }

    /// Takes the next piece; returns the text that may be sent now.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let (mut rest, mut told) = (piece, self.redact_after_cut());
        loop {
            let (part, behind) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES_MAX));
            told.push_str(&self.push_part(part));
            if behind.is_empty() {
                return told;
            }
            rest = behind;
        }
    }

    fn push_part(&mut self, part: &str) -> String {
        self.text.push_str(part);
        let new = self.text.len().saturating_sub(self.looked);
        let wanted = self.looked.saturating_sub(LOOK_BYTES) / LOOK_SHARE;
        if new < wanted && self.text.len() <= HELD_BYTES_MAX {
            return String::new();
        }
        let Some(leaks) = self.spotter.find_quickly(self.text.as_bytes()) else { return self.redact_all() };
        let mut until = self.text.floor_char_boundary(self.spotter.open_from(self.text.as_bytes()));
        for leak in &leaks {
            // A found value may be the beginning of a longer one: it is released as a whole or not yet.
            if leak.range.start < until && until < leak.range.end {
                until = leak.range.start;
            }
        }
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        if bytes.len() - until > HELD_BYTES_MAX {
            bytes[until..].fill(b'*');
            until = bytes.len();
        }
        // Values that are held still are found again with what comes.
        let rest = bytes.split_off(until);
        self.text = text_or_stars(rest);
        self.looked = self.text.len();
        mask_secrets(&mut bytes, &leaks);
        text_or_stars(bytes)
    }

    /// Text after an unscanned part may be the rest of a value, so it becomes stars, up to where another value may
    /// begin.
    fn redact_after_cut(&mut self) -> String {
        if !std::mem::take(&mut self.is_cut) {
            return String::new();
        }
        let until = self.text.floor_char_boundary(self.spotter.open_from(self.text.as_bytes()));
        self.text.drain(..until);
        "*".repeat(until)
    }

    /// Takes all that is held as stars.
    fn redact_all(&mut self) -> String {
        self.looked = 0;
        "*".repeat(std::mem::take(&mut self.text).len())
    }

    /// Ends; returns the rest of the text, redacted.
    pub(crate) fn flush_redacted(&mut self) -> String {
        let Some(leaks) = self.spotter.find_quickly(self.text.as_bytes()) else { return self.redact_all() };
        self.looked = 0;
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        mask_secrets(&mut bytes, &leaks);
        text_or_stars(bytes)
    }
}

/// Converts redacted bytes to text. Stars over whole characters keep it valid UTF-8; otherwise all of it becomes stars.
fn text_or_stars(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|bytes| "*".repeat(bytes.as_bytes().len()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dromia_contracts::vault::SecretMatch;

    use super::*;

    /// Knows two values, of which one begins as the other ends.
    #[derive(Debug)]
    struct Two;

    const VALUES: [&str; 2] = ["canary-one", "one-and-two"];

    impl SecretScanner for Two {
        fn find_secrets(&self, text: &[u8]) -> Vec<SecretMatch> {
            let text = std::str::from_utf8(text).expect("it is text");
            let mut found: Vec<SecretMatch> = Vec::new();
            for value in VALUES {
                let leaks = text.match_indices(value).map(|(at, _)| at..at + value.len());
                found.extend(leaks.map(|range| SecretMatch { secret: value.to_owned(), range }));
            }
            found.sort_by_key(|leak| leak.range.start);
            found
        }

        fn open_from(&self, text: &[u8]) -> usize {
            let is_open = |at: &usize| VALUES.iter().any(|value| value.as_bytes().starts_with(&text[*at..]));
            (0..text.len()).find(is_open).unwrap_or(text.len())
        }
    }

    fn told(pieces: &[&str]) -> String {
        let mut held = RedactionBuffer::new(Arc::new(Two));
        let mut told: String = pieces.iter().map(|piece| held.push(piece)).collect();
        told.push_str(&held.flush_redacted());
        told
    }

    #[test]
    fn a_secret_is_redacted_however_its_text_is_split() {
        let text = "ä canary-one and can, canary-one-and-two; onto one";
        let shown = "ä ********** and can, ******************; onto one";
        for size in 1..text.len() {
            let mut pieces: Vec<String> = Vec::new();
            for character in text.chars() {
                match pieces.last_mut() {
                    Some(piece) if piece.len() < size => piece.push(character),
                    _ => pieces.push(character.to_string()),
                }
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(told(&pieces), shown, "pieces of {size}");
        }
    }

    #[test]
    fn text_that_cannot_become_a_secret_is_released_at_once() {
        let mut held = RedactionBuffer::new(Arc::new(Two));
        assert_eq!(held.push("a can"), "a ");
        assert_eq!(held.push("ary"), "");
        assert_eq!(held.push(" sings"), "canary sings");
        assert_eq!(held.push(" canary-on"), " ");
        assert_eq!(held.flush_redacted(), "canary-on");
    }

    /// Never knows, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Unsure(AtomicUsize);

    impl SecretScanner for Unsure {
        fn find_secrets(&self, _: &[u8]) -> Vec<SecretMatch> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        }

        fn open_from(&self, _: &[u8]) -> usize {
            0
        }
    }

    #[test]
    fn held_live_text_is_bounded_and_then_masked() {
        let mut held = RedactionBuffer::new(Arc::new(Unsure::default()));
        assert_eq!(held.push(&"x".repeat(HELD_BYTES_MAX)), "");
        assert_eq!(held.push("ä"), "*".repeat(HELD_BYTES_MAX + 2));
        assert_eq!(held.flush_redacted(), "");
    }

    #[test]
    fn text_in_small_pieces_is_scanned_only_some_times() {
        let unsure = Arc::new(Unsure::default());
        let mut held = RedactionBuffer::new(Arc::clone(&unsure) as Arc<dyn SecretScanner>);
        for _ in 0..HELD_BYTES_MAX {
            assert_eq!(held.push("x"), "");
        }
        let looks = unsure.0.load(Ordering::Relaxed);
        assert!(looks < 500, "{looks} looks at {HELD_BYTES_MAX} pieces");
        assert_eq!(held.flush_redacted().len(), HELD_BYTES_MAX, "all of it is told in the end");
    }

    /// Tells quickly what there is in short texts only.
    #[derive(Debug)]
    struct Slow;

    impl SecretScanner for Slow {
        fn find_secrets(&self, _: &[u8]) -> Vec<SecretMatch> {
            unreachable!("the run would wait for it")
        }

        fn find_quickly(&self, text: &[u8]) -> Option<Vec<SecretMatch>> {
            (text.len() < 100).then(Vec::new)
        }

        fn open_from(&self, _: &[u8]) -> usize {
            0
        }
    }

    #[test]
    fn all_held_text_is_masked_when_the_scanner_is_unsure() {
        let mut held = RedactionBuffer::new(Arc::new(Slow));
        assert_eq!(held.push(&"x".repeat(99)), "");
        assert_eq!(held.push("xä"), "*".repeat(102));
        assert_eq!((held.push("yes"), held.flush_redacted()), (String::new(), "yes".to_owned()));
        assert_eq!(held.push(&"x".repeat(3 * PIECE_BYTES_MAX)), "*".repeat(3 * PIECE_BYTES_MAX));
    }

    #[test]
    fn unwatched_text_is_not_scanned_and_no_secret_leaks_later() {
        let unsure = Arc::new(Unsure::default());
        let mut held = RedactionBuffer::new(Arc::clone(&unsure) as Arc<dyn SecretScanner>);
        let gone: usize = (0..8 * HELD_BYTES_MAX).map(|_| held.push_unwatched("x")).sum();
        assert_eq!(unsure.0.load(Ordering::Relaxed), 0);
        assert!((6 * HELD_BYTES_MAX..8 * HELD_BYTES_MAX).contains(&gone), "{gone}");
        let mut held = RedactionBuffer::new(Arc::new(Two));
        let (text, canary) = (" ".repeat(3 * HELD_BYTES_MAX), "canary-one");
        assert!(held.push_unwatched(&format!("{text}{}", &canary[..6])) > 0);
        let told = held.push(&format!("{} sings", &canary[6..]));
        assert!(told.ends_with("********** sings"), "{}", &told[told.len() - 20..]);
    }
}
