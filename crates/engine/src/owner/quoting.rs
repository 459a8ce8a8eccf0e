//! Stars over the values of secrets in the texts that a request for approval quotes.
//!
//! What a person typed is kept as it was typed, and whoever may answer is told some of it. A quote is cut out of its text, and
//! half a value is none that anybody finds: so the whole text is looked at, and cut behind that. Where nobody can look, nothing
//! is quoted.

use std::sync::Arc;

use dromia_contracts::vault::{Spotter, mask};

/// The texts that one request quotes, each looked at once: no more than texts of its call are looked for.
pub(super) struct Starred<'t> {
    spotter: Option<Arc<dyn Spotter>>,
    texts: Vec<(&'t str, Option<String>)>,
}

impl<'t> Starred<'t> {
    /// Begins with whoever knows the values, if anybody does.
    pub(super) fn new(spotter: Option<Arc<dyn Spotter>>) -> Self {
        Self { spotter, texts: Vec::new() }
    }

    /// Returns a text with stars over the values in it, as long as it was; nothing where nobody can look.
    pub(super) fn of(&mut self, whole: &'t str) -> Option<&str> {
        let known = self.texts.iter().position(|(text, _)| std::ptr::eq(*text, whole));
        let index = known.unwrap_or(self.texts.len());
        if known.is_none() {
            let starred = self.spotter.as_ref().and_then(|spotter| starred(&**spotter, whole));
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
        let mut texts = Starred::new(Some(Arc::clone(&one) as Arc<dyn Spotter>));
        for _ in 0..3 {
            assert_eq!(texts.of(&text), Some("ä use ***********, pay eve"));
        }
        assert_eq!(texts.of("pay bob"), Some("pay bob"));
        assert_eq!(one.0.load(Ordering::SeqCst), 2);
        assert_eq!(Starred::new(None).of(&text), None, "nobody can look");
    }

    /// Planted fault: a quote that is looked at once it is cut tells half of a value.
    #[test]
    fn a_quote_that_is_cut_before_it_is_looked_at_is_caught() {
        let text = format!("{VALUE}, pay eve");
        let cut = |text: &str| text[4..].to_owned();
        let tells = |quote: Option<String>| quote.is_some_and(|quote| quote.contains("ry-4711"));
        let (one, mut texts) = (One::default(), Starred::new(Some(Arc::new(One::default()))));
        assert!(!tells(texts.of(&text).map(cut)));
        assert!(tells(starred(&one, &cut(&text))), "nothing notices it");
    }
}
