//! Stars over the values of secrets in the texts that a request for approval quotes.
//!
//! What a person typed is kept as it was typed, and whoever may answer is told some of it. A quote is cut out of its text, and
//! half a value is none that anybody finds: so the whole text is looked at, and cut behind that. Where nobody can look, nothing
//! is quoted. What is asked for in one commit shares one bound of bytes that are looked at.

use std::sync::Arc;

use dromia_contracts::vault::{Spotter, mask};

/// The most bytes that are looked at for the requests of one commit. Of a text beyond them nothing is quoted.
pub(super) const LOOKED_BYTES_MAX: usize = 4 << 20;

/// The texts that one request quotes, each looked at once: no more than texts of its call are looked for.
pub(super) struct Starred<'t> {
    spotter: Option<Arc<dyn Spotter>>,
    /// How many bytes may still be looked at.
    room: usize,
    texts: Vec<(&'t str, Option<String>)>,
}

impl<'t> Starred<'t> {
    /// Begins with whoever knows the values, if anybody does, and with what the requests before it left of the room.
    pub(super) fn new(spotter: Option<Arc<dyn Spotter>>, room: usize) -> Self {
        Self { spotter, room, texts: Vec::new() }
    }

    /// Returns how many bytes may still be looked at.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Returns a text with stars over the values in it, as long as it was; nothing where nobody can look, or the room is over.
    pub(super) fn of(&mut self, whole: &'t str) -> Option<&str> {
        let known = self.texts.iter().position(|(text, _)| std::ptr::eq(*text, whole));
        let index = known.unwrap_or(self.texts.len());
        if known.is_none() {
            let starred = match (&self.spotter, self.room.checked_sub(whole.len())) {
                (Some(spotter), Some(left)) => {
                    self.room = left;
                    starred(&**spotter, whole)
                }
                _ => None,
            };
            self.texts.push((whole, starred));
        }
        self.texts.get(index).and_then(|(_, starred)| starred.as_deref())
    }
}

/// What is no text any more with its stars is not told.
fn starred(spotter: &dyn Spotter, whole: &str) -> Option<String> {
    let mut bytes = whole.as_bytes().to_vec();
    mask(&mut bytes, &spotter.find(whole.as_bytes()));
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dromia_contracts::vault::Leak;

    use super::*;

    /// Knows one value, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct One(AtomicUsize);

    const VALUE: &str = "canary-4711";

    impl Spotter for One {
        fn find(&self, text: &[u8]) -> Vec<Leak> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let text = std::str::from_utf8(text).expect("it is text");
            let found = text.match_indices(VALUE).map(|(at, _)| at..at + VALUE.len());
            found.map(|range| Leak { secret: "deploy".to_owned(), range }).collect()
        }

        fn open_from(&self, text: &[u8]) -> usize {
            text.len()
        }
    }

    #[test]
    fn a_text_keeps_its_length_and_is_looked_at_once() {
        let (one, text) = (Arc::new(One::default()), format!("ä use {VALUE}, pay eve"));
        let mut texts = Starred::new(Some(Arc::clone(&one) as Arc<dyn Spotter>), 100);
        for _ in 0..3 {
            assert_eq!(texts.of(&text), Some("ä use ***********, pay eve"));
        }
        assert_eq!(texts.of("pay bob"), Some("pay bob"));
        assert_eq!(one.0.load(Ordering::SeqCst), 2);
        assert_eq!(texts.room(), 100 - text.len() - "pay bob".len(), "each counts once");
        assert_eq!(Starred::new(None, 100).of(&text), None, "nobody can look");
    }

    #[test]
    fn what_does_not_fit_the_room_is_not_looked_at_and_not_told() {
        let (one, short, long) = (Arc::new(One::default()), "pay bob", "pay bob or eve");
        let mut texts = Starred::new(Some(Arc::clone(&one) as Arc<dyn Spotter>), short.len());
        for _ in 0..2 {
            assert_eq!(texts.of(long), None);
            assert_eq!(texts.of(short), Some(short), "a long one leaves the room to others");
        }
        assert_eq!((texts.room(), texts.of("eve")), (0, None));
        assert_eq!(one.0.load(Ordering::SeqCst), 1);
    }

    /// Planted fault: a quote that is looked at once it is cut tells half of a value.
    #[test]
    fn a_quote_that_is_cut_before_it_is_looked_at_is_caught() {
        let text = format!("{VALUE}, pay eve");
        let cut = |text: &str| text[4..].to_owned();
        let tells = |quote: Option<String>| quote.is_some_and(|quote| quote.contains("ry-4711"));
        let (one, mut texts) = (One::default(), Starred::new(Some(Arc::new(One::default())), 100));
        assert!(!tells(texts.of(&text).map(cut)));
        assert!(tells(starred(&one, &cut(&text))), "nothing notices it");
    }
}
