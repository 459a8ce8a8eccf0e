//! Live text on its way to watchers, held back where it may be the beginning of a secret's value.
//!
//! What has arrived is told as soon as nothing in it can become a value any more, with stars over the values; so a value
//! that is split over many pieces is never told. Stars keep the length, so whoever counts bytes counts on. At most
//! [`HELD_BYTES_MAX`] are held; beyond them what is held is stars, which is more than is needed and never less.
//!
//! A look reads all that is held, and may open what is packed in it. So the more is held, the more must come before the next
//! look ([`LOOK_SHARE`]): whoever writes a text in pieces of one byte makes no more than some hundred of them.

use std::sync::Arc;

use dromia_contracts::vault::{Spotter, mask};

/// The most bytes that are held back: more than the longest value has in the longest of its forms.
const HELD_BYTES_MAX: usize = 16 << 10;

/// What is held is looked at with each piece up to so many bytes, in which a value is whole as a rule.
const LOOK_BYTES: usize = 256;

/// Beyond them it is looked at again when at least this part of the rest has come.
const LOOK_SHARE: usize = 16;

/// Text that is on its way.
#[derive(Debug)]
pub(crate) struct Held {
    spotter: Arc<dyn Spotter>,
    text: String,
    /// How much of it was looked at, and held.
    looked: usize,
}

impl Held {
    /// Begins with nothing.
    pub(crate) fn new(spotter: Arc<dyn Spotter>) -> Self {
        Self { spotter, text: String::new(), looked: 0 }
    }

    /// Takes the next piece; returns what may be told now.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        self.text.push_str(piece);
        let new = self.text.len().saturating_sub(self.looked);
        let wanted = self.looked.saturating_sub(LOOK_BYTES) / LOOK_SHARE;
        if new < wanted && self.text.len() <= HELD_BYTES_MAX {
            return String::new();
        }
        let leaks = self.spotter.find(self.text.as_bytes());
        let mut until = self.text.floor_char_boundary(self.spotter.open_from(self.text.as_bytes()));
        for leak in &leaks {
            // What is found may be the beginning of more: it is told as a whole or not yet.
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
        self.text = text(rest);
        self.looked = self.text.len();
        mask(&mut bytes, &leaks);
        text(bytes)
    }

    /// Ends; returns what is left to be told.
    pub(crate) fn end(&mut self) -> String {
        self.looked = 0;
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        let leaks = self.spotter.find(&bytes);
        mask(&mut bytes, &leaks);
        text(bytes)
    }
}

/// What was text and has stars over whole characters is text still; if it were not, nothing of it is told.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|bytes| "*".repeat(bytes.as_bytes().len()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dromia_contracts::vault::Leak;

    use super::*;

    /// Knows two values, of which one begins as the other ends.
    #[derive(Debug)]
    struct Two;

    const VALUES: [&str; 2] = ["canary-one", "one-and-two"];

    impl Spotter for Two {
        fn find(&self, text: &[u8]) -> Vec<Leak> {
            let text = std::str::from_utf8(text).expect("it is text");
            let mut found: Vec<Leak> = Vec::new();
            for value in VALUES {
                let leaks = text.match_indices(value).map(|(at, _)| at..at + value.len());
                found.extend(leaks.map(|range| Leak { secret: value.to_owned(), range }));
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
        let mut held = Held::new(Arc::new(Two));
        let mut told: String = pieces.iter().map(|piece| held.push(piece)).collect();
        told.push_str(&held.end());
        told
    }

    #[test]
    fn a_value_is_never_told_however_it_is_split() {
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
    fn what_cannot_be_a_value_any_more_is_told_at_once() {
        let mut held = Held::new(Arc::new(Two));
        assert_eq!(held.push("a can"), "a ");
        assert_eq!(held.push("ary"), "");
        assert_eq!(held.push(" sings"), "canary sings");
        assert_eq!(held.push(" canary-on"), " ");
        assert_eq!(held.end(), "canary-on");
    }

    /// Never knows, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Unsure(AtomicUsize);

    impl Spotter for Unsure {
        fn find(&self, _: &[u8]) -> Vec<Leak> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        }

        fn open_from(&self, _: &[u8]) -> usize {
            0
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_then_stars() {
        let mut held = Held::new(Arc::new(Unsure::default()));
        assert_eq!(held.push(&"x".repeat(HELD_BYTES_MAX)), "");
        assert_eq!(held.push("ä"), "*".repeat(HELD_BYTES_MAX + 2));
        assert_eq!(held.end(), "");
    }

    #[test]
    fn a_text_in_small_pieces_is_looked_at_some_times_and_not_with_each_of_them() {
        let unsure = Arc::new(Unsure::default());
        let mut held = Held::new(Arc::clone(&unsure) as Arc<dyn Spotter>);
        for _ in 0..HELD_BYTES_MAX {
            assert_eq!(held.push("x"), "");
        }
        let looks = unsure.0.load(Ordering::Relaxed);
        assert!(looks < 500, "{looks} looks at {HELD_BYTES_MAX} pieces");
        assert_eq!(held.end().len(), HELD_BYTES_MAX, "all of it is told in the end");
    }
}
